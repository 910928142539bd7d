"""The page's charts: for each section, those whose numbers are there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from privet.components.report import (
    audit_charts,
    data_charts,
    evaluation_charts,
    training_charts,
    variant_charts,
    views,
    wording,
)
from privet.components.report.partition import ClientLabels
from privet.components.report.verdicts import is_private

Facts = Mapping[str, Any]
Charts = dict[str, Markup]


def of_training(ledger: Facts | None, history: Facts | None) -> Charts:
    """Epsilon, metric, cohorts and sparsity over rounds."""
    drawn: Charts = {}
    ledger, history = ledger or {}, history or {}
    spent = ledger.get("epsilon_by_round") or ()
    known = [epsilon for epsilon in spent if epsilon is not None]
    # A number that does not hold must not look like one: without a guarantee nothing is drawn.
    if is_private(ledger) and known and all(map(wording.is_finite_number, known)):
        target, before = ledger.get("target_epsilon"), ledger.get("epsilon_before_rounds") or 0.0
        drawn["epsilon"] = training_charts.epsilon_over_rounds(
            spent, target if wording.is_finite_number(target) else None, before
        )
    rounds, metric = history.get("rounds", ()), str(history.get("metric"))
    measured = _finite(rounds, lambda row: (row.get("eval") or {}).get(metric))
    if measured:
        drawn["metric"] = training_charts.metric_over_rounds(*measured, metric)
    sizes = views.cohorts(history)
    if sizes["rounds"] and sizes["same"] is None:
        drawn["cohorts"] = training_charts.cohorts_over_rounds(sizes["rounds"], sizes["clients"])
    sparse = _finite(rounds, lambda row: row.get("sparsity"))
    if sparse:
        drawn["sparsity"] = training_charts.sparsity_over_rounds(*sparse)
    return drawn


def of_evaluation(evaluation: Facts | None) -> Charts:
    """Clients by metric, slices, calibration and confusion."""
    drawn: Charts = {}
    metric = str((evaluation or {}).get("metric"))
    spreads = client_histograms(evaluation)
    if spreads:
        drawn["clients"] = evaluation_charts.client_distribution(spreads, metric)
    models = views.models(evaluation)
    curves = {
        model["title"]: model["facts"]["calibration"]
        for model in models
        if _curve_has_points(model["facts"].get("calibration"))
    }
    if curves:
        drawn["calibration"] = evaluation_charts.calibration(curves)
    served = views.shown_model(evaluation)
    table = served.get("confusion") or {}
    if 0 < len(table.get("labels") or ()) <= evaluation_charts.MOST_CLASSES:
        drawn["confusion"] = evaluation_charts.confusion(table["labels"], table["counts"])
    sliced = [
        {"name": f"{row['name']} = {row['value']}", **number}
        for row in views.slice_rows(evaluation, metric)
        for number in [row["models"].get("compressed") or row["models"].get("float") or {}]
        if wording.is_finite_number(number.get("value"))
    ][: views.MOST_SLICES]
    if sliced:
        overall = (served.get("overall") or {}).get(metric)
        drawn["slices"] = evaluation_charts.slices(
            sliced, metric, overall if wording.is_finite_number(overall) else None
        )
    return drawn


def of_audit(audit: Facts | None) -> Charts:
    """The attack's trade-off and the canaries."""
    drawn: Charts = {}
    attack = (audit or {}).get("membership") or {}
    curve = attack.get("roc") or {}
    if curve.get("fpr") and wording.is_finite_number(attack.get("auc")):
        drawn["roc"] = audit_charts.roc(curve["fpr"], curve["tpr"], attack["auc"])
    histogram = ((audit or {}).get("canaries") or {}).get("histogram") or {}
    if histogram.get("edges"):
        drawn["canaries"] = audit_charts.canaries(
            histogram["edges"], histogram["included"], histogram["excluded"]
        )
    return drawn


def of_variants(variants: Sequence[Facts]) -> Charts:
    """What the variants weigh, and how long an example takes."""
    listed = []
    for one in variants:
        times = one.get("latency_us") or {}
        single, batch = times.get("1"), times.get(str(variant_charts.BATCH))
        timed = wording.is_finite_number(single) and wording.is_finite_number(batch)
        listed.append(
            variant_charts.Variant(
                name=str(one.get("name")),
                raw=int(one.get("bytes") or 0),
                gzip=int(one.get("bytes_gzip") or 0),
                single=single if timed else None,
                batch=batch if timed else None,
                served=bool(one.get("served")),
            )
        )
    drawn: Charts = {}
    if listed:
        drawn["sizes"] = variant_charts.variant_sizes(listed)
    if any(one.single is not None for one in listed):
        drawn["times"] = variant_charts.variant_times(listed)
    return drawn


def of_data(statistics: Facts | None, partition: ClientLabels | None) -> Charts:
    """Labels by split, and the labels of simulated clients."""
    drawn: Charts = {}
    labels = {
        name: split["labels"]
        for name, split in views.ordered_splits(statistics)
        if split.get("labels")
    }
    if labels:
        drawn["labels"] = data_charts.label_shares(labels)
    if partition:
        drawn["partition"] = data_charts.clients_by_label(partition)
    return drawn


def client_histograms(evaluation: Facts | None) -> list[evaluation_charts.ClientHistogram]:
    """The main metric's spread over clients, for every model that has one."""
    metric = (evaluation or {}).get("metric")
    spreads = []
    for model in views.models(evaluation):
        spread = (model["facts"].get("clients") or {}).get(metric) or {}
        histogram = spread.get("histogram") or {}
        if histogram.get("counts"):
            names = {"worst_decile": "worst tenth", "worst": "worst"}
            key = next((key for key in names if key in spread), None)
            note = f"{names[key]} {wording.number(spread[key])}" if key else ""
            spreads.append(
                evaluation_charts.ClientHistogram(
                    model["title"], histogram["edges"], histogram["counts"], spread.get("p50"), note
                )
            )
    return spreads


def _curve_has_points(curve: Facts | None) -> bool:
    return any((curve or {}).get("counts") or ())


def _finite(
    rounds: Sequence[Facts], read: Callable[[Facts], Any]
) -> tuple[list[int], list[float]] | None:
    """Numbers and values of the rounds that have one; None if none has."""
    found = [(row["round"], read(row)) for row in rounds]
    known = [(number, value) for number, value in found if wording.is_finite_number(value)]
    if not known:
        return None
    return [number for number, _ in known], [value for _, value in known]
