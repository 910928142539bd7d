"""What the command line says at the end: a run or a plan in a few aligned lines."""

import math
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privet.components.shared import files, layout
from privet.components.shared.guarantee import RELATIONS, rounded_up
from privet.pipeline.config import PipelineConfig
from privet.pipeline.workdir import FRONTIER_PAGE, Workdir


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
    ledger = files.read_json(str(workdir.root / summary["artifacts"]["ledger"] / layout.LEDGER))
    lines = [
        ("", ""),
        ("privacy", privacy_text(head["epsilon"], head["delta"], head["relation"])),
        *_ended_early(ledger),
        (
            str(head["metric"]),
            f"{head['float']:.4f} float, {head['compressed']:.4f} compressed "
            f"({head['eval_clients']} held-out clients)",
        ),
        (
            "size",
            f"{head['bytes_compressed_gzip']:,} bytes compressed ({head['variant']}), "
            f"{head['bytes_float_gzip']:,} float (gzipped TFLite)",
        ),
        ("report", shown_path(workdir.report)),
    ]
    if pushed:
        path = workdir.root / pushed
        lines += [
            ("pushed", shown_path(path)),
            ("serve", serve_command(config.served_name, path.parent)),
        ]
    else:
        lines.append(("rejected", f"nothing was pushed: {_refusals(summary, workdir)}"))
    lines.append(("total", f"{seconds:.1f} s"))
    return _aligned(lines)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """A plan, as `make_plan` gives it."""
    lines = [
        ("privacy", privacy_text(plan["epsilon"], plan["delta"], plan["neighbouring_relation"])),
        ("clients", f"{plan['train_clients']} train; {plan['expected_cohort']:g} expected a round"),
        ("rounds", f"{plan['rounds']} x {plan['local_epochs']} local epochs"),
        ("traffic", _traffic_text(plan)),
    ]
    if plan["noise_multiplier"] is not None:
        noise = f"multiplier {plan['noise_multiplier']:g} x clip norm {plan['clip_norm']:g}"
        lines.insert(1, ("noise", noise))
    if plan["statistics"] is not None:
        spent = "epsilon {epsilon:.4g} at delta {delta:g}".format(**plan["statistics"])
        lines.insert(1, ("statistics", f"noised by ingestion: {spent}, train and held-out clients"))
    if (budget := plan["population_budget"]) is not None:
        room = "" if budget["epsilon_with_run"] <= budget["epsilon"] else ": IT WOULD NOT START"
        lines.append(
            (
                "population",
                f"epsilon {rounded_up(budget['epsilon_spent'])} spent by {budget['runs']} runs on "
                f"these clients, {rounded_up(budget['epsilon_with_run'])} with this one, "
                f"{budget['epsilon']:g} allowed at delta {budget['delta']:g}{room}",
            )
        )
    shown = _aligned(lines)
    if plan["assumptions"]:
        shown += ["", *_assumption_lines(plan["assumptions"])]
    if "suggestions" in plan:
        shown += ["", *_suggestion_lines(plan["suggestions"], plan["bytes_down_total"] is not None)]
    if "together" in plan:
        shown += ["", *together_lines(plan["together"])]
    return shown


def together_lines(together: Mapping[str, Any]) -> list[str]:
    """Several runs over the same clients, as `ledgers.compose` gives them."""
    lines = [
        (
            "together",
            privacy_text(together["epsilon"], together["delta"], together["neighbouring_relation"]),
        ),
        *(
            ("", f"{rounded_up(run['epsilon'])} at delta {run['delta']:g}: {run['source']}")
            for run in together["runs"]
        ),
        ("", "and no run whose ledger was not given"),
    ]
    return _aligned(lines)


def sweep_lines(sweep: Mapping[str, Any], root: Path) -> list[str]:
    """The points of a sweep as a table, what they spent together, the frontier, and what failed.

    Args:
      sweep: the content of sweep.json.
      root: the sweep's work directory.
    """
    points = sweep["points"]
    metric = next((point["headline"]["metric"] for point in points if _measured(point)), "metric")
    head = ("point", "status", "epsilon", str(metric), "served", "weights", "bytes")
    cells = [head, *(_sweep_row(point) for point in points)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  "
        + "  ".join(
            f"{cell:<{width}}" if place < 2 else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    beside = [
        f"{point['name']} is the small dense model beside {', '.join(point['dense_small_of'])}"
        for point in points
        if point["dense_small"]
    ]
    privacy = sweep["privacy"]
    runs = privacy["runs"]
    if together := privacy["together"]:
        total = privacy_text(
            together["epsilon"], together["delta"], together["neighbouring_relation"]
        )
    else:
        total = f"no total: {privacy['no_total']}"
        if private := privacy["together_private"]:
            spent = privacy_text(
                private["epsilon"], private["delta"], private["neighbouring_relation"]
            )
            total = (
                f"{total.rstrip('.')}; the {privacy['private_runs']} that have a guarantee: {spent}"
            )
    failed = [f"{point['name']}: {point['error']}" for point in points if point["error"]]
    rows = sweep["frontier"]["configurations"]
    beaten = sum(row["frontier"] is False for row in rows)
    return [
        "",
        *lines,
        "  weights: not zero, of the trained model; bytes: of the served TFLite file, gzipped",
        *(f"  {line}" for line in beside),
        "",
        *_aligned(
            [
                ("runs", f"{runs} training{'' if runs == 1 else 's'} on the same clients"),
                ("together", total),
                ("", privacy["note"]),
                (
                    "frontier",
                    f"{len(rows) - beaten} of {len(rows)} configurations; {beaten} dominated",
                ),
                ("page", shown_path(root / FRONTIER_PAGE)),
                *(("failed", line) for line in failed),
            ]
        ),
    ]


def _measured(point: Mapping[str, Any]) -> bool:
    return bool(point["headline"] and point["headline"]["metric"])


def _sweep_row(point: Mapping[str, Any]) -> tuple[str, ...]:
    head = point["headline"] or {}
    epsilon, size = head.get("epsilon"), head.get("bytes_compressed_gzip")
    qualities = (head.get("float"), head.get("compressed"))
    return (
        point["name"],
        point["status"],
        "-" if epsilon is None else rounded_up(epsilon),
        *("-" if value is None else f"{value:.4f}" for value in qualities),
        f"{point['weights']['nonzero']:,}",
        "-" if size is None else f"{size:,}",
    )


def privacy_text(epsilon: float | None, delta: float | None, relation: str | None) -> str:
    """A guarantee in words; relation as in the ledger."""
    if epsilon is None:
        return "NOT PRIVATE: train.privacy.mechanism is none"
    assert relation is not None
    return f"epsilon {rounded_up(epsilon)} at delta {delta:g}, {RELATIONS[relation]}"


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


def typed(path: Path) -> str:
    """The same, quoted where a shell needs it."""
    return shlex.quote(shown_path(path))


def serve_command(model_name: str, versions: Path) -> str:
    """What serves the newest version of a model.

    Args:
      model_name: to serve it by.
      versions: the folder of its versions.
    """
    return f"{program()} serve --model_name={model_name} --model_base_path={typed(versions)}"


def _ended_early(ledger: Mapping[str, Any]) -> list[tuple[str, str]]:
    if ledger["rounds"] == ledger["rounds_planned"]:
        return []
    lost = ledger.get("rounds_counted", ledger["rounds"]) - ledger["rounds"]
    also = f", with {lost} that a kill cut short" if lost else ""
    reason = {
        "budget": f"the budget allows no further one{also}",
        "early_stop": "the metric no longer improved",
    }[ledger["ended_by"]]
    return [("rounds", f"{ledger['rounds']} of {ledger['rounds_planned']}: {reason}")]


def _traffic_text(plan: Mapping[str, Any]) -> str:
    taken = f"{plan['client_rounds']:,.10g} client-rounds in all"
    if plan["bytes_down_total"] is None:
        return f"{taken} (bytes: --traffic)"
    return (
        f"{taken}: {plan['bytes_down_total']:,} bytes down, {plan['bytes_up_total']:,} up "
        f"({plan['bytes_down_per_client_round']:,} and "
        f"{plan['bytes_up_per_client_round']:,} per client and round)"
    )


def _assumption_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The claim, and the same noise under other assumptions."""
    lines = ["  epsilon by what is assumed of sampling (the first is claimed):"]
    for row in rows:
        notes = ["" if row["earned"] else "NOT EARNED", row["note"] or ""]
        relation = row["relation"].replace("_", " ")
        lines.append(
            f"  {math.ceil(row['epsilon'] * 1000) / 1000:>9.3f}  {row['sampling']:<11} "
            f"{row['accountant']:<4} {relation:<25} {': '.join(filter(None, notes))}".rstrip()
        )
    return lines


def _suggestion_lines(rows: Sequence[Mapping[str, Any]], counted: bool) -> list[str]:
    """The rows as a table, and what they do not say."""
    norm = "  norm a step" if counted else ""
    lines = [
        "  to reach that epsilon: noise on the mean update, in each weight, least first",
        f"  {'rounds':>6} {'sampling':<12} {'cohort':>7} {'multiplier':>10} {'a step':>10} "
        f"{'summed':>10} {'averaged':>10}{norm}",
    ]
    for row in rows:
        cohort = "all" if row["cohort_size"] is None else f"{row['cohort_size']}"
        norm = f" {row['norm_per_step']:>12.3g}" if counted else ""
        least = "  least summed" if row["least_noise_of_sum"] else ""
        lines.append(
            f"  {row['rounds']:>6} {row['sampling']:<12} {cohort:>7} "
            f"{row['noise_multiplier']:>10g} {row['noise_per_step']:>10.3g} "
            f"{row['noise_of_sum']:>10.3g} {row['noise_of_mean']:>10.3g}{norm}{least}"
        )
    return [
        *lines,
        "  Noise is a proxy, not accuracy: fewer rounds have less of it, and learn less.",
        "  Take the first row with as many rounds as the model needs. Multipliers are by PLD.",
    ]


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
