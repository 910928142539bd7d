"""Epsilon of what was released, and the least noise that stays within a target.

Epsilon is computed by privacy loss distributions (PLD, numerically exact for these mechanisms,
always rounded up: Koskela, Jälkö, Honkela, 2020; Doroshenko et al., 2022). Neighbouring data
sets differ in one whole client, added or removed.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import dp_accounting
from dp_accounting import pld, rdp

from privet.components.shared.errors import ConfigError

RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
NOTHING = dp_accounting.NoOpDpEvent()
"""The event of having released nothing."""

_STEPS = 1000  # to one: noise multipliers are rounded up to such a grid, so what is stated is exact
_INTERVAL = 1e-4  # between the losses that PLD tells apart: dp_accounting's own
_PARTS = 1e6  # of a large epsilon that are told apart: any more would not fit into memory
_RAISE = "Raise epsilon or delta, or lower rounds."
_MOST_NOISE = 1e6  # more than this is no use, and no target needs it but one spent already

COARSE = 1e-3
"""A longer interval for `epsilon_of`: ten times as quick, and 0.01 percent looser as a rule (more
where epsilon is small and rounds are many)."""

WHOLE_ORDERS = tuple(
    float(order) for order in rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS if order % 1 == 0
)
"""Orders of Rényi DP that are quick to compute under sampling. Any orders give an upper bound."""


def epsilon_of(
    event: dp_accounting.DpEvent, delta: float, lost: float = 0.0, *, interval: float = _INTERVAL
) -> float:
    """Epsilon of an event by PLD.

    Args:
      event: what was released.
      delta: probability of failure.
      lost: chance of something else having been released, whatever the data: it is taken from
        delta (see delta_left).
      interval: between the losses that are told apart, at least: of an epsilon above 100 they are
        about a millionth apart. Every interval gives an upper bound; a longer one is quicker and
        looser.
    """
    about = epsilon_by_rdp(event, delta, lost, orders=WHOLE_ORDERS)
    if math.isfinite(about):
        interval = max(interval, about / _PARTS)
    accountant = pld.PLDAccountant(RELATION, interval).compose(event)
    return _epsilon(accountant.get_epsilon, delta, lost)


def epsilon_by_rdp(
    event: dp_accounting.DpEvent,
    delta: float,
    lost: float = 0.0,
    *,
    orders: Sequence[float] | None = None,
) -> float:
    """The same by Rényi DP (Mironov, 2017): an independent, looser bound."""
    accountant = rdp.RdpAccountant(orders, RELATION).compose(event)
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

    Each search narrows the next: Rényi DP, quick and looser, brackets the answer; PLD of longer
    intervals finds it but for a few steps; PLD as the ledger has it settles these.

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

    def within(steps: int) -> bool:
        if steps > 2 * _MOST_NOISE * _STEPS:
            raise ValueError("more noise does not lower it")
        return epsilon_of(in_sequence(before, event(steps / _STEPS)), left) <= epsilon

    with _reaching(epsilon, delta, advice):
        close = _close_to_least(event, epsilon, left, before, COARSE, tolerance=0.25 / _STEPS)
        return _first_from(within, math.ceil(close * _STEPS)) / _STEPS


def enough_noise(
    event: Callable[[float], dp_accounting.DpEvent],
    epsilon: float,
    delta: float,
    *,
    before: dp_accounting.DpEvent = NOTHING,
) -> float:
    """A noise multiplier that keeps an event within epsilon, about a percent above the least.

    For comparisons: it takes a tenth of the time of `least_noise`, whose arguments it has. PLD has
    intervals here that are a four hundredth of epsilon.

    Raises:
      ConfigError: no noise multiplier reaches the target.
    """
    interval = max(epsilon / 400, _INTERVAL)
    with _reaching(epsilon, delta, _RAISE):
        noise = _close_to_least(event, epsilon, delta, before, interval, tolerance=None)
    noise = math.ceil(noise * _STEPS) / _STEPS
    while epsilon_of(in_sequence(before, event(noise)), delta, interval=interval) > epsilon:
        noise = math.ceil(noise * 1.001 * _STEPS) / _STEPS
    return noise


def noise_by_rdp(
    event: Callable[[float], dp_accounting.DpEvent], epsilon: float, delta: float
) -> float:
    """A noise multiplier that Rényi DP finds within epsilon, some percent above the least.

    Raises:
      ConfigError: no noise multiplier reaches the target.
    """
    with _reaching(epsilon, delta, _RAISE):
        return _noise_by_rdp(event, epsilon, delta)


def _noise_by_rdp(
    event: Callable[[float], dp_accounting.DpEvent], epsilon: float, delta: float
) -> float:
    return float(
        dp_accounting.calibrate_dp_mechanism(
            lambda: rdp.RdpAccountant(WHOLE_ORDERS, RELATION), event, epsilon, delta, tol=0.01
        )
    )


@contextlib.contextmanager
def _reaching(epsilon: float, delta: float, advice: str) -> Iterator[None]:
    """Says of a calibration that fails what was wanted and what to change."""
    try:
        yield
    except (dp_accounting.mechanism_calibration.NoBracketIntervalFoundError, ValueError) as error:
        raise ConfigError(
            f"no noise multiplier reaches epsilon={epsilon} at delta={delta} ({error}). {advice}"
        ) from error


def _close_to_least(
    event: Callable[[float], dp_accounting.DpEvent],
    epsilon: float,
    delta: float,
    before: dp_accounting.DpEvent,
    interval: float,
    tolerance: float | None,
) -> float:
    """The root of what PLD of longer intervals says; a five hundredth of it by default.

    Raises:
      ValueError, NoBracketIntervalFoundError: there is none.
    """

    def spent(noise: float) -> float:
        return epsilon_of(in_sequence(before, event(noise)), delta, interval=interval)

    enough = _noise_by_rdp(event, epsilon, delta)
    while spent(enough) > epsilon:  # only what was spent before can make it so
        if enough > _MOST_NOISE:
            raise ValueError(f"epsilon={epsilon_of(before, delta):.4g} is spent before")
        enough *= 2
    too_little = enough * 0.8
    while spent(too_little) <= epsilon:
        enough, too_little = too_little, too_little * 0.8
    return float(
        dp_accounting.calibrate_dp_mechanism(
            lambda: pld.PLDAccountant(RELATION, interval),
            lambda noise: in_sequence(before, event(noise)),
            epsilon,
            delta,
            dp_accounting.ExplicitBracketInterval(too_little, enough),
            tol=enough / 500 if tolerance is None else tolerance,
        )
    )


def _first_from(holds: Callable[[int], bool], guess: int) -> int:
    """The least positive number that a monotone condition holds for; two calls if it is the guess.

    >>> _first_from(lambda number: number >= 1000, 900)
    1000
    """
    stride = 1
    if holds(guess):
        fails, enough = guess - 1, guess
        while fails > 0 and holds(fails):
            stride *= 2
            fails, enough = max(fails - stride, 0), fails
    else:
        fails, enough = guess, guess + 1
        while not holds(enough):
            stride *= 2
            fails, enough = enough, enough + stride
    while enough - fails > 1:
        middle = (fails + enough) // 2
        fails, enough = (fails, middle) if holds(middle) else (middle, enough)
    return enough
