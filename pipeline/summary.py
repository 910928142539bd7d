"""What the command line says at the end: a run or a plan in a few aligned lines."""

import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privet.components.shared import files, layout
from privet.pipeline.config import PipelineConfig
from privet.pipeline.workdir import Workdir


def run_lines(
    config: PipelineConfig, workdir: Workdir, summary: Mapping[str, Any], seconds: float
) -> list[str]:
    """The outcome of a run.

    Args:
      config: of the run.
      workdir: of the run.
      summary: the content of run.json.
      seconds: wall time of the whole command.
    """
    head = summary["headline"]
    pushed = summary["pushed"]
    lines = [
        ("", ""),
        ("privacy", privacy_text(head["epsilon"], head["delta"], head["relation"])),
        *_ended_early(summary, workdir),
        (
            str(head["metric"]),
            f"{head['float']:.4f} float, {head['compressed']:.4f} compressed "
            f"({head['eval_clients']} held-out clients)",
        ),
        (
            "size",
            f"{head['bytes_compressed_gzip']:,} bytes compressed, "
            f"{head['bytes_float_gzip']:,} float (gzipped TFLite)",
        ),
        ("report", shown_path(workdir.report)),
    ]
    if pushed:
        path = workdir.root / pushed
        lines += [
            ("pushed", shown_path(path)),
            (
                "serve",
                f"{program()} serve --model_name={config.served_name} "
                f"--model_base_path={shown_path(path.parent)}",
            ),
        ]
    else:
        lines.append(("rejected", f"nothing was pushed: {_refusals(summary, workdir)}"))
    lines.append(("total", f"{seconds:.1f} s"))
    return _aligned(lines)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """A plan, as `make_plan` gives it."""
    lines = [
        ("privacy", privacy_text(plan["epsilon"], plan["delta"])),
        ("clients", f"{plan['train_clients']} train; {plan['expected_cohort']:g} expected a round"),
        ("rounds", f"{plan['rounds']} x {plan['local_epochs']} local epochs"),
        (
            "traffic",
            f"{plan['bytes_down_total']:,} bytes down, {plan['bytes_up_total']:,} up in all "
            f"({plan['bytes_down_per_client_round']:,} and "
            f"{plan['bytes_up_per_client_round']:,} per client and round)",
        ),
    ]
    if plan["noise_multiplier"] is not None:
        noise = f"multiplier {plan['noise_multiplier']:g} x clip norm {plan['clip_norm']:g}"
        lines.insert(1, ("noise", noise))
    if plan["statistics"] is not None:
        spent = "epsilon {epsilon:.4g} at delta {delta:g}".format(**plan["statistics"])
        lines.insert(1, ("statistics", f"noised by ingestion: {spent}, train and held-out clients"))
    return _aligned(lines)


_RELATIONS = {
    "add_or_remove_one_client": "per client (add or remove one)",
    "zero_out_one_client": "per client (with its data, or without)",
    "replace_one_client": "per client (its data, or other data), towards the server too",
    "zero_out_one_example": "PER EXAMPLE, not per client (with it, or without)",
}


def privacy_text(epsilon: float | None, delta: float | None, relation: str | None) -> str:
    """A guarantee in words; relation as in the ledger."""
    if epsilon is None:
        return "NOT PRIVATE: train.privacy.mechanism is none"
    shown = math.ceil(epsilon * 1000) / 1000  # up: never less than was spent
    assert relation is not None
    return f"epsilon {shown:g} at delta {delta:g}, {_RELATIONS[relation]}"


def program() -> str:
    """This command line as one would type it here."""
    script = Path(sys.argv[0]).absolute()
    if script.suffix == ".py":  # python -m
        return f"{shown_path(Path(sys.executable))} -m privet.pipeline.cli"
    return "privet" if shutil.which("privet") == str(script) else shown_path(script)


def shown_path(path: Path) -> str:
    """A path as one would type it here: relative if it is below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _ended_early(summary: Mapping[str, Any], workdir: Workdir) -> list[tuple[str, str]]:
    ledger = files.read_json(str(workdir.root / summary["artifacts"]["ledger"] / layout.LEDGER))
    if ledger["rounds"] == ledger["rounds_planned"]:
        return []
    lost = ledger.get("rounds_counted", ledger["rounds"]) - ledger["rounds"]
    also = f", with {lost} that a kill cut short" if lost else ""
    reason = {
        "budget": f"the budget allows no further one{also}",
        "early_stop": "the metric no longer improved",
    }[ledger["ended_by"]]
    return [("rounds", f"{ledger['rounds']} of {ledger['rounds_planned']}: {reason}")]


def _refusals(summary: Mapping[str, Any], workdir: Workdir) -> str:
    from privet.components.report.facts import read_facts

    folders = {name: str(workdir.root / path) for name, path in summary["artifacts"].items()}
    facts = read_facts("", "", folders)
    rules = [
        f"{rule['metric']} {rule['kind']}={rule['limit']:g} (value "
        + (f"{rule['value']:.4g})" if rule["value"] is not None else f"none: {rule['detail']})")
        for rule in (facts.verdict or {}).get("rules", [])
        if not rule["passed"]
    ]
    checks = [
        f"{check['engine']} {check['api']}: {check['detail']}"
        for check in (facts.infra or {}).get("checks", [])
        if not check["passed"]
    ]
    return "; ".join(rules + checks)


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    return [f"  {name:<10} {text}".rstrip() for name, text in lines]
