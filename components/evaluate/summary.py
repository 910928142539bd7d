"""What is kept of the clients: sums, counts and tables of a bounded size, merged in any order."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from privet.components.evaluate import bootstrap, measures
from privet.components.evaluate.counts import ValueCounts, distribution
from privet.components.evaluate.measures import Measures, Sums
from privet.components.evaluate.ranking import ScoreTable
from privet.components.evaluate.slices import check_parts
from privet.components.shared import tasks


@dataclasses.dataclass
class Group:
    """Examples of any number of clients under one model.

    Attributes:
      sums: see measures.sum_segments; the first row is the sample, the others its replicates.
      scores: for the AUC; None where there is none.
    """

    sums: Sums
    scores: ScoreTable | None

    def merge(self, other: "Group") -> Self:
        """Adds the examples of another one."""
        for name, values in other.sums.items():
            self.sums[name] += values
        if self.scores is not None and other.scores is not None:
            self.scores.merge(other.scores)
        return self

    def figures(self, measured: Measures) -> dict[str, Any]:
        """`clients`, `examples`, and every metric as `overall` with its `intervals`."""
        found = measures.metrics_of(measured, self.sums)
        if self.scores is not None:
            exact = self.scores.auc()  # the replicates' bins are coarse: only their spread counts
            found["auc"] = np.clip(found["auc"] - found["auc"][0] + exact, 0.0, 1.0)
            found["auc"][0] = exact
        clients = int(self.sums["clients"][0])
        return {
            "clients": clients,
            "examples": int(self.sums["examples"][0]),
            "overall": {name: number(values[0]) for name, values in found.items()},
            "intervals": {
                name: bootstrap.interval(values, clients) for name, values in found.items()
            },
        }


@dataclasses.dataclass
class Spread:
    """A value of every client, such as its accuracy.

    Attributes:
      totals: float64 [1 + replicates], sum over the clients that have the value.
      clients: the same, their number.
      counts: the values.
    """

    totals: np.ndarray
    clients: np.ndarray
    counts: ValueCounts

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray) -> Self:
        """That of some clients.

        Args:
          values: float64 [clients], NaN for a client that has none.
          weights: [1 + replicates, clients].
        """
        known = ~np.isnan(values)
        totals = weights @ np.where(known, values, 0.0)
        return cls(totals, weights @ known, ValueCounts().add(values))

    def merge(self, other: "Spread") -> Self:
        """Adds the clients of another one."""
        self.totals += other.totals
        self.clients += other.clients
        self.counts.merge(other.counts)
        return self

    def figures(self, higher_is_better: bool) -> dict[str, Any]:
        """Mean with its interval, percentiles, worst clients and histogram."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.totals / self.clients
        return {
            "mean": number(means[0]),
            "mean_interval": bootstrap.interval(means, int(self.clients[0])),
            **distribution(self.counts, higher_is_better),
        }


@dataclasses.dataclass
class ModelSummary:
    """All clients under one model.

    Attributes:
      overall: all examples.
      spreads: metric -> over clients.
      slices: slice -> part -> its examples.
      confusion: int64 [classes, classes], rows true, columns predicted; None where there is none.
      released: what the release is made of (see release.bounded_sums), exact.
    """

    overall: Group
    spreads: dict[str, Spread]
    slices: dict[str, dict[str, Group]] = dataclasses.field(default_factory=dict)
    confusion: np.ndarray | None = None
    released: np.ndarray | None = None

    def merge(self, other: "ModelSummary") -> Self:
        """Adds the clients of another one."""
        self.overall.merge(other.overall)
        for metric, spread in other.spreads.items():
            self.spreads[metric].merge(spread)
        for name, parts in other.slices.items():
            known = self.slices.setdefault(name, {})
            for part, group in parts.items():
                known[part] = known[part].merge(group) if part in known else group
            check_parts(name, known)
        if self.confusion is not None:
            self.confusion += other.confusion
        if self.released is not None:
            self.released += other.released
        return self

    def figures(self, measured: Measures, labels: Sequence[str]) -> dict[str, Any]:
        """The model's part of evaluation.json."""
        whole = self.overall.figures(measured)
        return {
            "overall": whole["overall"],
            "intervals": whole["intervals"],
            "clients": {
                metric: spread.figures(measured.directions[metric])
                for metric, spread in self.spreads.items()
            },
            "confusion": None
            if self.confusion is None
            else {"labels": list(labels), "counts": self.confusion.tolist()},
            "calibration": _calibration(self.overall.sums),
            "slices": {
                name: {part: group.figures(measured) for part, group in sorted(parts.items())}
                for name, parts in self.slices.items()
            },
        }


@dataclasses.dataclass
class Summary:
    """All clients under every model.

    Attributes:
      models: name -> what is kept.
    """

    models: dict[str, ModelSummary] = dataclasses.field(default_factory=dict)

    def merge(self, other: "Summary") -> Self:
        """Adds the clients of another summary, which is used up."""
        for name, model in other.models.items():
            known = self.models.get(name)
            self.models[name] = model if known is None else known.merge(model)
        return self

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self._count("clients")

    @property
    def examples(self) -> int:
        """Number of their examples."""
        return self._count("examples")

    def _count(self, name: str) -> int:
        return next((int(model.overall.sums[name][0]) for model in self.models.values()), 0)

    def figures(self, measured: Measures, labels: Sequence[str]) -> dict[str, Any]:
        """Model -> its figures, in the order of the names."""
        return {
            name: model.figures(measured, labels) for name, model in sorted(self.models.items())
        }


def merge_all(summaries: Iterable[Summary]) -> Summary:
    """The summaries as one."""
    merged = Summary()
    for summary in summaries:
        merged.merge(summary)
    return merged


def evaluation(
    summary: Summary,
    measured: Measures,
    split: str,
    labels: Sequence[str] = (),
    personalization: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of evaluation.json.

    Args:
      summary: of all clients of the split.
      measured: what was measured.
      split: the split that was evaluated.
      labels: names of the classes.
      personalization: what fine-tuning on each client gave; None if it did not run.
    """
    metric = tasks.primary_metric(measured.task)
    return {
        "schema": 2,
        "task": measured.task,
        "metric": metric,
        "higher_is_better": tasks.higher_is_better(metric),
        "metrics": {
            name: {"higher_is_better": higher} for name, higher in measured.directions.items()
        },
        "split": split,
        "clients": summary.clients,
        "examples": summary.examples,
        "confidence": bootstrap.CONFIDENCE,
        "models": summary.figures(measured, labels),
        "personalization": personalization,
        "release": None,
        "private": False,
        "note": "Exact metrics of held-out clients, for the gate inside the trust boundary. "
        "Releasing them is not covered by epsilon.",
    }


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def _calibration(sums: Sums) -> dict[str, Any] | None:
    """How often a prediction is right, by how sure the model is; null for bins without any."""
    if "bin_examples" not in sums:
        return None
    counts = sums["bin_examples"][0]
    with np.errstate(invalid="ignore"):
        means = {name: sums[f"bin_{name}"][0] / counts for name in ("confidence", "hits")}
    return {
        "edges": np.linspace(0, 1, measures.CALIBRATION_BINS + 1).tolist(),
        "confidence": [number(value) for value in means["confidence"]],
        "accuracy": [number(value) for value in means["hits"]],
        "counts": counts.astype(np.int64).tolist(),
    }
