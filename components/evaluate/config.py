"""Settings of evaluation."""

import math
from collections.abc import Iterable
from typing import Literal

from privet.components.shared import tasks
from privet.components.shared.configuration import Config, check
from privet.components.shared.schema import Schema, Task


class PersonalizationConfig(Config, frozen=True):
    """Fine-tuning of the global model on each client, measured before and after.

    Attributes:
      epochs: passes over the examples that a client adapts to.
      batch_size: examples of one step; the last batch of a pass may be smaller.
      learning_rate, momentum: of stochastic gradient descent.
      share: share of a client's examples that it adapts to; the others measure. By default those
        that ingestion has set apart (data.split.personalization) and, where it has not, half.
    """

    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 0.1
    momentum: float = 0.0
    share: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be >= 1")
        check(
            0.0 < self.learning_rate < math.inf,
            f"learning_rate={self.learning_rate} must be > 0 and finite",
        )
        check(0.0 <= self.momentum < 1.0, f"momentum={self.momentum} must lie in [0, 1)")
        check(
            self.share is None or 0.0 < self.share < 1.0,
            f"share={self.share} must lie between 0 and 1: a client needs examples of both kinds",
        )


class MetricConfig(Config, frozen=True):
    """A metric of the user's own.

    Attributes:
      name: of the metric.
      module_file: the user's Python file.
      function: in it: function(labels [examples], scores [examples, units]) -> a number for each
        example; the metric is their mean.
      higher_is_better: whether a larger value is an improvement.
    """

    name: str
    module_file: str
    function: str
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        check(self.name.isidentifier(), f"name={self.name!r} must be letters, digits and _")


class SliceConfig(Config, frozen=True):
    """A way to divide clients or examples, each part of which is measured.

    Attributes:
      name: of the slice.
      by: `label` or `feature` divides examples; `examples` (how many a client has) or `attribute`
        (of the client, from a file) divides clients.
      feature: the feature to go by; it has one value per example.
      edges: a number belongs to the interval between two edges that it lies in, the lower edge
        included. Without, every value is a part of its own.
      file: CSV, JSON lines or Parquet with a row per client.
      client_id, column: of that file: the client, and the attribute.
    """

    name: str
    by: Literal["label", "feature", "examples", "attribute"]
    feature: str | None = None
    edges: tuple[float, ...] | None = None
    file: str | None = None
    client_id: str = "client"
    column: str | None = None

    def __post_init__(self) -> None:
        check(self.name.isidentifier(), f"name={self.name!r} must be letters, digits and _")
        wanted = {"feature": self.by == "feature", "file": self.by == "attribute"}
        wanted["column"] = wanted["file"]
        for field, needed in wanted.items():
            check(
                (getattr(self, field) is not None) == needed,
                f"slice {self.name}: by={self.by} {'needs' if needed else 'takes no'} {field}",
            )
        edges = self.edges or ()
        check(
            self.edges is None or (len(edges) > 0 and list(edges) == sorted(set(edges))),
            f"slice {self.name}: edges={list(edges)} must rise, and hold one at least",
        )
        check(
            self.by != "examples" or self.edges is not None,
            f"slice {self.name}: by=examples needs edges, such as [5, 20]",
        )
        check(
            self.by != "label" or self.edges is None,
            f"slice {self.name}: edges do not apply to by=label; take by=feature",
        )


class ReleaseConfig(Config, frozen=True):
    """A release with user-level noise of how clients fare, which may leave the trust boundary.

    Attributes:
      epsilon, delta: of all that is released together, for any one client.
      metric: what is released; the primary one by default.
      bounds: public range of a client's value; what lies outside counts as the nearest end. A
        metric that has none of its own (all but accuracy, f1 and calibration_error) needs it.
    """

    epsilon: float
    delta: float
    metric: str | None = None
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check(0 < self.epsilon < math.inf, f"epsilon={self.epsilon} must be > 0 and finite")
        check(0 < self.delta < 1, f"delta={self.delta} must lie between 0 and 1")
        check(
            self.metric != "auc",
            "metric=auc cannot be released: a client with one label has none",
        )
        low, high = self.bounds or (0.0, 1.0)
        check(
            low < high and math.isfinite(high - low),
            f"bounds={[low, high]} must be two finite numbers that rise",
        )

    def range_of(self, metric: str) -> tuple[float, float]:
        """The public range of a metric.

        Raises:
          ValueError: it has none.
        """
        own = (0.0, 1.0) if metric in _WITHIN_ONE else None
        bounds = self.bounds or own
        if bounds is None:
            raise ValueError(
                f"evaluate.release: {metric} has no bounds of its own, so one client could change "
                "its mean by any amount. Give evaluate.release.bounds, such as [0, 10], chosen "
                "without looking at the data"
            )
        return bounds


_WITHIN_ONE = ("accuracy", "f1", "calibration_error")


class EvaluateConfig(Config, frozen=True):
    """Evaluation on held-out clients.

    Attributes:
      bootstrap: replicates of the bootstrap over clients that intervals rest on; 0 for none.
      metrics: the user's own; see MetricConfig.
      slices: see SliceConfig.
      release: see ReleaseConfig; none by default.
      personalization: see PersonalizationConfig; none by default.
    """

    bootstrap: int = 200
    metrics: tuple[MetricConfig, ...] = ()
    slices: tuple[SliceConfig, ...] = ()
    release: ReleaseConfig | None = None
    personalization: PersonalizationConfig | None = None

    def __post_init__(self) -> None:
        check(
            self.bootstrap == 0 or 50 <= self.bootstrap <= 10_000,
            f"bootstrap={self.bootstrap} must be 0, or 50 to 10000: fewer tell nothing of the "
            "2.5% at each end",
        )
        for kind, named in (("metrics", self.metrics), ("slices", self.slices)):
            names = [one.name for one in named]
            check(len(set(names)) == len(names), f"{kind}={names} must have different names")

    @property
    def files(self) -> tuple[str, ...]:
        """The user's own files, whose content decides the result."""
        modules = [one.module_file for one in self.metrics]
        return (*modules, *(one.file for one in self.slices if one.file is not None))

    def metric_directions(self, task: Task) -> dict[str, bool]:
        """Metric -> whether higher is better, of all metrics of a run."""
        known = {name: tasks.higher_is_better(name) for name in tasks.evaluation_metrics(task)}
        return known | {one.name: one.higher_is_better for one in self.metrics}

    def check_task(self, task: Task) -> None:
        """Checks what depends on the task.

        Raises:
          ValueError: a metric's name is taken, or a release is doubtful.
        """
        taken = _overlap(tasks.evaluation_metrics(task), self.metrics)
        check(not taken, f"evaluate.metrics: {taken} are Privet's own names; choose others")
        if self.release is None:
            return
        metric = self.release.metric or tasks.primary_metric(task)
        valid = self.metric_directions(task)
        check(metric in valid, f"evaluate.release.metric={metric} is none of {', '.join(valid)}")
        check(
            metric != "f1" or task != "binary",
            "evaluate.release.metric=f1 cannot be released of two classes: a client may have none",
        )
        self.release.range_of(metric)

    def check_training(self, *, stops_by_clients: bool) -> None:
        """Checks that a release is of models that do not depend on the clients it is about.

        Args:
          stops_by_clients: whether training ends by how the model does on these clients.

        Raises:
          ValueError: it is not.
        """
        check(
            self.release is None or not stops_by_clients,
            "evaluate.release does not go with train.early_stop: the model then depends on the "
            "eval clients, so one of them could change every other one's metric. Remove one of "
            "them",
        )

    def check_schema(self, schema: Schema) -> None:
        """Checks what depends on the task and the features.

        Raises:
          ValueError: see check_task; or a slice does not fit.
        """
        self.check_task(schema.task)
        for one in self.slices:
            _check_slice(one, schema)


def _overlap(names: Iterable[str], metrics: Iterable[MetricConfig]) -> list[str]:
    return [one.name for one in metrics if one.name in set(names)]


def _check_slice(one: SliceConfig, schema: Schema) -> None:
    where = f"evaluate.slices: {one.name}"
    check(
        one.by != "label" or schema.label.classes is not None,
        f"{where}: by=label wants classes, and a regression has none",
    )
    if one.feature is None:
        return
    check(
        one.feature in schema.features,
        f"{where}: feature={one.feature} is none of {', '.join(schema.features)}",
    )
    feature = schema.features[one.feature]
    check(
        math.prod(feature.example_shape) == 1,
        f"{where}: feature={one.feature} has shape {list(feature.example_shape)}; wanted one value "
        "per example",
    )
    check(
        one.edges is None or not feature.is_text,
        f"{where}: edges do not apply to feature={one.feature}, which has a vocabulary",
    )
