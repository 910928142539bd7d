"""Replicates depend on the client alone, and their spread is what theory says."""

import math

import numpy as np

from privet.components.evaluate.bootstrap import client_weights, interval

IDS = [f"client-{number}" for number in range(1000)]


def test_a_client_counts_the_same_whoever_else_is_there() -> None:
    whole = client_weights(IDS, 50, seed=3)

    np.testing.assert_array_equal(whole[:, 40:50], client_weights(IDS[40:50], 50, seed=3))
    assert (whole[1:] != client_weights(IDS, 50, seed=4)[1:]).any()
    assert whole.shape == (51, 1000)
    assert (whole[0] == 1).all()


def test_weights_are_poisson_of_mean_one() -> None:
    weights = client_weights(IDS, 200, seed=0)[1:]

    deviation = 6 / math.sqrt(weights.size)
    assert abs(weights.mean() - 1) < deviation
    assert abs(weights.var() - 1) < deviation * math.sqrt(3)  # its fourth moment less its square
    for count in (0, 1, 2):
        chance = math.exp(-1) / math.factorial(count)
        assert abs((weights == count).mean() - chance) < deviation
    between_clients = np.corrcoef(weights[:, :50].T) - np.eye(50)
    between_replicates = np.corrcoef(weights[:50]) - np.eye(50)
    assert abs(between_clients).max() < 6 / math.sqrt(200)
    assert abs(between_replicates).max() < 6 / math.sqrt(1000)


def test_interval_of_a_mean_is_two_standard_errors_to_each_side() -> None:
    values = np.random.default_rng(0).normal(5, 2, len(IDS))
    weights = client_weights(IDS, 2000, seed=1)
    found = interval(weights @ values / weights.sum(1), len(IDS))
    wanted = 1.96 * 2 / math.sqrt(len(IDS))

    assert found is not None
    np.testing.assert_allclose(np.array(found) - values.mean(), [-wanted, wanted], rtol=0.15)


def test_no_interval_without_replicates_of_one_client_or_of_what_is_undefined() -> None:
    assert interval(np.array([0.5]), 10) is None
    assert interval(np.array([0.5, 0.5, 0.5]), 1) is None
    assert interval(np.array([np.nan, np.nan, np.nan, 1.0]), 10) is None
    assert interval(np.array([2.0, 1.0, 3.0, 2.0]), 10) is not None
