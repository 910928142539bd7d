"""The release: how held-out clients fare, with user-level noise, for those outside.

Every client adds a vector of bounded L2 norm to each statistic: 1 to the number of clients; to
each model's histogram one bin of 1; to its mean a whole number in [-MEAN_STEPS, MEAN_STEPS], the
client's value mapped from its public bounds. Adding or removing one client changes the exact sums
by that, and each statistic is a Gaussian mechanism of the same multiplier over the same clients
(Dwork and Roth, 2014, "The Algorithmic Foundations of Differential Privacy", appendix A).

That holds for models that do not depend on these clients. So `blessed`, which an earlier
evaluation let through, is left out, as are personal models; and a vocabulary that was learned from
the clients, or training that stopped by them, is refused.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from privet.components.evaluate.config import ReleaseConfig
from privet.components.shared import noised_statistics, privacy_loss, tasks
from privet.components.shared.errors import PrivacyError
from privet.components.shared.schema import Schema

HISTOGRAM_BINS = 20
MEAN_STEPS = 1 << 20
BLESSED = "blessed"


@dataclasses.dataclass(frozen=True)
class Released:
    """What is released of each model.

    Attributes:
      metric: a client's value.
      low, high: its public bounds.
    """

    metric: str
    low: float
    high: float


def check_schema(schema: Schema) -> None:
    """Refuses examples that depend on all clients.

    Raises:
      PrivacyError: what one client's examples look like depends on others'.
    """
    if schema.learned_features:
        raise PrivacyError(
            f"evaluate.release: the features {', '.join(schema.learned_features)} were learned "
            "from the clients, so one client could change every other one's metric, which no noise "
            "here covers. Give their vocabulary and types in data.features, or leave "
            "evaluate.release out."
        )


def released_of(config: ReleaseConfig, schema: Schema) -> Released:
    """What is released.

    Raises:
      PrivacyError: see check_schema.
    """
    check_schema(schema)
    metric = config.metric or tasks.primary_metric(schema.task)
    return Released(metric, *config.range_of(metric))


def bounded_sums(values: Mapping[str, np.ndarray], released: Released) -> np.ndarray:
    """The exact sums of some clients.

    Args:
      values: metric -> float64 [clients].
      released: what is released.

    Returns:
      int64 [2 + HISTOGRAM_BINS]: number of clients, sum of scaled values, histogram.
    """
    low, high = released.low, released.high
    # NaN as the low end, so that whatever comes is bounded.
    clipped = np.fmin(np.fmax(values[released.metric], low), high)
    middle, half = (low + high) / 2, (high - low) / 2
    scaled = np.rint((clipped - middle) / half * MEAN_STEPS)
    scaled = np.clip(scaled, -MEAN_STEPS, MEAN_STEPS).astype(np.int64)
    bins = ((clipped - low) / (high - low) * HISTOGRAM_BINS).astype(np.int64)
    counts = np.bincount(np.clip(bins, 0, HISTOGRAM_BINS - 1), minlength=HISTOGRAM_BINS)
    return np.concatenate([[len(clipped), scaled.sum()], counts])


@functools.cache
def noise_multiplier(config: ReleaseConfig, models: int) -> float:
    """Standard deviation of the noise over each statistic's sensitivity.

    Raises:
      ConfigError: no noise reaches the configured epsilon.
    """
    return privacy_loss.least_noise(
        lambda noise: privacy_loss.gaussians(noise, _statistics(models)),
        config.epsilon,
        config.delta,
        advice="Raise evaluate.release.epsilon or evaluate.release.delta.",
    )


def check(config: ReleaseConfig, models: Sequence[str], clients: int) -> None:
    """Fails early where a release of these models on so many clients would.

    Raises:
      ConfigError: no noise reaches the configured epsilon.
      PrivacyError: delta is too large, or there is nothing to release.
    """
    if not clients:
        raise PrivacyError(
            "evaluate.release: no client is held out, so there is nothing to release. Raise "
            "data.split.eval, or leave evaluate.release out."
        )
    noised_statistics.check_delta("evaluate.release.delta", config.delta, clients)
    noise_multiplier(config, len(set(models) - {BLESSED}))


def release(
    sums: Mapping[str, np.ndarray],
    config: ReleaseConfig,
    released: Released,
    split: str,
    statistics: Mapping[str, Any],
    generator: np.random.Generator | None = None,
) -> dict[str, Any]:
    """Adds the noise and gives the content of release.json. Call it once for an evaluation.

    Args:
      sums: model -> exact sums of all clients, see bounded_sums.
      config: epsilon and delta.
      released: what is released.
      split: whose clients they are.
      statistics: content of ingestion's statistics.json, whose release the same clients are in.
      generator: draws the noise in tests; the result then says that it is not private. By default
        the operating system does.

    Raises:
      PrivacyError: delta is too large, or there is nothing to release.
    """
    sums = {model: values for model, values in sums.items() if model != BLESSED}
    clients = int(next(iter(sums.values()))[0]) if sums else 0
    check(config, list(sums), clients)
    multiplier = noise_multiplier(config, len(sums))
    noisy_clients = clients + int(noised_statistics.rounded_noise(multiplier, 1, generator)[0])
    source: dict[str, Any] = (
        {"private": True}
        if generator is None
        else {"private": False, "not_private_because": "its noise is that of a seeded generator"}
    )
    return {
        "schema": 1,
        **source,
        "split": split,
        "metric": released.metric,
        "bounds": [released.low, released.high],
        "clients": noisy_clients,
        "models": {
            model: _model_json(values, noisy_clients, released, multiplier, generator)
            for model, values in sorted(sums.items())
        },
        "standard_error": noised_statistics.standard_error(multiplier),
        "mechanism": {
            **noised_statistics.describe(multiplier, _statistics(len(sums))),
            "epsilon": config.epsilon,
            "delta": config.delta,
            "unit": "client",
            "neighbouring_relation": "add_or_remove_one_client",
            "noise_source": "operating system" if generator is None else "seeded generator",
        },
        "epsilon_with_ingestion": _composed(config, multiplier, len(sums), statistics),
        "note": f"About the clients of the split {split}, none of whom has trained: the ledger's "
        "epsilon is not about them. Noised statistics of ingestion are about them as well; "
        "epsilon_with_ingestion is of both. Each further release about the same clients adds its "
        "own. The standard error is that of the number of clients and of each bin; counts are "
        "unbiased and may be negative.",
    }


def _statistics(models: int) -> int:
    """The number of clients, and of each model histogram and mean."""
    return 1 + 2 * models


def _model_json(
    values: np.ndarray,
    noisy_clients: int,
    released: Released,
    multiplier: float,
    generator: np.random.Generator | None,
) -> dict[str, Any]:
    total = values[1] + noised_statistics.rounded_noise(multiplier * MEAN_STEPS, 1, generator)[0]
    noise = noised_statistics.rounded_noise(multiplier, HISTOGRAM_BINS, generator)
    edges = np.linspace(released.low, released.high, HISTOGRAM_BINS + 1)
    return {
        **noised_statistics.mean_json(
            int(total) / MEAN_STEPS, noisy_clients, (released.low, released.high), multiplier
        ),
        "histogram": {"edges": edges.tolist(), "counts": (values[2:] + noise).tolist()},
    }


def _composed(
    config: ReleaseConfig, multiplier: float, models: int, statistics: Mapping[str, Any]
) -> float | None:
    """Epsilon of this release and ingestion's noised statistics; None if those are exact."""
    before = noised_statistics.event_of(statistics)
    if before == privacy_loss.NOTHING:
        return None
    own = privacy_loss.gaussians(multiplier, _statistics(models))
    return privacy_loss.epsilon_of(privacy_loss.in_sequence(before, own), config.delta)
