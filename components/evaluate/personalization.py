"""Personalization: does it pay that a client adapts the global model to its own examples?

A held-out client fine-tunes the global model on a part of its examples. Both models, the global
and the personal one, are measured on the rest (Wang et al., 2019, "Federated Evaluation of
On-device Personalization"; TFF's build_personalization_eval_computation). The personal models are
thrown away: none leaves the client, and only these metrics stay.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import msgspec
import numpy as np

from privet.components.evaluate import bootstrap
from privet.components.evaluate.batches import batch_of
from privet.components.evaluate.config import PersonalizationConfig
from privet.components.evaluate.counts import share_above, share_below
from privet.components.evaluate.measure import ClientValues, Plan, measure
from privet.components.evaluate.measures import Measures
from privet.components.evaluate.summary import Spread, Summary
from privet.components.shared.storage import ClientData, stable_hash

DEFAULT_SHARE = 0.5
BASELINE, PERSONALIZED = "baseline", "personalized"
MODELS = (BASELINE, PERSONALIZED)
"""The global model and the client's own one, both on the examples that measure."""


@dataclasses.dataclass(frozen=True)
class Personalized:
    """One client before and after.

    Attributes:
      measured: the client with its examples that measure.
      baseline, personal: scores of the global and of its own model on them, float32 [examples,
        units]; the same where fine-tuning diverged.
      adaptation_examples: number of examples that it adapted to.
      diverged: fine-tuning led to numbers that are not finite. The client then keeps the global
        model, as its device would.
    """

    measured: ClientData
    baseline: np.ndarray
    personal: np.ndarray
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
    adapting: ClientData, measured: ClientData, baseline: np.ndarray, personal: np.ndarray | None
) -> Personalized:
    """A client before and after.

    Args:
      adapting: the client with the examples that it adapted to.
      measured: the same with those that measure.
      baseline: the global model's scores on them, float32 [examples, units].
      personal: the personal model's; None if it diverged.
    """
    own = baseline if personal is None else personal
    return Personalized(measured, baseline, own, len(adapting), diverged=personal is None)


@dataclasses.dataclass
class PersonalizationSummary:
    """What personalization did to any number of clients, mergeable in any order.

    Attributes:
      measured: of MODELS, on the examples that measure.
      gains: metric -> over clients, by how much the personal model is better.
      adaptation_examples: number of examples that clients adapted to.
      diverged: clients whose fine-tuning did.
    """

    measured: Summary = dataclasses.field(default_factory=Summary)
    gains: dict[str, Spread] = dataclasses.field(default_factory=dict)
    adaptation_examples: int = 0
    diverged: int = 0

    def merge(self, other: "PersonalizationSummary") -> Self:
        """Adds the clients of another summary, which is used up."""
        self.measured.merge(other.measured)
        for metric, spread in other.gains.items():
            known = self.gains.get(metric)
            self.gains[metric] = spread if known is None else known.merge(spread)
        self.adaptation_examples += other.adaptation_examples
        self.diverged += other.diverged
        return self


def merge_all(summaries: Iterable[PersonalizationSummary]) -> PersonalizationSummary:
    """The summaries as one."""
    merged = PersonalizationSummary()
    for summary in summaries:
        merged.merge(summary)
    return merged


def summarize(
    plan: Plan, clients: Sequence[Personalized]
) -> tuple[PersonalizationSummary, ClientValues]:
    """Measures clients before and after.

    Args:
      plan: of the evaluation; slices and release are of the other models only.
      clients: at least one.
    """
    plain = dataclasses.replace(plan, slicers={}, released=None)
    batch = batch_of([client.measured for client in clients])
    scores = {
        BASELINE: np.concatenate([client.baseline for client in clients]),
        PERSONALIZED: np.concatenate([client.personal for client in clients]),
    }
    measured, values = measure(plain, batch, scores)
    weights = bootstrap.client_weights(batch.client_ids, plan.replicates, plan.seed)
    gains = {
        metric: Spread.of(
            _gain(values[BASELINE][metric], values[PERSONALIZED][metric], higher), weights
        )
        for metric, higher in plan.measures.directions.items()
    }
    adapted = sum(client.adaptation_examples for client in clients)
    diverged = sum(client.diverged for client in clients)
    return PersonalizationSummary(measured, gains, adapted, diverged), values


def report(
    summary: PersonalizationSummary, config: PersonalizationConfig, measured: Measures, clients: int
) -> dict[str, Any]:
    """The part `personalization` of evaluation.json.

    Args:
      summary: of the clients that could be personalized.
      config: how they were.
      measured: what was measured.
      clients: of the split, with those that have too few examples.
    """
    models = {
        name: {kind: model[kind] for kind in ("overall", "intervals", "clients")}
        for name, model in summary.measured.figures(measured, ()).items()
    }
    return {
        "settings": msgspec.to_builtins(config),
        "clients": summary.measured.clients,
        "too_few_examples": clients - summary.measured.clients,
        "diverged": summary.diverged,
        "adaptation_examples": summary.adaptation_examples,
        "examples": summary.measured.examples,
        "models": models,
        "gain": _gains(summary, measured, models) if models else None,
    }


def _gains(
    summary: PersonalizationSummary, measured: Measures, models: dict[str, Any]
) -> dict[str, Any]:
    """By how much the personal models are better: above 0 is an improvement in every metric."""
    overall, clients = {}, {}
    for metric, higher in measured.directions.items():
        before, after = (models[name]["overall"][metric] for name in MODELS)
        known = before is not None and after is not None
        overall[metric] = _gain(before, after, higher) if known else None
        spread = summary.gains[metric]
        figures = spread.figures(higher_is_better=True)
        del figures["histogram"]
        defined = figures["clients"] > 0
        improved = share_above(spread.counts, 0.0) if defined else None
        worsened = share_below(spread.counts, 0.0) if defined else None
        clients[metric] = {**figures, "improved": improved, "worsened": worsened}
    return {"overall": overall, "clients": clients}


def _gain(before: Any, after: Any, higher_is_better: bool) -> Any:
    return after - before if higher_is_better else before - after


def _take(client: ClientData, positions: np.ndarray) -> ClientData:
    features = {name: values[positions] for name, values in client.features.items()}
    return ClientData(client.client_id, features, client.labels[positions])
