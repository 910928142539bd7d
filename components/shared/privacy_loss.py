"""Epsilon of what was released, and the least noise that stays within a target.

Epsilon is computed by privacy loss distributions (PLD, numerically exact for these mechanisms,
always rounded up: Koskela, Jälkö, Honkela, 2020; Doroshenko et al., 2022). Neighbouring data
sets differ in one whole client, added or removed.
"""

import math
from collections.abc import Callable

import dp_accounting
from dp_accounting import pld, rdp

from privet.components.shared.errors import ConfigError

RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
NOTHING = dp_accounting.NoOpDpEvent()
"""The event of having released nothing."""

_GRID = 1e-3  # noise multipliers are rounded up to this grid: a stated value is an exact one
_MOST_NOISE = 1e6  # more than this is no use, and no target needs it but one spent already


def epsilon_of(event: dp_accounting.DpEvent, delta: float, lost: float = 0.0) -> float:
    """Epsilon of an event by PLD.

    Args:
      event: what was released.
      delta: probability of failure.
      lost: chance of something else having been released, whatever the data: it is taken from
        delta (see delta_left).
    """
    accountant = pld.PLDAccountant(RELATION).compose(event)
    return _epsilon(accountant.get_epsilon, delta, lost)


def epsilon_by_rdp(event: dp_accounting.DpEvent, delta: float, lost: float = 0.0) -> float:
    """The same by Rényi DP (Mironov, 2017): an independent, looser bound."""
    accountant = rdp.RdpAccountant(neighboring_relation=RELATION).compose(event)
    return _epsilon(accountant.get_epsilon, delta, lost)


def delta_left(epsilon: float, delta: float, lost: float) -> float:
    """What is left of delta for a mechanism that is something else with probability `lost`.

    Let M' equal M but for outcomes of probability lost, under either data set. Then P[M' in O] <=
    P[M in O] + lost <= e^epsilon P[M in O] + d + lost <= e^epsilon (P[M' in O] + lost) + d + lost
    (with the second P under the other data set): M' is (epsilon, d + (1 + e^epsilon) lost)-DP
    if M is (epsilon, d)-DP.
    """
    return delta - (1 + math.exp(min(epsilon, 700.0))) * lost if lost else delta


def _epsilon(epsilon_at: Callable[[float], float], delta: float, lost: float) -> float:
    """The least epsilon (almost) that holds with what it leaves of delta; it may be infinite."""
    epsilon = epsilon_at(delta)
    while lost:
        left = delta_left(epsilon, delta, lost)
        needed = epsilon_at(left) if left > 0 else math.inf
        if needed <= epsilon or math.isinf(needed):
            return max(needed, epsilon)
        epsilon = needed * (1 + 1e-6)
    return epsilon


def in_sequence(*events: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
    """The composition of events, equal neighbours joined; those of nothing left out.

    >>> in_sequence(NOTHING, dp_accounting.GaussianDpEvent(2.0))
    GaussianDpEvent(noise_multiplier=2.0)
    """
    builder = dp_accounting.DpEventBuilder()
    for event in events:
        parts = event.events if isinstance(event, dp_accounting.ComposedDpEvent) else [event]
        for part in parts:
            builder.compose(part)
    return builder.build()


def gaussians(noise_multiplier: float, count: int) -> dp_accounting.DpEvent:
    """The event of `count` Gaussian mechanisms over the same clients."""
    return dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(noise_multiplier), count)


def least_noise(
    event: Callable[[float], dp_accounting.DpEvent],
    epsilon: float,
    delta: float,
    *,
    before: dp_accounting.DpEvent = NOTHING,
    lost: float = 0.0,
    advice: str,
) -> float:
    """The least noise multiplier (on a grid) that keeps an event within epsilon.

    Rényi DP, which is quick and looser, brackets the answer; PLD, which is slow at noise far too
    small, then only looks close by.

    Args:
      event: of a noise multiplier.
      epsilon, delta: the target.
      before: what the same clients have spent already; the target covers both.
      lost: chance of the mechanism being another one; see epsilon_of.
      advice: what to change when nothing reaches the target.

    Raises:
      ConfigError: no noise multiplier reaches the target.
    """

    left = delta_left(epsilon, delta, lost)
    if left <= 0:
        raise ConfigError(
            f"cohorts are cut with probability {lost:.2g}, which leaves nothing of delta={delta}. "
            "Raise train.sampling.max_cohort_size."
        )

    def spent(noise: float) -> float:
        return epsilon_of(in_sequence(before, event(noise)), left)

    try:
        enough = dp_accounting.calibrate_dp_mechanism(
            lambda: rdp.RdpAccountant(neighboring_relation=RELATION),
            event,
            epsilon,
            left,
            tol=0.01,
        )
        while spent(enough) > epsilon:  # only what was spent before can make it so
            if enough > _MOST_NOISE:
                raise ValueError(f"epsilon={epsilon_of(before, delta):.4g} is spent before")
            enough *= 2
        too_little = enough * 0.8
        while spent(too_little) <= epsilon:
            enough, too_little = too_little, too_little * 0.8
        found = dp_accounting.calibrate_dp_mechanism(
            lambda: pld.PLDAccountant(RELATION),
            lambda noise: in_sequence(before, event(noise)),
            epsilon,
            left,
            dp_accounting.ExplicitBracketInterval(too_little, enough),
            tol=_GRID / 4,
        )
    except (dp_accounting.mechanism_calibration.NoBracketIntervalFoundError, ValueError) as error:
        raise ConfigError(
            f"no noise multiplier reaches epsilon={epsilon} at delta={delta} ({error}). {advice}"
        ) from error
    steps = math.ceil(found / _GRID)
    while spent(steps * _GRID) > epsilon:
        steps += 1  # the search meets its target only up to its tolerance
    return steps * _GRID
