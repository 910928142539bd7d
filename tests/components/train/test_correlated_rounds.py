"""Rounds with correlated noise, by real engines: it is that of the matrix it is claimed for."""

from typing import Any

import numpy as np
import pytest

from privet.components.train.aggregation import build_query
from privet.components.train.correlated_noise import BandedNoise, TreeNoise, noise_matrix

ROUNDS, CLIP, NOISE, DENOMINATOR = 7, 0.5, 3.0, 2.0
NOBODY = np.arange(0)
CORRELATIONS = [TreeNoise(4), BandedNoise(4, 3), BandedNoise(4, 4, momentum=0.5)]
ENGINES = [
    {"engine": "compiled", "xla": "on"},
    {"engine": "compiled", "xla": "off"},
    {"engine": "beam", "xla": "off"},
]


def wide_model() -> Any:
    import tensorflow as tf

    inputs = tf.keras.Input(shape=(2,))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1)(tf.keras.layers.Dense(5000)(inputs)))


def flat(engine: Any, state: Any) -> np.ndarray:
    return np.concatenate([part.ravel() for part in engine.weights(state)]).astype(np.float64)


@pytest.fixture
def build(make_engine: Any, train_config: Any, store_of: Any, two_clients: list[Any]) -> Any:
    def make(correlation: Any, how: Any, *, rounded: bool = False) -> Any:
        query = build_query(CLIP, NOISE, DENOMINATOR, rounded=rounded, correlation=correlation)
        config = train_config(**how)
        return make_engine(
            config, model=wide_model(), store=store_of(two_clients), query=query, seed=0
        )

    return make


def noises(engine: Any, states: list[Any]) -> np.ndarray:
    """What nobody's rounds have added to the sums, in units of noise and clip: [rounds, weights].

    The server's rate is 1, so that weights fall by the mean.
    """
    weights = np.stack([flat(engine, state) for state in states])
    return -np.diff(weights, axis=0) * DENOMINATOR / (CLIP * NOISE)


def assert_independent(drawn: np.ndarray) -> None:
    """Standard normal in every row, and rows have nothing to do with each other (chance: 1e-8)."""
    rounds, size = drawn.shape
    covariance = drawn @ drawn.T / size
    assert np.abs(covariance - np.eye(rounds)).max() < 7 * np.sqrt(2 / size)


@pytest.mark.parametrize("correlation", CORRELATIONS, ids=str)
@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_noise_of_rounds_is_the_matrix_of_independent_ones(
    build: Any, correlation: Any, how: Any
) -> None:
    engine = build(correlation, how)
    states = [engine.initialize()]
    for number in range(1, ROUNDS + 1):
        state, event = engine.next(states[-1], engine.read(NOBODY, number))
        assert event.noise_multiplier == pytest.approx(NOISE)
        states.append(state)

    added = noises(engine, states)
    assert_independent(np.linalg.solve(noise_matrix(correlation, ROUNDS), added))
    # The whole point: what adds up in the weights is less than with independent noise.
    assert np.std(added.sum(axis=0)) < 0.8 * np.sqrt(ROUNDS)


def test_noise_goes_on_after_a_checkpoint_and_begins_anew_with_a_stretch(build: Any) -> None:
    correlation = BandedNoise(8, 8)
    first, second = (build(correlation, ENGINES[1]) for _ in range(2))
    states = [first.initialize()]
    for number in (1, 2, 3):
        states.append(first.next(states[-1], first.read(NOBODY, number))[0])
    restored = second.restore(first.save(states[-1]))
    for number in (4, 5, 6):
        restored = second.next(restored, second.read(NOBODY, number))[0]
        states.append(restored)
    assert_independent(np.linalg.solve(noise_matrix(correlation, 6), noises(first, states)))

    anew = [first.begin_stretch(states[3])]
    np.testing.assert_array_equal(flat(first, anew[0]), flat(first, states[3]))
    for number in (4, 5, 6):
        anew.append(first.next(anew[-1], first.read(NOBODY, number))[0])
    again = np.linalg.solve(noise_matrix(correlation, 3), noises(first, anew))
    before = np.linalg.solve(noise_matrix(correlation, 3), noises(first, states[:4]))
    assert_independent(np.concatenate([before, again]))


def test_rounded_noise_is_correlated_all_the_same(build: Any) -> None:
    correlation = TreeNoise(4)
    engine = build(correlation, ENGINES[0], rounded=True)
    states = [engine.initialize()]
    for number in range(1, 5):
        states.append(engine.next(states[-1], engine.read(NOBODY, number))[0])
    assert_independent(np.linalg.solve(noise_matrix(correlation, 4), noises(engine, states)))


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_clients_get_nothing_of_the_noise_that_is_kept(build: Any, how: Any) -> None:
    engine = build(BandedNoise(4, 4), how)
    state, _ = engine.next(engine.initialize(), engine.read(NOBODY, 1))
    kept = {part.tobytes() for part in state.noise}
    prepared = engine._programs.prepare(state)

    assert len(state.noise) == 4
    assert all(part.shape[0] == 3 for part in state.noise)
    assert not any(part.tobytes() in kept for part in prepared if part.size > 1)
    assert sum(part.size for part in prepared) < 1.1 * sum(part.size for part in state.weights)
