"""Personalization: does it pay that a client adapts the global model to its own examples?

A held-out client fine-tunes the global model on a part of its examples. Both models, the global
and the personal one, are measured on the rest (Wang et al., 2019, "Federated Evaluation of
On-device Personalization"; TFF's build_personalization_eval_computation). The personal models are
thrown away: none leaves the client, and only these metrics stay.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Self

import msgspec
import numpy as np

from privet.components.evaluate.config import PersonalizationConfig
from privet.components.evaluate.metrics import ClientMetrics, Summary, percentiles
from privet.components.shared import tasks
from privet.components.shared.schema import Task
from privet.components.shared.storage import ClientData, stable_hash

DEFAULT_SHARE = 0.5
BASELINE, PERSONALIZED = "baseline", "personalized"
MODELS = (BASELINE, PERSONALIZED)
"""The global model and the client's own one, both on the examples that measure."""


@dataclasses.dataclass(frozen=True)
class Personalized:
    """One client before and after.

    Attributes:
      metrics: of MODELS, on the client's examples that measure.
      adaptation_examples: number of examples that it adapted to.
      diverged: fine-tuning led to numbers that are not finite. The client then keeps the global
        model, as its device would.
    """

    metrics: ClientMetrics
    adaptation_examples: int
    diverged: bool


def divide(client: ClientData, share: float, seed: int) -> tuple[ClientData, ClientData] | None:
    """The examples that a client adapts to, and those that measure.

    A pseudo-random choice that depends on the seed and the client alone. At least one example
    goes to each side.

    Returns:
      None for a client with fewer than two examples.
    """
    examples = len(client)
    if examples < 2:
        return None
    adapting = min(max(1, int(share * examples)), examples - 1)
    order = np.random.default_rng(stable_hash("adapt", seed, client.client_id)).permutation(
        examples
    )
    return _take(client, np.sort(order[:adapting])), _take(client, np.sort(order[adapting:]))


def batches(client: ClientData, config: PersonalizationConfig, seed: int) -> Iterator[np.ndarray]:
    """The positions of each step's examples: every epoch is a new permutation.

    Args:
      client: with the examples that it adapts to.
      config: epochs, batch size.
      seed: the order depends on it and the client alone.
    """
    generator = np.random.default_rng(stable_hash("fine_tune", seed, client.client_id))
    for _ in range(config.epochs):
        order = generator.permutation(len(client))
        for start in range(0, len(order), config.batch_size):
            yield order[start : start + config.batch_size]


def compare(
    task: Task,
    adapting: ClientData,
    measured: ClientData,
    baseline: np.ndarray,
    personal: np.ndarray | None,
) -> Personalized:
    """A client before and after.

    Args:
      task: the prediction task.
      adapting: the client with the examples that it adapted to.
      measured: the same with those that measure.
      baseline: the global model's scores on them, float32 [examples, units].
      personal: the personal model's; None if it diverged.
    """
    scores = (baseline, baseline if personal is None else personal)
    means = {
        model: tasks.mean_metrics(task, predicted, measured.labels)
        for model, predicted in zip(MODELS, scores, strict=True)
    }
    metrics = ClientMetrics(measured.client_id, len(measured), means)
    return Personalized(metrics, len(adapting), diverged=personal is None)


@dataclasses.dataclass
class PersonalizationSummary:
    """What personalization did to any number of clients, mergeable in any order."""

    measured: Summary = dataclasses.field(default_factory=Summary)
    adaptation_examples: int = 0
    diverged: int = 0

    def add(self, client: Personalized) -> Self:
        """Adds a client."""
        self.measured.add(client.metrics)
        self.adaptation_examples += client.adaptation_examples
        self.diverged += client.diverged
        return self

    def merge(self, other: "PersonalizationSummary") -> Self:
        """Adds the clients of another summary."""
        self.measured.merge(other.measured)
        self.adaptation_examples += other.adaptation_examples
        self.diverged += other.diverged
        return self


def merge_all(summaries: Iterable[PersonalizationSummary]) -> PersonalizationSummary:
    """The summaries as one."""
    merged = PersonalizationSummary()
    for summary in summaries:
        merged.merge(summary)
    return merged


def report(
    summary: PersonalizationSummary, config: PersonalizationConfig, task: Task, clients: int
) -> dict[str, Any]:
    """The part `personalization` of evaluation.json.

    Args:
      summary: of the clients that could be personalized.
      config: how they were.
      task: the prediction task.
      clients: of the split, with those that have too few examples.
    """
    measured = summary.measured
    return {
        "settings": msgspec.to_builtins(config),
        "clients": len(measured.examples),
        "too_few_examples": clients - len(measured.examples),
        "diverged": summary.diverged,
        "adaptation_examples": summary.adaptation_examples,
        "examples": sum(measured.examples),
        "models": measured.to_json(),
        "gain": _gain(measured, task) if measured.examples else None,
    }


def _gain(measured: Summary, task: Task) -> dict[str, Any]:
    """By how much the personal models are better: above 0 is an improvement in every metric."""
    overall, clients = {}, {}
    for metric in tasks.metric_names(task):
        before, after = (np.asarray(measured.means[model][metric]) for model in MODELS)
        gains = after - before if tasks.higher_is_better(metric) else before - after
        overall[metric] = float(np.average(gains, weights=measured.examples))
        clients[metric] = {
            **percentiles(gains, higher_is_better=True),
            "improved": float((gains > 0).mean()),
            "worsened": float((gains < 0).mean()),
        }
    return {"overall": overall, "clients": clients}


def _take(client: ClientData, positions: np.ndarray) -> ClientData:
    features = {name: values[positions] for name, values in client.features.items()}
    return ClientData(client.client_id, features, client.labels[positions])
