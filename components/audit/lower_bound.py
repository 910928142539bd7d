"""A lower bound on epsilon from one run, by guessing which canaries took part.

Steinke, Nasr, Jagielski, 2023, "Privacy Auditing with One (1) Training Run", theorem 5.2: a fair
coin decides about each of m canaries. Whoever sees the output of an (epsilon, delta)-DP mechanism
and makes r guesses about these coins, abstaining from the others, has v or more of them right with
a probability of at most

    P[W >= v] + 2 m delta max over i in 1..m of P[v > W >= v - i] / i,

where W is the number of successes in r trials with probability e^epsilon / (1 + e^epsilon): nothing
does better than randomized response but for delta. Where that is below 1 - confidence, the
mechanism is not (epsilon, delta)-DP, or the guesses were lucky beyond that chance. It assumes
coins that are fair and independent, and that r and the statistic were fixed before it was seen.
"""

import math

import numpy as np
from scipy import stats

SOURCE = "Steinke, Nasr, Jagielski (2023), Privacy Auditing with One (1) Training Run, theorem 5.2"

_PRECISION = 1e-6  # of epsilon


def number_of_guesses(canaries: int, share: float) -> int:
    """How many guesses are made: an even number, as many for `in` as for `out`."""
    return 2 * math.floor(share * canaries / 2 + 1e-9)


def correct_guesses(statistic: np.ndarray, included: np.ndarray, guesses: int) -> int:
    """How many guesses are right, if the canaries with the largest statistic are said to be in.

    Args:
      statistic: float [canaries].
      included: bool [canaries], the coins.
      guesses: even; half of them go to the largest statistics, half to the smallest. Of equal ones
        the order of canaries decides, which tells nothing about coins.
    """
    order = np.argsort(statistic, kind="stable")
    half = guesses // 2
    said_out, said_in = order[:half], order[len(order) - half :]
    return int(np.sum(~included[said_out]) + np.sum(included[said_in]))


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The most likely that so many guesses, or more, are right under (epsilon, delta)-DP.

    >>> p_value(100, 10, 10, 0.0, 0.0) == 2**-10
    True
    """
    probability = 1 / (1 + math.exp(-epsilon))
    at_least = float(stats.binom.sf(correct - 1, guesses, probability))
    if correct == 0 or delta == 0.0:
        return at_least
    fewer = np.arange(1, correct + 1)  # more would not add to the probability below
    just_below = np.cumsum(stats.binom.pmf(correct - fewer, guesses, probability))
    return min(1.0, at_least + 2 * canaries * delta * float(np.max(just_below / fewer)))


def epsilon_lower_bound(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """The largest epsilon (but for 1e-6) that so many right guesses speak against.

    A mechanism with a smaller epsilon has also the larger one, so each epsilon that is refused
    refuses all below it, and bisection ends at one that is refused; or at 0.
    """

    def refused(epsilon: float) -> bool:
        return p_value(canaries, guesses, correct, epsilon, delta) < 1 - confidence

    if not refused(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refused(high):
        low, high = high, 2 * high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return low


def ceiling(canaries: int, share: float, delta: float, confidence: float) -> float:
    """The bound if every guess were right: more than that, so many canaries cannot show.

    >>> round(ceiling(200, 0.5, 1e-5, 0.95), 2)
    3.49
    """
    guesses = number_of_guesses(canaries, share)
    return epsilon_lower_bound(canaries, guesses, guesses, delta, confidence)
