"""Epsilon of Gaussian compositions against the analytic value, and the least noise for one."""

import math
from collections.abc import Callable

import dp_accounting
import pytest
from scipy import stats

from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import (
    COARSE,
    NOTHING,
    WHOLE_ORDERS,
    enough_noise,
    epsilon_by_rdp,
    epsilon_of,
    gaussians,
    in_sequence,
    least_noise,
    noise_by_rdp,
)

DELTA = 1e-6


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Balle, Wang, 2018, "Improving the Gaussian Mechanism", Theorem 8."""

    def below(z: float) -> float:
        return 0.5 * math.erfc(-z / math.sqrt(2))

    half = 1 / (2 * noise)
    return below(half - epsilon * noise) - math.exp(epsilon) * below(-half - epsilon * noise)


@pytest.mark.parametrize(("noise", "count"), [(4.0, 1), (10.349, 6), (30.0, 100)])
def test_gaussians_spend_what_one_of_less_noise_spends(noise: float, count: int) -> None:
    # m mechanisms of multiplier z are one of multiplier z / sqrt(m).
    epsilon, one = epsilon_of(gaussians(noise, count), DELTA), noise / math.sqrt(count)

    assert gaussian_delta(epsilon, one) <= DELTA < gaussian_delta(epsilon - 0.002, one)


@pytest.mark.parametrize("count", [1, 6, 40])
def test_least_noise_is_the_analytic_one(count: int) -> None:
    noise = least_noise(lambda one: gaussians(one, count), 1.0, DELTA, advice="")
    single = noise / math.sqrt(count)

    assert gaussian_delta(1.0, single) <= DELTA < gaussian_delta(1.0, single * 0.999)
    assert noise == pytest.approx(round(noise, 3), abs=1e-12)


def test_published_calibration_is_reached() -> None:
    # The classic bound sqrt(2 ln(1.25 / delta)) / epsilon (Dwork, Roth, 2014) is never needed.
    noise = least_noise(lambda one: gaussians(one, 1), 1.0, 1e-5, advice="")

    assert noise == pytest.approx(3.7306, abs=0.002)  # analytic (Balle, Wang, 2018)
    assert noise < math.sqrt(2 * math.log(1.25 / 1e-5))  # 4.84


def sampled(noise: float) -> dp_accounting.DpEvent:
    """100 rounds of 120 of 3,383 clients."""
    one = dp_accounting.PoissonSampledDpEvent(120 / 3383, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(one, 100)


def test_least_noise_under_sampling_is_the_least_of_its_grid() -> None:
    noise = least_noise(sampled, 0.5, 1e-5, advice="")

    assert noise == pytest.approx(2.746)
    assert epsilon_of(sampled(noise), 1e-5) <= 0.5 < epsilon_of(sampled(noise - 1e-3), 1e-5)


def test_quicker_searches_keep_the_target_too() -> None:
    least = least_noise(sampled, 0.5, 1e-5, advice="")
    close = enough_noise(sampled, 0.5, 1e-5)
    loose = noise_by_rdp(sampled, 0.5, 1e-5)

    assert least <= close < 1.02 * least
    assert close < loose < 1.15 * least
    assert epsilon_of(sampled(close), 1e-5) <= 0.5
    assert epsilon_by_rdp(sampled(loose), 1e-5) <= 0.51  # it was searched to 1/100


def test_longer_intervals_and_fewer_orders_give_upper_bounds() -> None:
    tight = epsilon_of(sampled(1.2), 1e-5)
    by_interval = [epsilon_of(sampled(1.2), 1e-5, interval=one) for one in (COARSE, 1e-2)]
    by_orders = [epsilon_by_rdp(sampled(1.2), 1e-5, orders=one) for one in (None, WHOLE_ORDERS)]

    assert tight < by_interval[0] < tight * 1.0002
    assert by_interval[0] < by_interval[1] < tight * 1.01
    assert by_interval[1] < by_orders[0] < by_orders[1]


@pytest.mark.parametrize("search", [enough_noise, noise_by_rdp])
def test_what_no_noise_reaches_is_told(search: Callable[..., float]) -> None:
    with pytest.raises(ConfigError, match=r"reaches epsilon=1\.0 .*Raise epsilon or delta"):
        search(lambda noise: gaussians(0.5, 1), 1.0, 1e-5)


def test_epsilon_of_next_to_no_noise_fits_into_memory() -> None:
    # At intervals of 1e-4 this would take some eighty gigabytes.
    epsilon, delta = epsilon_of(gaussians(0.001, 1), 1e-5), 1e-5
    shift = 1000.0  # delta(epsilon) of a Gaussian mechanism: Balle and Wang, 2018, theorem 8
    exact = shift**2 / 2 - shift * stats.norm.ppf(delta)
    assert exact * (1 - 1e-3) < epsilon < exact * (1 + 1e-3)


def test_least_noise_after_something_else_covers_both() -> None:
    before = gaussians(8.0, 1)
    noise = least_noise(lambda one: gaussians(one, 4), 1.0, DELTA, before=before, advice="")
    both = (1 / 8.0**2 + 4 / noise**2) ** -0.5

    assert gaussian_delta(1.0, both) <= DELTA < gaussian_delta(1.0, both * 0.999)


def test_target_that_was_spent_before_is_out_of_reach() -> None:
    before = gaussians(8.0, 1)
    target = epsilon_of(before, DELTA) - 0.01
    with pytest.raises(ConfigError, match=r"is spent before\). Ask for less\."):
        least_noise(
            lambda one: gaussians(one, 4), target, DELTA, before=before, advice="Ask for less."
        )


def test_sequence_joins_equal_neighbours_and_leaves_nothing_out() -> None:
    one = dp_accounting.GaussianDpEvent(2.0)

    assert in_sequence(NOTHING, NOTHING) == NOTHING
    assert in_sequence(one, NOTHING, one) == gaussians(2.0, 2)
    assert in_sequence(in_sequence(gaussians(2.0, 3), gaussians(5.0, 1)), one) == (
        dp_accounting.ComposedDpEvent([gaussians(2.0, 3), dp_accounting.GaussianDpEvent(5.0), one])
    )
