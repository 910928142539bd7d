"""What a release of noised statistics spent, as statistics.json tells it to the ledger.

Ingestion writes `mechanism` into statistics.json; training and the plan rebuild its event from
there and compose it with the rounds.
"""

from collections.abc import Mapping
from typing import Any

import dp_accounting

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
