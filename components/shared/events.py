"""What was released, as JSON: dp_accounting events in ledgers and budget files, and back.

    {"kind": "nothing"}
    {"kind": "gaussian", "noise_multiplier": 1.2}
    {"kind": "poisson_sampled", "probability": 0.1, "event": ...}
    {"kind": "repeated", "count": 100, "event": ...}
    {"kind": "composed", "events": [...]}

(dp_accounting's own named tuples carry names of its classes, which a later version may change.)
"""

import math
from typing import Any

import dp_accounting

from privet.components.shared.errors import PrivacyError


def to_json(event: dp_accounting.DpEvent) -> dict[str, Any]:
    """An event as plain values.

    >>> to_json(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(2.0), 3))
    {'kind': 'repeated', 'count': 3, 'event': {'kind': 'gaussian', 'noise_multiplier': 2.0}}

    Raises:
      PrivacyError: an event of a kind that Privet does not make.
    """
    match event:
        case dp_accounting.NoOpDpEvent():
            return {"kind": "nothing"}
        case dp_accounting.GaussianDpEvent():
            return {"kind": "gaussian", "noise_multiplier": float(event.noise_multiplier)}
        case dp_accounting.PoissonSampledDpEvent():
            return {
                "kind": "poisson_sampled",
                "probability": float(event.sampling_probability),
                "event": to_json(event.event),
            }
        case dp_accounting.SelfComposedDpEvent():
            return {"kind": "repeated", "count": int(event.count), "event": to_json(event.event)}
        case dp_accounting.ComposedDpEvent():
            return {"kind": "composed", "events": [to_json(part) for part in event.events]}
        case _:
            raise PrivacyError(f"there is no way to write down what {event} spends")


def from_json(content: Any) -> dp_accounting.DpEvent:
    """The event that `to_json` wrote.

    Raises:
      PrivacyError: it is none, or has a number that no mechanism has.
    """
    match content:
        case {"kind": "nothing"}:
            return dp_accounting.NoOpDpEvent()
        case {"kind": "gaussian", "noise_multiplier": int() | float() as noise} if (
            0 <= noise < math.inf
        ):
            return dp_accounting.GaussianDpEvent(float(noise))
        case {
            "kind": "poisson_sampled",
            "probability": int() | float() as probability,
            "event": inner,
        } if 0 <= probability <= 1:
            return dp_accounting.PoissonSampledDpEvent(float(probability), from_json(inner))
        case {"kind": "repeated", "count": int() as count, "event": inner} if count >= 1:
            return dp_accounting.SelfComposedDpEvent(from_json(inner), count)
        case {"kind": "composed", "events": [*parts]}:
            return dp_accounting.ComposedDpEvent([from_json(part) for part in parts])
        case _:
            raise PrivacyError(
                f"{str(content)[:200]} is no event that Privet writes, so what was spent cannot be "
                "told. Put the file back as it was."
            )
