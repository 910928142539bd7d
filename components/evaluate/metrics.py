"""From per-client sums to a distribution over clients and an overall figure."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from privet.components.shared import tasks
from privet.components.shared.schema import Task

_BINS = 20


@dataclasses.dataclass(frozen=True)
class ClientMetrics:
    """One client under every model.

    Attributes:
      client_id: the client.
      examples: number of its examples.
      means: model -> metric -> mean over the client's examples.
    """

    client_id: str
    examples: int
    means: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass
class Summary:
    """Metrics of any number of clients, mergeable in any order.

    Attributes:
      examples: of each client.
      means: model -> metric -> one mean per client, aligned with `examples`.
    """

    examples: list[int] = dataclasses.field(default_factory=list)
    means: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)

    def add(self, client: ClientMetrics) -> Self:
        """Adds a client."""
        self.examples.append(client.examples)
        for model, metrics in client.means.items():
            for metric, mean in metrics.items():
                self.means.setdefault(model, {}).setdefault(metric, []).append(mean)
        return self

    def merge(self, other: "Summary") -> Self:
        """Adds the clients of another summary."""
        self.examples.extend(other.examples)
        for model, metrics in other.means.items():
            for metric, means in metrics.items():
                self.means.setdefault(model, {}).setdefault(metric, []).extend(means)
        return self

    def to_json(self) -> dict[str, Any]:
        """model -> overall figures (weighted by example) and distributions over clients."""
        return {
            model: {
                "overall": {
                    metric: float(np.average(means, weights=self.examples))
                    for metric, means in metrics.items()
                },
                "clients": {
                    metric: distribution(means, tasks.higher_is_better(metric))
                    for metric, means in metrics.items()
                },
            }
            for model, metrics in sorted(self.means.items())
        }


def distribution(values: Sequence[float], higher_is_better: bool) -> dict[str, Any]:
    """A metric over clients: every client counts once.

    Percentiles are plain ones of the value (p10 is the bad tail only where higher is better);
    `worst` is the minimum or the maximum, whichever is bad.
    """
    array = np.asarray(values, np.float64)
    low, high = (0.0, 1.0) if higher_is_better else (0.0, max(float(array.max()), 1e-9))
    counts, edges = np.histogram(array, bins=_BINS, range=(low, high))
    return {
        **percentiles(array, higher_is_better),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def percentiles(values: np.ndarray, higher_is_better: bool) -> dict[str, float]:
    """Mean, p10, p50, p90 and worst of a value of each client; see distribution."""
    array = np.sort(values)  # so that the order of clients does not show in the last bit
    p10, p50, p90 = np.percentile(array, [10, 50, 90])
    return {
        "mean": float(array.mean()),
        "p10": float(p10),
        "p50": float(p50),
        "p90": float(p90),
        "worst": float(array[0] if higher_is_better else array[-1]),
    }


def merge_all(summaries: Iterable[Summary]) -> Summary:
    """The summaries as one."""
    merged = Summary()
    for summary in summaries:
        merged.merge(summary)
    return merged


def evaluation(
    summary: Summary, task: Task, split: str, personalization: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of evaluation.json.

    Args:
      summary: of all clients of the split.
      task: the prediction task.
      split: the split that was evaluated.
      personalization: what fine-tuning on each client gave; None if it did not run.
    """
    metric = tasks.primary_metric(task)
    return {
        "schema": 1,
        "task": task,
        "metric": metric,
        "higher_is_better": tasks.higher_is_better(metric),
        "split": split,
        "clients": len(summary.examples),
        "examples": sum(summary.examples),
        "models": summary.to_json(),
        "personalization": personalization,
        "private": False,
        "note": "Exact metrics of held-out clients, for the gate inside the trust boundary. "
        "Releasing them is not covered by epsilon.",
    }
