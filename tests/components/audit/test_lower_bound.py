"""The bound from one run: by hand, against published values, and in many runs."""

import functools
import math

import numpy as np
import pytest
from scipy import stats

from privet.components.audit.lower_bound import (
    ceiling,
    correct_guesses,
    epsilon_lower_bound,
    number_of_guesses,
    p_value,
)


def test_pure_bound_of_guesses_that_are_all_right_by_hand() -> None:
    """Ten of ten are right with probability p^10, which is 0.05 at p = 0.05^(1/10)."""
    p = 0.05**0.1
    wanted = math.log(p / (1 - p))
    assert epsilon_lower_bound(500, 10, 10, 0.0, 0.95) == pytest.approx(wanted, abs=2e-6)


def test_pure_p_value_is_the_binomial_tail() -> None:
    assert p_value(3, 3, 2, math.log(2), 0.0) == pytest.approx(3 * (4 / 9) * (1 / 3) + 8 / 27)
    assert p_value(3, 3, 0, 1.0, 0.0) == 1.0


def test_delta_adds_its_term_by_hand() -> None:
    # W of two fair coins is 1 with 1/2 and 0 with 1/4: the largest of 1/2 and (3/4)/2 is 1/2.
    assert p_value(5, 2, 2, 0.0, 0.01) == pytest.approx(1 / 4 + 2 * 5 * 0.01 / 2)
    assert p_value(5, 2, 2, 0.0, 0.9) == 1.0


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "published"),
    [
        (1000, 100, 75, 1e-4, 0.673),  # appendix D
        (100_000, 1510, 1439, 1e-5, 2.675),  # section 7
    ],
)
def test_published_values(
    canaries: int, guesses: int, correct: int, delta: float, published: float
) -> None:
    found = epsilon_lower_bound(canaries, guesses, correct, delta, 0.95)
    assert found == pytest.approx(published, abs=1e-3)


def test_guesses_no_better_than_coins_bound_nothing() -> None:
    assert epsilon_lower_bound(100, 50, 25, 1e-5, 0.95) == 0.0
    assert epsilon_lower_bound(1, 0, 0, 1e-5, 0.95) == 0.0
    assert ceiling(1, 1.0, 1e-5, 0.95) == 0.0


def test_guesses_go_to_both_ends() -> None:
    statistic = np.array([0.3, -0.1, 0.9, 0.5, 0.0, 0.7])
    included = np.array([True, False, True, False, True, True])

    # Said to be in: 0.9 and 0.7, both right. Said to be out: -0.1, which is, and 0.0, which is not.
    assert correct_guesses(statistic, included, 4) == 3
    assert correct_guesses(statistic, included, 2) == 2
    assert correct_guesses(statistic, included, 0) == 0


def test_number_of_guesses_is_even_and_at_most_the_share() -> None:
    assert [number_of_guesses(count, 0.5) for count in (200, 101, 3, 1)] == [100, 50, 0, 0]
    assert [number_of_guesses(count, 1.0) for count in (200, 101)] == [200, 100]
    assert number_of_guesses(200, 0.07) == 14  # though 0.07 * 200 / 2 is just above 7


def violations(
    epsilon: float, delta: float, *, canaries: int, guesses: int, seen: float
) -> tuple[float, float]:
    """In how many of many runs the bound, with delta and without, exceeds epsilon.

    The mechanism answers for every canary with the truth at probability delta, and says so; else
    with randomized response. That is (epsilon, delta)-DP, with nothing to spare.
    """
    generator = np.random.default_rng(0)
    runs = 4000
    included = generator.random((runs, canaries)) < 0.5
    truth = generator.random((runs, canaries)) < seen
    kept = generator.random((runs, canaries)) < 1 / (1 + math.exp(-epsilon))
    statistic = np.where(truth, 2.0, 1.0) * np.where(included == (truth | kept), 1.0, -1.0)

    @functools.cache
    def exceeds(correct: int, stated: float) -> bool:
        return epsilon_lower_bound(canaries, guesses, correct, stated, 0.95) > epsilon

    correct = [
        correct_guesses(one, coins, guesses) for one, coins in zip(statistic, included, strict=True)
    ]
    with_delta = sum(exceeds(one, delta) for one in correct) / runs
    return with_delta, sum(exceeds(one, 0.0) for one in correct) / runs


def most(share: float) -> float:
    """What a share of 4,000 runs stays below but once in a million."""
    return float(stats.binom.ppf(1 - 1e-6, 4000, share)) / 4000


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_bound_is_valid_for_randomized_response(epsilon: float) -> None:
    found, _ = violations(epsilon, 0.0, canaries=100, guesses=40, seen=0.0)
    assert found <= most(0.05)
    assert found >= 0.01  # randomized response is the worst case, so the bound is tight


def test_bound_is_valid_with_delta_which_the_pure_one_is_not() -> None:
    """Of 200 canaries 2 show the truth, and the eight guesses go to them first."""
    found, pure = violations(0.1, 0.01, canaries=200, guesses=8, seen=0.01)
    assert found <= most(0.05)
    assert pure > 0.1


def test_more_noise_lowers_the_bound() -> None:
    bounds = [epsilon_lower_bound(200, 100, correct, 1e-5, 0.95) for correct in range(101)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == ceiling(200, 0.5, 1e-5, 0.95)
