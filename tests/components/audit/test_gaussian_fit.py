"""Epsilon between two Gaussians, against other ways to compute it."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from scipy import integrate, stats

from privet.components.audit.gaussian_fit import (
    epsilon_between,
    estimate_epsilon,
    hockey_stick,
)


def test_no_spread_beside_the_other_sample_is_no_error_and_no_estimate() -> None:
    one, other = np.array([0.5, 0.5 + 1e-12]), np.array([0.1, -0.1])
    assert estimate_epsilon(one, other, 1e-5) is None
    assert estimate_epsilon(other, one, 1e-5) is None
    assert math.isfinite(epsilon_between(-6.2e8, 5.2e-4, 1e-10))  # float64 has nothing left here


@pytest.mark.parametrize("shift", [0.25, 1.0, 3.0])
def test_equal_variances_are_the_gaussian_mechanism(shift: float) -> None:
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(dp_accounting.GaussianDpEvent(1 / shift))
    wanted = accountant.get_epsilon(1e-5)  # never below the exact value

    assert epsilon_between(shift, 1.0, 1e-5) == pytest.approx(wanted, rel=1e-3)
    assert epsilon_between(-shift, 1.0, 1e-5) == epsilon_between(shift, 1.0, 1e-5)
    assert epsilon_between(shift, 1 + 1e-9, 1e-5) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("mean", "deviation", "epsilon"),
    [(0.5, 1.3, 0.7), (2.0, 0.4, 0.2), (-1.0, 0.8, 1.0), (0.0, 2.0, 0.1), (0.0, 0.5, 0.1)],
)
def test_delta_is_the_integral_of_what_exceeds(
    mean: float, deviation: float, epsilon: float
) -> None:
    def excess(x: float) -> float:
        p, q = stats.norm.pdf(x, mean, deviation), stats.norm.pdf(x)
        return max(0.0, p - math.exp(epsilon) * q)

    wanted, _ = integrate.quad(excess, -30, 30, points=np.linspace(-4, 4, 33), limit=500)
    assert hockey_stick(mean, deviation, epsilon) == pytest.approx(wanted, abs=1e-7)


def test_both_directions_count() -> None:
    """A wider Gaussian is told from a narrow one by its tails, in which the other has nothing."""
    wide, narrow = epsilon_between(0.0, 2.0, 1e-5), epsilon_between(0.0, 0.5, 1e-5)

    assert wide == pytest.approx(narrow)
    # P[|x| > t] of the wide one is about 1e-5 where t = 8.83: there the narrow one has e^-39.
    assert 20 < wide < 40


def test_equal_ones_have_no_epsilon_and_far_ones_a_finite_one() -> None:
    assert epsilon_between(0.0, 1.0, 1e-5) == 0.0
    assert epsilon_between(1000.0, 1.0, 1e-5) == pytest.approx(1000**2 / 2, rel=0.02)
    assert math.isfinite(epsilon_between(50.0, 0.9, 1e-5))


def test_estimate_comes_near_what_the_samples_were_drawn_from() -> None:
    """Of 20,000 numbers the shift is off by 0.01 or so, and epsilon by about 0.05."""
    generator = np.random.default_rng(0)
    included, excluded = generator.normal([[1.0], [0.0]], size=(2, 20_000)) * 0.01 + 7
    found = estimate_epsilon(included, excluded, 1e-5)

    assert found == pytest.approx(epsilon_between(1.0, 1.0, 1e-5), abs=0.4)


@pytest.mark.parametrize(
    ("included", "excluded"), [([1.0], [0.0, 1.0]), ([1.0, 1.0], [0.0, 1.0]), ([], [0.0, 1.0])]
)
def test_without_variance_there_is_no_estimate(
    included: list[float], excluded: list[float]
) -> None:
    assert estimate_epsilon(np.array(included), np.array(excluded), 1e-5) is None
