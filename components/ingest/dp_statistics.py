"""The release of statistics with user-level noise: noise, once, and what is told about it.

Gaussian noise is added to every statistic of every split (Dwork and Roth, 2014, "The Algorithmic
Foundations of Differential Privacy", appendix A), with one multiplier of the sensitivities that
`bounded_sums.py` derives. The statistics of a split compose in sequence; a client is in one
split only, so the splits compose in parallel.

The sums are whole numbers, and so is the noise (`shared/noised_statistics.py`).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import dp_accounting
import numpy as np

from privet.components.ingest.bounded_sums import (
    HISTOGRAM_BINS,
    MEAN_STEPS,
    BoundedSums,
    Statistic,
    has_public_vocabulary,
    public_range,
    size_edges,
    statistics_of,
)
from privet.components.ingest.config import DpStatisticsConfig
from privet.components.shared import noised_statistics, privacy_loss
from privet.components.shared.schema import Schema

__all__ = ["BoundedSums", "event", "release"]


def event(config: DpStatisticsConfig, schema: Schema) -> dp_accounting.DpEvent:
    """The event of a release with these settings, known before any data are read.

    Raises:
      ConfigError: no noise reaches the settings' epsilon.
    """
    count = len(statistics_of(schema, config.max_examples_per_client))
    return privacy_loss.gaussians(_noise_multiplier(config, count), count)


def check_delta(config: DpStatisticsConfig, clients: int) -> None:
    """Refuses a delta that would allow publishing one client's data outright.

    Args:
      config: with the delta.
      clients: of all splits.

    Raises:
      PrivacyError: delta >= 1 / clients.
    """
    noised_statistics.check_delta("data.dp_statistics.delta", config.delta, clients)


def release(sums: BoundedSums, generator: np.random.Generator | None = None) -> dict[str, Any]:
    """Adds the noise and gives the content of statistics.json. Call it once for a data set.

    Counts are neither clamped nor made consistent with each other: they are unbiased, so they
    may be negative. A mean is a ratio of two noised sums, clamped to its public range.

    Args:
      sums: of all clients, merged.
      generator: draws the noise in tests; the result then says that it is not private. By
        default the operating system does.

    Raises:
      ConfigError: no noise reaches the configured epsilon.
    """
    config, statistics = sums.config, sums.statistics
    noise_multiplier = _noise_multiplier(config, len(statistics))
    noised = {
        split: {
            one.name: values[one.name]
            + noised_statistics.rounded_noise(
                noise_multiplier * one.sensitivity, one.size, generator
            )
            for one in statistics
        }
        for split, values in sums.sums.items()
    }
    source: dict[str, Any] = (
        {"private": True}
        if generator is None
        else {"private": False, "not_private_because": "its noise is that of a seeded generator"}
    )
    return {
        "schema": 2,
        **source,
        "mechanism": _mechanism(config, statistics, noise_multiplier, list(sums.sums)),
        "splits": {
            split: _split_json(sums.schema, config, values, noise_multiplier)
            for split, values in noised.items()
        },
        "withheld": _withheld(sums.schema),
    }


def _mechanism(
    config: DpStatisticsConfig,
    statistics: Sequence[Statistic],
    noise_multiplier: float,
    splits: list[str],
) -> dict[str, Any]:
    return {
        **noised_statistics.describe(noise_multiplier, len(statistics)),
        "epsilon": config.epsilon,
        "delta": config.delta,
        "unit": "client",
        "neighbouring_relation": "add_or_remove_one_client",
        "max_examples_per_client": config.max_examples_per_client,
        "clients_covered": splits,
        "splits": "compose in parallel: a client is in exactly one of them",
        "post_processing": "none for counts, which are unbiased and may be negative; means are "
        "clamped to their public range",
        "statistics": {
            one.name: {
                "sensitivity": _in_units(one, one.sensitivity),
                "standard_error": _in_units(
                    one, noised_statistics.standard_error(noise_multiplier * one.sensitivity)
                ),
            }
            for one in statistics
        },
    }


def _in_units(statistic: Statistic, value: float) -> float:
    """Sums of means in half ranges times examples; counts as they are."""
    return value / MEAN_STEPS if statistic.name.endswith(".mean") else value


def _split_json(
    schema: Schema,
    config: DpStatisticsConfig,
    noised: Mapping[str, np.ndarray],
    noise_multiplier: float,
) -> dict[str, Any]:
    labels = noised.get("labels")
    examples = int(noised["examples"][0])
    features: dict[str, Any] = {}
    for name, feature in schema.features.items():
        if f"{name}.histogram" not in noised:
            continue
        counts, bounds = noised[f"{name}.histogram"].tolist(), public_range(feature)
        if bounds is None:
            features[name] = {"histogram": {"first": 0, "counts": counts}}
            continue
        features[name] = {
            "public_range": list(bounds),
            **noised_statistics.mean_json(
                int(noised[f"{name}.mean"][0]) / MEAN_STEPS,
                examples,
                bounds,
                noise_multiplier * config.max_examples_per_client,
            ),
            "histogram": {
                "edges": np.linspace(*bounds, HISTOGRAM_BINS + 1).tolist(),
                "counts": counts,
            },
        }
    return {
        "clients": int(noised["clients"][0]),
        "examples": examples,
        "examples_per_client": {
            "histogram": {
                "edges": size_edges(config.max_examples_per_client),
                "counts": noised["examples_per_client"].tolist(),
            }
        },
        "labels": None
        if labels is None
        else {str(label): count for label, count in enumerate(labels.tolist())},
        "features": features,
    }


def _withheld(schema: Schema) -> dict[str, str]:
    """Feature (or label) -> why nothing is released about it."""
    withheld = {}
    for name, feature in schema.features.items():
        if public_range(feature) is None and not has_public_vocabulary(schema, name):
            withheld[name] = (
                "its vocabulary is learned from the data"
                if feature.is_text
                else "it has no public range: set minimum and maximum"
            )
    if schema.label.classes is None:
        withheld["label"] = "a regression's label has no public range"
    return withheld


@functools.cache
def _noise_multiplier(config: DpStatisticsConfig, count: int) -> float:
    """Standard deviation of the noise over the sensitivity, the same for every statistic."""
    return privacy_loss.least_noise(
        lambda noise: privacy_loss.gaussians(noise, count),
        config.epsilon,
        config.delta,
        advice="Raise data.dp_statistics.epsilon or data.dp_statistics.delta.",
    )
