"""A batch of clients under every model: what is kept of it, and the metrics of each client."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from privet.components.evaluate import bootstrap, measures, ranking, release
from privet.components.evaluate.batches import Batch
from privet.components.evaluate.measures import Examples, Measures, Sums
from privet.components.evaluate.ranking import ScoreTable
from privet.components.evaluate.release import Released
from privet.components.evaluate.slices import Slicer
from privet.components.evaluate.summary import Group, ModelSummary, Spread, Summary

ClientValues = dict[str, dict[str, np.ndarray]]
"""Model -> metric -> float64 [clients], NaN where it is not defined."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How clients are measured.

    Attributes:
      measures: what is measured.
      replicates: of the bootstrap over clients.
      seed: of the bootstrap.
      slicers: name of a slice -> how it divides a batch.
      released: what is to be released; None for nothing.
    """

    measures: Measures
    replicates: int = 0
    seed: int = 0
    slicers: Mapping[str, Slicer] = dataclasses.field(default_factory=dict)
    released: Released | None = None


def measure(
    plan: Plan, batch: Batch, scores: Mapping[str, np.ndarray]
) -> tuple[Summary, ClientValues]:
    """Measures a batch.

    Args:
      plan: see Plan.
      batch: whole clients; none of them is in another batch.
      scores: model -> float32 [examples, units].

    Returns:
      What is kept, and every client's metrics.
    """
    weights = bootstrap.client_weights(batch.client_ids, plan.replicates, plan.seed)
    segments = {name: _segments(batch, slicer) for name, slicer in plan.slicers.items()}
    summary, values = Summary(), {}
    for model, predicted in scores.items():
        examples = measures.example_values(plan.measures, predicted, batch.labels, model)
        of_clients = _client_sums(plan.measures, examples, batch.owners, len(batch.sizes))
        values[model] = _client_metrics(plan.measures, examples, of_clients, batch)
        summary.models[model] = ModelSummary(
            Group(measures.weigh(weights, of_clients), _score_table(plan.measures, examples)),
            {metric: Spread.of(found, weights) for metric, found in values[model].items()},
            {name: _parts(plan.measures, examples, one, weights) for name, one in segments.items()},
            _confusion(plan.measures, examples),
            None if plan.released is None else release.bounded_sums(values[model], plan.released),
        )
    return summary, values


class _Segments(NamedTuple):
    """A client's examples within a part of a slice, for all clients and parts of a batch.

    Attributes:
      of_examples: int64 [examples], the segment of each.
      owners: int64 [segments], the client.
      parts: int64 [segments], the part.
      names: of the parts.
    """

    of_examples: np.ndarray
    owners: np.ndarray
    parts: np.ndarray
    names: tuple[str, ...]


def _segments(batch: Batch, slicer: Slicer) -> _Segments:
    divided = slicer(batch)
    names = tuple(dict.fromkeys(divided.names))
    places = np.array([names.index(name) for name in divided.names])
    keys = batch.owners * len(names) + places[divided.codes]
    different, of_examples = np.unique(keys, return_inverse=True)
    return _Segments(of_examples, different // len(names), different % len(names), names)


def _parts(
    measured: Measures, examples: Examples, segments: _Segments, weights: np.ndarray
) -> dict[str, Group]:
    """Part of a slice -> its examples."""
    sums = _client_sums(measured, examples, segments.of_examples, len(segments.owners))
    groups = {}
    for part in np.unique(segments.parts).tolist():
        rows = segments.parts == part
        own = {name: values[rows] for name, values in sums.items()}
        groups[segments.names[part]] = Group(
            measures.weigh(weights[:, segments.owners[rows]], own),
            _score_table(measured, examples, rows[segments.of_examples]),
        )
    return groups


def _client_sums(measured: Measures, examples: Examples, segments: np.ndarray, count: int) -> Sums:
    sums = measures.sum_segments(measured, examples, segments, count)
    if measured.auc_has_interval:
        sums |= measures.sum_scores(measured, examples, segments, count)
    return sums


def _client_metrics(
    measured: Measures, examples: Examples, sums: Sums, batch: Batch
) -> dict[str, np.ndarray]:
    """Metric -> of each client."""
    found = measures.metrics_of(measured, sums)
    if measured.counts_classes:
        found["auc"] = np.array(
            [
                ranking.client_auc(examples.scores[part], examples.labels[part])
                for part in batch.parts
            ]
        )
    return found


def _score_table(
    measured: Measures, examples: Examples, chosen: np.ndarray | None = None
) -> ScoreTable | None:
    """Of all examples, or coarser of those that a slice chooses."""
    if not measured.counts_classes:
        return None
    if chosen is None:
        return ScoreTable(measured.score_units).add(examples.scores, examples.labels)
    table = ScoreTable(measured.score_units, ranking.COARSE)
    return table.add(examples.scores[chosen], examples.labels[chosen])


def _confusion(measured: Measures, examples: Examples) -> np.ndarray | None:
    if not measured.counts_classes or examples.predicted is None:
        return None
    classes = measured.classes
    cells = np.bincount(examples.labels * classes + examples.predicted, minlength=classes**2)
    return cells.reshape(classes, classes)
