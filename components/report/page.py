"""The run's report as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privet.components.report import drawing, views, wording
from privet.components.report.dag import rows_of
from privet.components.report.partition import MOST_LABELS, client_labels, how_divided
from privet.components.report.shell import environment
from privet.components.report.verdicts import (
    Banner,
    contradiction,
    is_private,
    privacy_banner,
    privacy_statement,
    refusals,
    rules,
)

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class RunFacts:
    """What the steps of one run have written, as parsed JSON.

    A step that has not run, or has failed, leaves None; its section then says so.
    """

    name: str  # of the run or pipeline
    model_name: str  # under which the model is served
    statistics: Facts | None = None  # ingest: clients, examples and labels per split
    rejects: Facts | None = None  # ingest: rows and clients that were refused
    ledger: Facts | None = None  # train: the privacy ledger
    history: Facts | None = None  # train: rounds, metrics and bytes exchanged
    compression: Facts | None = None  # compress: variants and their sizes
    evaluation: Facts | None = None  # evaluate: metrics overall and per client
    selection: Facts | None = None  # select: which variant is served, and why
    verdict: Facts | None = None  # validate: the quality gate's rules
    infra: Facts | None = None  # validate: what a real server answered
    pushed: Facts | None = None  # push: where the model went
    audit: Facts | None = None  # audit: what attacks on the model found
    run: Facts | None = None  # ML Metadata: nodes, lineage, configuration, versions, commands
    worst_clients: Sequence[Facts] | None = None  # evaluate: who fares worst, by hidden ids


def render(facts: RunFacts) -> str:
    """Builds report.html: one file that asks nothing of any network, in light and dark."""
    partition = (facts.statistics or {}).get("partition")
    drawn_clients = client_labels(partition)
    variants = views.variants(facts.compression, facts.selection)
    metric = (facts.evaluation or {}).get("metric") or (facts.history or {}).get("metric")
    charts = {
        **drawing.of_training(facts.ledger, facts.history),
        **drawing.of_evaluation(facts.evaluation),
        **drawing.of_audit(facts.audit),
        **drawing.of_variants(variants),
        **drawing.of_data(facts.statistics, drawn_clients),
    }
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            facts=facts,
            sections=sections(facts),
            privacy_banner=privacy_banner(facts.ledger),
            run_banner=run_banner(facts),
            statement=privacy_statement(facts.ledger),
            contradiction=contradiction(facts.audit),
            roc_rows=views.roc_rows(facts.audit),
            charts=charts,
            splits=views.ordered_splits(facts.statistics),
            labels=views.label_table(facts.statistics),
            partition=drawn_clients,
            divided=how_divided(partition),
            metric=metric,
            metrics=views.metrics(facts.evaluation, metric),
            models=views.models(facts.evaluation),
            slices=views.slice_rows(facts.evaluation, metric),
            worst_columns=views.worst_columns(facts.worst_clients),
            cohorts=views.cohorts(facts.history),
            variants=variants,
            rules=rules(facts.verdict),
            private=is_private(facts.ledger),
            dag=rows_of((facts.run or {}).get("nodes") or ()),
            most_labels=MOST_LABELS,
            most_slices=views.MOST_SLICES,
        )
    )


def sections(facts: RunFacts) -> list[tuple[str, str]]:
    """The page's table of contents: id and name of each section that it has."""
    listed = [
        ("levers", "Levers"),
        ("privacy", "Privacy"),
        ("audit", "Audit") if facts.audit else None,
        ("quality", "Quality"),
        ("gate", "Gate"),
        ("sizes", "Size and speed"),
        ("data", "Data"),
        ("run", "Run") if facts.run else None,
    ]
    return [one for one in listed if one]


def is_failed(node: Facts) -> bool:
    """Whether a node of the run has failed."""
    return str(node.get("state")).lower() == "failed"


def run_banner(facts: RunFacts) -> Banner:
    """How the run ended: failed, pushed, rejected (by what), or not finished (what is missing)."""
    run = facts.run or {}
    failed = tuple(
        f"{node.get('name')} failed" for node in run.get("nodes") or () if is_failed(node)
    )
    if failed or run.get("error"):
        return Banner("bad", "Failed", str(run.get("error") or ""), failed)
    refused = refusals(facts.verdict, facts.infra)
    pushed = facts.pushed or {}
    if pushed.get("pushed"):
        version = f"version {pushed.get('version', wording.MISSING)}"
        if refused:
            title = f"Pushed {version} although it was rejected"
            return Banner("bad", title, "The gate and the push disagree:", refused)
        return Banner("good", f"Succeeded: pushed {version}", text=str(pushed.get("path") or ""))
    if refused:
        return Banner("bad", "Rejected", "The model was not pushed, because:", refused)
    if facts.pushed is not None:
        return Banner("bad", "Not pushed", str(pushed.get("detail") or "No reason was given."))
    missing = tuple(
        step
        for step, written in (
            ("ingest", facts.statistics),
            ("train", facts.ledger and facts.history),
            ("compress", facts.compression),
            ("evaluate", facts.evaluation),
            ("select", facts.selection),
            ("validate", facts.verdict and facts.infra),
            ("push", facts.pushed),
        )
        if not written
    )
    return Banner("unsure", "Not finished", f"Nothing yet from: {', '.join(missing)}.")
