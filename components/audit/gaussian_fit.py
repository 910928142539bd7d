"""Epsilon between two Gaussians: how an empirical estimate turns statistics into a number.

Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar, 2023, "One-shot Empirical Privacy Estimation for
Federated Learning": the statistics of canaries that took part and of those that did not are taken
for samples of two Gaussians, and epsilon is that of telling these two apart. It is an estimate:
nothing bounds its error, and it is wrong where the statistics are not Gaussian.
"""

import math

import numpy as np
from scipy import optimize, special

_LEAST_RATIO = 1e-4  # of two deviations: float64 does not tell the densities apart beyond it


def estimate_epsilon(included: np.ndarray, excluded: np.ndarray, delta: float) -> float | None:
    """Epsilon at delta of the Gaussians with the means and variances of two samples.

    Args:
      included, excluded: float [canaries].
      delta: above 0.

    Returns:
      The estimate; None where a sample has no variance, or none beside the other's.
    """
    if min(len(included), len(excluded)) < 2:
        return None
    deviation, other = (float(np.std(sample, ddof=1)) for sample in (included, excluded))
    if min(deviation, other) <= _LEAST_RATIO * max(deviation, other):
        return None
    shift = float(np.mean(included) - np.mean(excluded))
    return epsilon_between(shift / other, deviation / other, delta)


def epsilon_between(mean: float, deviation: float, delta: float) -> float:
    """The least epsilon of which neither Gaussian exceeds the other by more than delta.

    Args:
      mean, deviation: of the one; the other is N(0, 1).
      delta: above 0.
    """

    def exceeds(epsilon: float) -> float:
        there = hockey_stick(mean, deviation, epsilon)
        back = hockey_stick(-mean / deviation, 1 / deviation, epsilon)
        return max(there, back) - delta

    if exceeds(0.0) <= 0.0:
        return 0.0
    most = 1.0
    while exceeds(most) > 0.0:
        most *= 2
    return float(optimize.brentq(exceeds, 0.0, most))


def hockey_stick(mean: float, deviation: float, epsilon: float) -> float:
    """The least delta for which P <= e^epsilon Q + delta, of P = N(mean, deviation^2), Q = N(0, 1).

    It is P[R] - e^epsilon Q[R], where R is the set on which the log ratio of densities, a
    polynomial a x^2 + b x + c + epsilon, is above epsilon.
    """
    variance = deviation**2
    a = (1 - 1 / variance) / 2
    b = mean / variance
    c = -(mean**2) / (2 * variance) - math.log(deviation) - epsilon
    discriminant = b**2 - 4 * a * c
    if discriminant <= 0.0:
        return 0.0
    q = -(b + math.copysign(math.sqrt(discriminant), b)) / 2  # no difference of like numbers
    far = q / a if a else math.copysign(math.inf, q)
    low, high = sorted((c / q, far))
    inside = a < 0
    log_p = _log_mass((low - mean) / deviation, (high - mean) / deviation, inside)
    log_q = _log_mass(low, high, inside)
    above = min(0.0, epsilon + log_q - log_p)  # far out in the tails rounding makes more of it
    return max(0.0, -math.exp(log_p) * math.expm1(above))


def _log_mass(low: float, high: float, inside: bool) -> float:
    """The log of the mass of N(0, 1) between two numbers, or outside of them."""
    below, above = float(special.log_ndtr(low)), float(special.log_ndtr(-high))
    if not inside:
        return float(np.logaddexp(below, above))
    if low > 0.0:  # by the tail that is smaller, or both ends would be 1
        below, above = above, below
        low, high = -high, -low
    end = float(special.log_ndtr(high))
    return end + math.log1p(-math.exp(below - end))
