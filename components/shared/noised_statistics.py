"""Statistics with user-level noise: the noise itself, and what a release of them spent.

Sums are whole numbers and the noise is rounded to whole numbers as well: sum + round(noise) =
round(sum + noise), which only post-processes the Gaussian mechanism and leaves no trace of the
sum in the low bits of a float (Mironov, 2012, "On Significance of the Least Significant Bits For
Differential Privacy").

Ingestion writes `mechanism` into statistics.json; training, the plan and the evaluation's release
rebuild its event from there and compose it with their own.
"""

import math
import secrets
from collections.abc import Mapping
from typing import Any

import dp_accounting
import numpy as np

from privet.components.shared import privacy_loss
from privet.components.shared.errors import PrivacyError


def describe(noise_multiplier: float, count: int) -> dict[str, Any]:
    """The part of `mechanism` that `event_of` reads.

    Args:
      noise_multiplier: standard deviation of the noise in units of each statistic's sensitivity.
      count: number of statistics, each one a Gaussian mechanism over the same clients.
    """
    return {"kind": "gaussian", "noise_multiplier": noise_multiplier, "compositions": count}


def event_of(statistics: Mapping[str, Any]) -> dp_accounting.DpEvent:
    """The event of a release; that of nothing where the statistics are exact.

    Args:
      statistics: the content of statistics.json.

    Raises:
      PrivacyError: the statistics claim privacy by a mechanism that is not known.

    >>> event_of({"private": True, "mechanism": describe(4.0, 3)})
    SelfComposedDpEvent(event=GaussianDpEvent(noise_multiplier=4.0), count=3)
    """
    if statistics.get("private") is not True:
        return privacy_loss.NOTHING
    match statistics.get("mechanism"):
        case {
            "kind": "gaussian",
            "noise_multiplier": int() | float() as noise,
            "compositions": int() as count,
        } if noise > 0 and count >= 1:
            return privacy_loss.gaussians(float(noise), count)
        case other:
            raise PrivacyError(
                "statistics.json says that it is private, by a mechanism that is not known "
                f"({other}), so what it spent cannot be told. Ingest the data again."
            )


def check_delta(key: str, delta: float, clients: int) -> None:
    """Refuses a delta that would allow publishing one client's data outright.

    Args:
      key: of the configuration, for the message.
      delta: of the release.
      clients: whom it is about.

    Raises:
      PrivacyError: delta >= 1 / clients.
    """
    if delta * clients >= 1:
        raise PrivacyError(
            f"{key}={delta} is not below 1 / {clients} clients: a mechanism that publishes one "
            f"client in full would satisfy it. Set delta below {1 / clients:.1e}."
        )


def mean_json(
    scaled_sum: float, count: int, bounds: tuple[float, float], noise: float
) -> dict[str, float | None]:
    """A mean from two noised sums, and its standard error by the delta method.

    Args:
      scaled_sum: noised sum of the values, each mapped to [-1, 1].
      count: their noised number.
      bounds: public range.
      noise: standard deviation of the noise in either.
    """
    if count <= noise:  # the number itself may be nothing but noise
        return {"mean": None, "mean_standard_error": None}
    low, high = bounds
    scaled = min(max(scaled_sum / count, -1.0), 1.0)
    half = (high - low) / 2
    return {
        "mean": min(max(low + half + half * scaled, low), high),
        "mean_standard_error": half * noise * math.sqrt(1 + scaled**2) / count,
    }


def rounded_noise(
    deviation: float, count: int, generator: np.random.Generator | None
) -> np.ndarray:
    """Gaussian noise, rounded to whole numbers: int64 [count]."""
    normals = secret_normals(count) if generator is None else generator.standard_normal(count)
    return np.rint(deviation * normals).astype(np.int64)


def standard_error(deviation: float) -> float:
    """Of rounded noise; rounding adds the variance of a uniform number of width 1."""
    return math.sqrt(deviation**2 + 1 / 12)


def secret_normals(count: int) -> np.ndarray:
    """Standard normal numbers from the operating system's cryptographic generator.

    Box and Muller, 1958, "A Note on the Generation of Random Normal Deviates", from 128 bits for
    each number. NumPy's generators are not cryptographic: who knows some of the noise could work
    out the rest. No number is beyond 9.5, which a Gaussian is with probability 2e-21.

    Returns:
      float64 [count].
    """
    bits = np.frombuffer(secrets.token_bytes(16 * count), np.uint64).reshape(2, count)
    first, second = (bits.astype(np.float64) + 0.5) * 2.0**-64  # in (0, 1]
    return np.sqrt(-2 * np.log(first)) * np.cos(2 * math.pi * second)
