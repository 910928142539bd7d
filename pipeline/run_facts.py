"""The report of a run: what its artifacts hold, and what ML Metadata tells of how they came."""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from privet.components.report.facts import read_facts
from privet.components.report.page import RunFacts, render
from privet.components.report.worst_clients import find_worst_clients
from privet.components.shared import files, layout
from privet.pipeline import config_file, outcome
from privet.pipeline.lineage import read_lineage
from privet.pipeline.summary import program, serve_command, typed
from privet.pipeline.workdir import Workdir


def write_report(workdir: Workdir, summary: Mapping[str, Any]) -> None:
    """Writes report.html of the last run, whole or not at all.

    Args:
      workdir: of the run.
      summary: the content of run.json.
    """
    files.write_bytes(str(workdir.report), render(gather_facts(workdir, summary)).encode())


def gather_facts(workdir: Workdir, summary: Mapping[str, Any]) -> RunFacts:
    """All that is known of the last run; of one that failed, what its finished steps found.

    Args:
      workdir: of the run.
      summary: the content of run.json; of an earlier version's, the run's own facts are left out.
    """
    folders = {name: str(workdir.root / path) for name, path in summary["artifacts"].items()}
    facts = read_facts(summary["name"], summary["model_name"], folders)
    if "started" not in summary:
        return facts
    config = config_file.read_text(workdir.config)
    worst = None
    if facts.evaluation and facts.selection and config:
        values = config_file.read_values(config, workdir.config)
        hashed = values["data"]["client_ids"] == "hashed"
        key = None if hashed else _report_key(workdir)
        variant = facts.selection["variant"]
        worst = find_worst_clients(folders["evaluation"], facts.evaluation, variant, key)
    return dataclasses.replace(
        facts, run=describe_run(workdir, summary, config), worst_clients=worst
    )


def describe_run(
    workdir: Workdir, summary: Mapping[str, Any], config: str | None
) -> dict[str, Any]:
    """What ran, out of ML Metadata, and how to run it again.

    Args:
      workdir: of the run.
      summary: the content of run.json.
      config: the content of config.yaml.

    Returns:
      `started`, `status` and `error` as in run.json; `nodes` in the order in which they run, each
      with its `inputs` (the nodes that it takes from); `lineage` of the pushed model, empty
      without one; `config`; `versions`; `commands`: name -> what to type.
    """
    nodes = outcome.read_nodes(workdir, summary["started"])
    graph = summary["graph"]
    names = sorted(nodes, key=list(graph).index) if nodes.keys() <= graph.keys() else list(nodes)
    lineage = []
    if summary["pushed"]:
        lineage = read_lineage(workdir, str(workdir.root / summary["artifacts"]["pushed"]))
    return {
        "started": summary["started"],
        "status": summary["status"],
        "error": summary["error"],
        "nodes": [
            {
                "name": name,
                "state": nodes[name].state,
                "seconds": nodes[name].seconds,
                "cached": nodes[name].cached,
                "inputs": graph.get(name, []),
            }
            for name in names
        ],
        "lineage": lineage,
        "config": config,
        "versions": summary["versions"],
        "commands": commands(workdir, summary),
    }


def commands(workdir: Workdir, summary: Mapping[str, Any]) -> dict[str, str]:
    """How to run the same again, serve what was pushed, and look closer.

    Args:
      workdir: of the run.
      summary: the content of run.json.
    """
    root = typed(workdir.root)
    found = {"run": f"{program()} run {typed(workdir.config)} --workdir {root}"}
    if summary["pushed"]:
        found["serve"] = serve_command(
            summary["model_name"], (workdir.root / summary["pushed"]).parent
        )
    found["report"] = f"{program()} report {root}"
    if "history" in summary["artifacts"]:
        events = workdir.root / summary["artifacts"]["history"] / layout.TENSORBOARD
        found["tensorboard"] = f"tensorboard --logdir {typed(events)}"
    return found


def _report_key(workdir: Workdir) -> bytes:
    """The secret that exact ids are hidden with; the first report of a work directory makes it."""
    path = str(workdir.report_key)
    if not files.exists(path):
        files.write_secret(path, secrets.token_bytes(32))
    return files.read_bytes(path)
