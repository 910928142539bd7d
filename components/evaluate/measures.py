"""From scores to sums over clients, and from sums to metrics.

All metrics but the AUC are functions of sums over examples. `example_values` gives what is summed,
`sum_segments` sums it over clients (or a client's examples within a slice), and `metrics_of` turns
rows of sums into metrics: rows for clients, for a slice, for the replicates of the bootstrap.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from privet.components.evaluate import ranking
from privet.components.shared import tasks
from privet.components.shared.errors import ConfigError, ModelError
from privet.components.shared.schema import Schema, Task

Sums = dict[str, np.ndarray]
"""Name -> float64 [rows], or [rows, columns]: what is summed, for each row."""

MOST_CLASSES = 128
"""With more there is no f1, auc or confusion matrix: their sums would not be small."""

CALIBRATION_BINS = 15

_MOST_COLUMNS = 1024  # that the bootstrap keeps of binned scores: up to 15 classes


@dataclasses.dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own: (labels, scores) -> a number for each example."""

    name: str
    function: Callable[[np.ndarray, np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is measured.

    Attributes:
      task: the prediction task.
      classes: of the label; 0 for regression.
      directions: metric -> whether higher is better, of all metrics.
      own: the user's own metrics.
    """

    task: Task
    classes: int
    directions: Mapping[str, bool]
    own: tuple[OwnMetric, ...] = ()

    @property
    def counts_classes(self) -> bool:
        """Whether there are f1, auc and a confusion matrix."""
        return 0 < self.classes <= MOST_CLASSES

    @property
    def score_units(self) -> int:
        """Scores of an example that the AUC goes by: one for two classes."""
        return 1 if self.classes == 2 else self.classes

    @property
    def auc_has_interval(self) -> bool:
        """Whether the bootstrap keeps the scores as well, binned."""
        columns = 2 * self.score_units * ranking.bin_count(ranking.COARSEST)
        return self.counts_classes and columns <= _MOST_COLUMNS


def measures_of(
    schema: Schema, directions: Mapping[str, bool], own: tuple[OwnMetric, ...] = ()
) -> Measures:
    """What is measured of a task; see Measures."""
    return Measures(schema.task, schema.label.classes or 0, directions, own)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples under one model.

    Attributes:
      labels: int64 [examples], or float32 for regression.
      scores: float32 [examples, units].
      values: metric that is a mean -> float64 [examples].
      predicted: int64 [examples], the class with the highest score; None for regression.
      confidence: float64 [examples], of that class.
    """

    labels: np.ndarray
    scores: np.ndarray
    values: Mapping[str, np.ndarray]
    predicted: np.ndarray | None = None
    confidence: np.ndarray | None = None


def example_values(
    measures: Measures, scores: np.ndarray, labels: np.ndarray, model: str
) -> Examples:
    """Judges every example.

    Args:
      measures: what is measured.
      scores: float32 [examples, units] of the model.
      labels: [examples].
      model: its name, for messages.

    Raises:
      ModelError: a score is not finite.
      ConfigError: a metric of the user's own fails.
    """
    if not np.isfinite(scores).all():
        raise ModelError(
            f"model {model} gives scores that are not finite. Its outputs overflow: lower the "
            "learning rates, or bound the features (minimum, maximum)."
        )
    values = dict(tasks.example_metrics(measures.task, scores, labels))
    values |= {one.name: _own_values(one, scores, labels) for one in measures.own}
    if not measures.classes:
        return Examples(labels, scores, values)
    both = np.concatenate([1.0 - scores, scores], 1) if scores.shape[1] == 1 else scores
    predicted = both.argmax(1)
    confidence = np.take_along_axis(both, predicted[:, None], 1)[:, 0].astype(np.float64)
    return Examples(labels.astype(np.int64), scores, values, predicted, confidence)


def sum_segments(measures: Measures, examples: Examples, segments: np.ndarray, count: int) -> Sums:
    """Sums over parts of the examples, each of one client.

    Args:
      measures: what is measured.
      examples: under one model.
      segments: int64 [examples], the part that each belongs to.
      count: of the parts.

    Returns:
      [count] and [count, columns]: `clients` (1 each), `examples`, every mean metric; for
      classification `true`, `predicted` and `hits` by class, and `bin_examples`, `bin_hits` and
      `bin_confidence` by confidence.
    """

    def by(columns: int, column: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        cells = np.bincount(segments * columns + column, weights, count * columns)
        return cells.reshape(count, columns).astype(np.float64)

    sums: Sums = {
        "clients": np.ones(count),
        "examples": np.bincount(segments, minlength=count).astype(np.float64),
        **{name: np.bincount(segments, values, count) for name, values in examples.values.items()},
    }
    if examples.predicted is None or examples.confidence is None:
        return sums
    hits = examples.values["accuracy"]
    places = np.ceil(examples.confidence * CALIBRATION_BINS).astype(np.int64) - 1
    bins = np.clip(places, 0, CALIBRATION_BINS - 1)
    sums["bin_examples"] = by(CALIBRATION_BINS, bins)
    sums["bin_hits"] = by(CALIBRATION_BINS, bins, hits)
    sums["bin_confidence"] = by(CALIBRATION_BINS, bins, examples.confidence)
    if measures.counts_classes:
        sums["true"] = by(measures.classes, examples.labels)
        sums["predicted"] = by(measures.classes, examples.predicted)
        sums["hits"] = by(measures.classes, examples.labels, hits)
    return sums


def sum_scores(measures: Measures, examples: Examples, segments: np.ndarray, count: int) -> Sums:
    """As sum_segments, of binned scores: `own_scores` and `all_scores` by unit and bin."""
    units, width = measures.score_units, ranking.bin_count(ranking.COARSEST)
    flat = ranking.bins_of(examples.scores, ranking.COARSEST) + np.arange(units) * width
    places = segments[:, None] * (units * width) + flat
    wanted = np.arange(units) if units > 1 else 1
    own = places[examples.labels[:, None] == wanted]
    shape = (count, units * width)
    return {
        name: np.bincount(cells.ravel(), minlength=count * units * width)
        .reshape(shape)
        .astype(np.float64)
        for name, cells in (("own_scores", own), ("all_scores", places))
    }


def weigh(weights: np.ndarray, sums: Sums) -> Sums:
    """Sums over clients: weights [rows, clients] and sums [clients, ...] -> [rows, ...]."""
    return {name: weights @ values for name, values in sums.items()}


def metrics_of(measures: Measures, sums: Sums) -> dict[str, np.ndarray]:
    """Metrics of rows of sums.

    The calibration error is that of Guo et al., 2017, "On Calibration of Modern Neural Networks",
    equation 3, in 15 bins. F1 of two classes is that of class 1; of more, the mean over the classes
    that are a label or a prediction (scikit-learn's `macro`).

    Returns:
      Metric -> float64 [rows], NaN where it is not defined. The AUC is that of binned scores, where
      there are any.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        means = {
            name: sums[name] / sums["examples"] for name in measures.directions if name in sums
        }
        if not measures.classes:
            return {**means, "rmse": np.sqrt(means["loss"])}
        gaps = np.abs(sums["bin_hits"] - sums["bin_confidence"])
        found = {
            **means,
            "perplexity": np.exp(means["loss"]),
            "calibration_error": gaps.sum(1) / sums["examples"],
        }
        undefined = np.full(len(sums["examples"]), np.nan)
        f1 = 2 * sums["hits"] / (sums["true"] + sums["predicted"]) if "hits" in sums else None
    if f1 is not None:
        found["f1"] = f1[:, 1] if measures.classes == 2 else ranking.mean_over_classes(f1)
    if "own_scores" in sums:
        shape = (len(undefined), measures.score_units, -1)
        own, every = (sums[name].reshape(shape) for name in ("own_scores", "all_scores"))
        found["auc"] = ranking.mean_over_classes(ranking.auc(own, every - own))
    return {name: found.get(name, undefined) for name in measures.directions}


def _own_values(metric: OwnMetric, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The user's own metric of each example, checked."""
    where = f"evaluate.metrics: {metric.name}"
    try:
        values = np.asarray(metric.function(labels.copy(), scores.copy()), np.float64)
    except Exception as error:
        raise ConfigError(
            f"{where} fails: {type(error).__name__}: {error}. It is called with labels "
            f"{list(labels.shape)} and scores {list(scores.shape)}."
        ) from error
    if values.shape != labels.shape or not np.isfinite(values).all():
        raise ConfigError(
            f"{where} gave numbers of shape {list(values.shape)}"
            f"{'' if np.isfinite(values).all() else ', not all of them finite'}. Wanted one finite "
            f"number for each example: shape {list(labels.shape)}."
        )
    return values
