"""Correlated noise: rows by hand, the matrices that they make, and what these tell of a client."""

import itertools
import math
import pickle

import dp_accounting
import numpy as np
import pytest
import scipy.linalg
import scipy.special
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.components.shared.errors import ConfigError
from privet.components.train.correlated_noise import (
    BandedNoise,
    CorrelatedNoise,
    Row,
    TreeNoise,
    errors,
    noise_matrix,
)

TREE_SPECIAL = dp_accounting.NeighboringRelation.REPLACE_SPECIAL  # zero-out, of the tree event

trees = st.builds(TreeNoise, rounds_between=st.integers(1, 20))
bandeds = st.integers(1, 12).flatmap(
    lambda rounds_between: st.builds(
        BandedNoise,
        rounds_between=st.just(rounds_between),
        bands=st.integers(1, rounds_between),
        momentum=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    )
)


def variances(noise: CorrelatedNoise, rounds: int) -> np.ndarray:
    return errors(noise, rounds) ** 2


def gaussian_epsilon(
    noise: CorrelatedNoise, rounds: int, noise_multiplier: float, delta: float
) -> float:
    """By Rényi DP, of one Gaussian mechanism."""
    one = dp_accounting.GaussianDpEvent(noise_multiplier / noise.sensitivity(rounds))
    return rdp.RdpAccountant().compose(one).get_epsilon(delta)


def stream(noise: CorrelatedNoise, fresh: np.ndarray) -> np.ndarray:
    """What is added in each round: the recurrence as its users run it."""
    kept = np.zeros((noise.slots, *fresh.shape[1:]))
    added = np.empty_like(fresh)
    for step, value in enumerate(fresh):
        row = noise.row(step)
        added[step] = row.scale * value + np.tensordot(row.added, kept, 1)
        if row.slot >= 0:
            kept[row.slot] = row.scale * value + np.tensordot(row.kept, kept, 1)
    return added


# The tree


def complete_nodes(rounds_between: int, rounds: int) -> list[tuple[int, int]]:
    """First round and number of rounds of every node that is complete by then."""
    nodes = []
    for start in range(0, rounds, rounds_between):
        steps = min(rounds_between, rounds - start)
        size = 1
        while size <= steps:
            nodes += [(start + at, size) for at in range(0, steps - size + 1, size)]
            size *= 2
    return nodes


def node_sums(nodes: list[tuple[int, int]], rounds: int) -> np.ndarray:
    """Float64 [nodes, rounds]: 1 where a round is in a node."""
    steps = np.arange(rounds)
    return np.array([(at <= steps) & (steps < at + size) for at, size in nodes], np.float64)


def honaker_weights(nodes: list[tuple[int, int]], rounds_between: int, rounds: int) -> np.ndarray:
    """Float64 [rounds, nodes]: of each node in the estimate of each prefix, by the closed form.

    A node of size 2**k counts in itself, or in one of size 2**top above it, as
    2**-(top - k) / (2 - 2**-top).
    """
    weights = np.zeros((rounds, len(nodes)))
    for step in range(rounds):
        for start in range(0, step + 1, rounds_between):
            left, at = min(rounds_between, step + 1 - start), start
            while left:
                size = 1 << (left.bit_length() - 1)
                for index, (first, own) in enumerate(nodes):
                    if at <= first and first + own <= at + size:
                        weights[step, index] += own / size / (2 - 1 / size)
                at, left = at + size, left - size
    return weights


def test_tree_of_four_rounds_by_hand() -> None:
    noise = TreeNoise(4)
    rows = [noise.row(step) for step in range(4)]

    assert noise.slots == 2
    assert [row.slot for row in rows] == [0, 1, 0, -1]
    # A leaf; (n1 / 2 + n2 / 2 + n12) / (3 / 2), of which n1 is kept; a leaf; the root's
    # (n1 + n2 + n3 + n4) / 4 + (n12 + n34) / 2 + n1234 over 7 / 4, in which the first half's
    # estimate has 3 / 2 / 2 / (7 / 4) = 3 / 7 and the third leaf 1 / 4 / (7 / 4) = 1 / 7.
    scales = [1, math.sqrt(1 + 1 / 4) / (3 / 2), 1, math.sqrt(1 + 1 / 4 + 1 / 16) / (7 / 4)]
    np.testing.assert_allclose([row.scale for row in rows], scales)
    np.testing.assert_allclose(
        [row.kept for row in rows], [[0, 0], [1 / 3, 0], [0, 0], [1 / 7, 3 / 7]]
    )
    np.testing.assert_allclose(
        [row.added for row in rows], [[0, 0], [-2 / 3, 0], [0, 0], [-6 / 7, -4 / 7]]
    )


def test_tree_variance_of_the_first_sums_by_hand() -> None:
    pair, four, eight = 2 / 3, 4 / 7, 8 / 15
    expected = [1, pair, pair + 1, four, four + 1, four + pair, four + pair + 1, eight]

    np.testing.assert_allclose(variances(TreeNoise(8), 8), expected)
    np.testing.assert_allclose(variances(TreeNoise(100), 8), expected)


def test_tree_that_restarts_keeps_what_its_last_sum_had() -> None:
    pair = 2 / 3
    np.testing.assert_allclose(
        variances(TreeNoise(2), 6), [1, pair, pair + 1, 2 * pair, 2 * pair + 1, 3 * pair]
    )
    three = pair + 1
    np.testing.assert_allclose(variances(TreeNoise(3), 4), [1, pair, three, three + 1])


@pytest.mark.parametrize("level", range(9))
def test_full_tree_has_honakers_variance(level: int) -> None:
    # Honaker, 2015, "Efficient Use of Differentially Private Binary Trees": 1 / (2 - 2**-k).
    rounds = 2**level
    assert variances(TreeNoise(rounds), rounds)[-1] == pytest.approx(1 / (2 - 2**-level))


@given(noise=trees, rounds=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_tree_noise_is_that_of_estimates_from_its_nodes(noise: TreeNoise, rounds: int) -> None:
    nodes = complete_nodes(noise.rounds_between, rounds)
    weights = honaker_weights(nodes, noise.rounds_between, rounds)
    prefixes = np.cumsum(noise_matrix(noise, rounds), axis=0)

    # What is released is computed from the nodes' noisy sums, which the sensitivity is about ...
    np.testing.assert_allclose(weights @ node_sums(nodes, rounds), np.tri(rounds), atol=1e-12)
    # ... and has their noise.
    np.testing.assert_allclose(prefixes @ prefixes.T, weights @ weights.T, atol=1e-12)


@pytest.mark.parametrize(("rounds_between", "rounds"), [(16, 11), (4, 10), (1, 3)])
def test_tree_covariance_is_that_of_tensorflow_privacy(rounds_between: int, rounds: int) -> None:
    import tensorflow as tf
    from tensorflow_privacy import tree_aggregation

    draws = 4 * rounds

    class BasisVectors(tree_aggregation.ValueGenerator):
        """In place of noise: a vector of its own for each draw."""

        def initialize(self):
            return tf.constant(0)

        def next(self, state):
            return tf.one_hot(state, draws), state + 1

    aggregator = tree_aggregation.EfficientTreeAggregator(BasisVectors())
    state, before, prefixes = aggregator.init_state(), np.zeros(draws), []
    for step in range(rounds):
        if step and step % rounds_between == 0:
            state, before = aggregator.reset_state(state), prefixes[-1]
        of_this_tree, state = aggregator.get_cumsum_and_update(state)
        prefixes.append(before + of_this_tree.numpy())
    theirs = np.array(prefixes)
    ours = np.cumsum(noise_matrix(TreeNoise(rounds_between), rounds), axis=0)

    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-6)


@given(noise=trees, rounds=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_tree_sensitivity_is_the_largest_of_all_places(noise: TreeNoise, rounds: int) -> None:
    between = noise.rounds_between
    nodes = node_sums(complete_nodes(between, rounds), rounds)
    places = [np.linalg.norm(nodes[:, first::between].sum(axis=1)) for first in range(between)]
    released = np.linalg.inv(noise_matrix(noise, rounds))
    tells = [np.linalg.norm(released[:, first::between].sum(axis=1)) for first in range(between)]

    assert noise.sensitivity(rounds) == pytest.approx(max(places))
    assert max(tells) <= noise.sensitivity(rounds) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("rounds_between", "rounds", "squared"),
    [(1, 1, 1), (1, 5, 5), (4, 1, 1), (4, 3, 2), (4, 4, 3), (4, 8, 6), (4, 10, 8), (100, 100, 7)],
)
def test_tree_sensitivity_counts_the_nodes_of_a_client(
    rounds_between: int, rounds: int, squared: int
) -> None:
    assert TreeNoise(rounds_between).sensitivity(rounds) ** 2 == pytest.approx(squared)


def test_a_client_may_be_anywhere_in_each_tree() -> None:
    noise, rounds = TreeNoise(5), 13
    nodes = node_sums(complete_nodes(5, rounds), rounds)
    places = itertools.product(range(5), range(5, 10), range(10, 13))
    norms = [np.linalg.norm(nodes[:, list(each)].sum(axis=1)) for each in places]

    assert max(norms) == pytest.approx(noise.sensitivity(rounds))


@pytest.mark.parametrize(
    ("rounds_between", "rounds"), [(100, 100), (100, 300), (7, 20), (400, 1600), (64, 65)]
)
def test_tree_spends_what_dp_accounting_says(rounds_between: int, rounds: int) -> None:
    full, last = divmod(rounds, rounds_between)
    steps = [rounds_between] * full + [last] * bool(last)
    event = dp_accounting.ComposedDpEvent(
        [dp_accounting.SingleEpochTreeAggregationDpEvent(5.0, [each]) for each in steps]
    )
    theirs = rdp.RdpAccountant(neighboring_relation=TREE_SPECIAL).compose(event)

    assert gaussian_epsilon(TreeNoise(rounds_between), rounds, 5.0, 1e-5) == pytest.approx(
        theirs.get_epsilon(1e-5)
    )


@pytest.mark.parametrize(
    ("rounds", "noise_multiplier", "delta", "epsilon"),
    [
        # dp-accounting 0.4.3: RdpAccountant on SingleEpochTreeAggregationDpEvent(z, [100]).
        (100, 5.01, 1e-4, 2.0),
        (100, 1.54, 1e-4, 8.0),
    ],
)
def test_tree_epsilon_is_the_known_one(
    rounds: int, noise_multiplier: float, delta: float, epsilon: float
) -> None:
    spent = gaussian_epsilon(TreeNoise(rounds), rounds, noise_multiplier, delta)

    assert spent == pytest.approx(epsilon, rel=5e-3)


@pytest.mark.parametrize(("noise_multiplier", "epsilon"), [(1.13, 19.74), (8.83, 2.04)])
def test_tree_epsilon_is_the_published_one(noise_multiplier: float, epsilon: float) -> None:
    # Kairouz et al., 2021, Stack Overflow: 1,600 rounds, delta 1e-6 (the pairs are also in
    # dp_accounting's rdp_privacy_accountant_test.py). By the conversion of their time, of Mironov,
    # 2017, "Rényi Differential Privacy", proposition 3, at the best order:
    rho = (TreeNoise(1600).sensitivity(1600) / noise_multiplier) ** 2 / 2
    assert rho + 2 * math.sqrt(rho * math.log(1e6)) == pytest.approx(epsilon, abs=6e-3)

    # The conversion of today is tighter.
    assert gaussian_epsilon(TreeNoise(1600), 1600, noise_multiplier, 1e-6) < epsilon


# The banded factorization


def workload(rounds: int, momentum: float) -> np.ndarray:
    """Weights from updates: a unit update moves them by 1 + momentum + momentum**2 and so on."""
    column = np.cumsum(momentum ** np.arange(rounds))
    return scipy.linalg.toeplitz(column, np.zeros(rounds))


def square_root(matrix: np.ndarray) -> np.ndarray:
    """Of a lower-triangular matrix with ones on its diagonal, column by column."""
    root = np.eye(len(matrix))
    for gap in range(1, len(matrix)):
        for column in range(len(matrix) - gap):
            row = column + gap
            inner = root[row, column + 1 : row] @ root[column + 1 : row, column]
            root[row, column] = (matrix[row, column] - inner) / 2
    return root


def strategy(noise: BandedNoise, rounds: int) -> np.ndarray:
    """C, from the square root of the workload as a matrix: cut, a whole column of norm 1."""
    column = square_root(workload(noise.bands, noise.momentum))[:, 0]
    padded = np.append(column / np.linalg.norm(column), np.zeros(rounds))
    return scipy.linalg.toeplitz(padded[:rounds], np.zeros(rounds))


def test_two_bands_by_hand() -> None:
    # C has 1 and 1 / 2 over sqrt(5 / 4): y(t) = sqrt(5) / 2 z(t) - y(t - 1) / 2.
    noise = BandedNoise(rounds_between=2, bands=2)
    half_root = math.sqrt(5) / 2

    assert noise.slots == 1
    for step in range(3):
        row = noise.row(step)
        assert (row.scale, row.slot) == (pytest.approx(half_root), 0)
        np.testing.assert_allclose([row.added, row.kept], [[-0.5], [-0.5]])
    np.testing.assert_allclose(
        noise_matrix(noise, 3), half_root * np.array([[1, 0, 0], [-0.5, 1, 0], [0.25, -0.5, 1]])
    )
    # The last round cuts the second column to 1 over sqrt(5 / 4).
    assert noise.sensitivity(1) ** 2 == pytest.approx(4 / 5)
    assert noise.sensitivity(3) ** 2 == pytest.approx(1 + 4 / 5)
    assert noise.sensitivity(4) ** 2 == pytest.approx(2)


def test_momentum_by_hand() -> None:
    # 1 / sqrt((1 - x)(1 - x / 2)) = (1 + x / 2 + 3 x^2 / 8 ...)(1 + x / 4 + 3 x^2 / 32 ...).
    noise = BandedNoise(rounds_between=3, bands=3, momentum=0.5)
    column = np.linalg.inv(noise_matrix(noise, 3))[:, 0]

    np.testing.assert_allclose(column / column[0], [1, 3 / 4, 3 / 32 + 1 / 8 + 3 / 8])


@given(noise=bandeds, rounds=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_banded_noise_inverts_the_cut_root_of_the_workload(noise: BandedNoise, rounds: int) -> None:
    made = noise_matrix(noise, rounds)

    np.testing.assert_allclose(strategy(noise, rounds) @ made, np.eye(rounds), atol=1e-9)
    np.testing.assert_array_equal(made, np.tril(made))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_coefficients_are_those_of_kalinin_and_lampert(momentum: float) -> None:
    # "Banded Square Root Matrix Factorization for Differentially Private Model Training", 2024,
    # theorem 1: r(k) = |binomial(-1/2, k)|, here without weight decay (alpha = 1).
    r = np.abs(scipy.special.binom(-0.5, np.arange(10)))
    theirs = [sum(r[j - i] * r[i] * momentum**i for i in range(j + 1)) for j in range(10)]
    ours = np.linalg.inv(noise_matrix(BandedNoise(10, 10, momentum), 10))[:, 0]

    np.testing.assert_allclose(ours / ours[0], theirs, rtol=1e-9)


def test_first_noises_are_those_of_jax_privacy() -> None:
    # jax_privacy, tests/matrix_factorization/toeplitz_test.py, the inverse square root's values.
    column = noise_matrix(BandedNoise(rounds_between=5, bands=5), 5)[:, 0]

    np.testing.assert_allclose(column / column[0], [1, -1 / 2, -1 / 8, -1 / 16, -5 / 128])


def test_all_bands_have_the_error_of_the_square_root_factorization() -> None:
    # With B = C, largest error times sensitivity is the sum of binomial(2k, k)**2 / 16**k over
    # k < rounds: Landau's constants 1, 5/4, 89/64, 381/256, 25609/16384 (OEIS A277233, A056982).
    products = [
        errors(BandedNoise(rounds, rounds), rounds).max()
        * BandedNoise(rounds, rounds).sensitivity(rounds)
        for rounds in range(1, 6)
    ]
    np.testing.assert_allclose(products, [1, 5 / 4, 89 / 64, 381 / 256, 25609 / 16384])


@pytest.mark.parametrize("rounds", [10, 100, 1000])
def test_error_of_all_bands_grows_with_the_logarithm_of_the_rounds(rounds: int) -> None:
    noise = BandedNoise(rounds, rounds)
    product = errors(noise, rounds).max() * noise.sensitivity(rounds)

    # Zhao, 2009, "Some sharp estimates of the constants of Landau and Lebesgue".
    below = (math.log(rounds) + np.euler_gamma + math.log(16) - 1 / 4 / rounds) / math.pi
    below += 5 / 192 / math.pi / rounds**2
    assert below - 1e-9 <= product <= below + 3 / 128 / math.pi / rounds**3 + 1e-9


@given(noise=bandeds, rounds=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_banded_sensitivity_is_the_largest_of_all_places(noise: BandedNoise, rounds: int) -> None:
    between = noise.rounds_between
    columns = np.linalg.inv(noise_matrix(noise, rounds))
    places = [np.linalg.norm(columns[:, first::between].sum(axis=1)) for first in range(between)]

    assert noise.sensitivity(rounds) == pytest.approx(max(places))


@pytest.mark.parametrize(
    "noise", [BandedNoise(3, 3), BandedNoise(3, 2, 0.9), BandedNoise(2, 1), BandedNoise(2, 2, 0.5)]
)
def test_no_clients_rounds_and_updates_tell_more(noise: BandedNoise) -> None:
    # Every set of rounds at least rounds_between apart; updates of norm 1 in any direction.
    rounds = 9
    columns = np.linalg.inv(noise_matrix(noise, rounds))
    directions = np.random.default_rng(0).normal(size=(20, rounds, 4))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    told = []
    for size in range(1, rounds + 1):
        for taken in itertools.combinations(range(rounds), size):
            if all(np.diff(taken) >= noise.rounds_between):
                told.append(np.linalg.norm(columns[:, taken] @ directions[:, taken], axis=(1, 2)))

    assert np.max(told) == pytest.approx(noise.sensitivity(rounds))


def test_one_band_is_independent_noise() -> None:
    noise = BandedNoise(rounds_between=10, bands=1, momentum=0.9)

    assert noise.slots == 0
    assert noise.row(7) == Row(1.0, pytest.approx([]), pytest.approx([]), -1)
    np.testing.assert_array_equal(noise_matrix(noise, 25), np.eye(25))
    np.testing.assert_allclose(variances(noise, 25), np.arange(1, 26))
    assert noise.sensitivity(25) == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("bands", [2, 9, 50])
def test_noise_of_a_round_stays_bounded(bands: int, momentum: float) -> None:
    deviations = np.linalg.norm(noise_matrix(BandedNoise(50, bands, momentum), 1000), axis=1)

    assert deviations[-500:].max() == pytest.approx(deviations[500], rel=1e-3)


# Both

BOTH = [TreeNoise(1), TreeNoise(7), TreeNoise(8), BandedNoise(7, 1), BandedNoise(7, 4, 0.9)]


@given(
    noise=st.one_of(trees, bandeds),
    rounds=st.integers(1, 30),
    shape=st.sampled_from([(), (3,), (2, 2)]),
)
@settings(max_examples=40, deadline=None)
def test_streamed_noise_is_that_of_the_matrix(
    noise: CorrelatedNoise, rounds: int, shape: tuple[int, ...]
) -> None:
    fresh = np.random.default_rng(rounds).normal(size=(rounds, *shape))

    np.testing.assert_allclose(
        stream(noise, fresh), np.tensordot(noise_matrix(noise, rounds), fresh, 1), atol=1e-9
    )


@pytest.mark.parametrize("noise", BOTH, ids=str)
def test_noise_is_a_value(noise: CorrelatedNoise) -> None:
    again = pickle.loads(pickle.dumps(noise))

    assert again == noise
    assert hash(again) == hash(noise)
    with pytest.raises(AttributeError):
        noise.rounds_between = 3  # type: ignore[misc, attr-defined]


@pytest.mark.parametrize("noise", BOTH, ids=str)
def test_rows_fit_the_slots(noise: CorrelatedNoise) -> None:
    for step in range(20):
        row = noise.row(step)
        assert row.added.shape == row.kept.shape == (noise.slots,)
        assert row.added.dtype == row.kept.dtype == np.float64
        assert -1 <= row.slot < noise.slots
        assert row.scale > 0


@pytest.mark.parametrize("noise", BOTH, ids=str)
def test_before_the_first_round_nothing_is_told(noise: CorrelatedNoise) -> None:
    assert noise.sensitivity(0) == 0
    assert errors(noise, 0).shape == (0,)


@given(noise=st.one_of(trees, bandeds), rounds=st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_a_further_round_tells_no_less(noise: CorrelatedNoise, rounds: int) -> None:
    assert noise.sensitivity(rounds) <= noise.sensitivity(rounds + 1)


def test_at_equal_privacy_correlated_noise_is_less() -> None:
    rounds, rounds_between = 200, 50

    def root_mean_square(noise: CorrelatedNoise) -> float:
        return noise.sensitivity(rounds) * math.sqrt(np.mean(variances(noise, rounds)))

    independent = root_mean_square(BandedNoise(rounds_between, 1))
    tree = root_mean_square(TreeNoise(rounds_between))
    banded = root_mean_square(BandedNoise(rounds_between, rounds_between))

    assert independent == pytest.approx(math.sqrt(4 * 100.5))  # 4 participations, mean of 1..200
    assert (round(tree, 1), round(banded, 1)) == (10.1, 5.4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TreeNoise(0), "rounds_between=0 must be >= 1"),
        (lambda: BandedNoise(0, 1), "rounds_between=0 must be >= 1"),
        (lambda: BandedNoise(5, 6), "bands=6 must lie between 1 and rounds_between=5"),
        (lambda: BandedNoise(5, 0), "bands=0 must lie between"),
        (lambda: BandedNoise(5, 2, 1.0), "momentum=1.0 must be >= 0 and < 1"),
        (lambda: BandedNoise(5, 2, -0.1), "momentum=-0.1"),
        (lambda: BandedNoise(5, 2, math.nan), "momentum=nan"),
    ],
)
def test_settings_without_a_guarantee_are_refused(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
