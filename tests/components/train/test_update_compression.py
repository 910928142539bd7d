"""Updates in few bits: never further off than a level, right in the mean."""

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from privet.components.train.update_compression import levels_of, quantized

VALUES = hypothesis.extra.numpy.arrays(
    np.float32,
    strategies.integers(1, 20),
    elements=strategies.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


@hypothesis.given(
    values=VALUES, bits=strategies.sampled_from([4, 8]), seed=strategies.integers(0, 99)
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_values_are_off_by_less_than_a_level_and_stay_in_range(
    values: np.ndarray, bits: int, seed: int
) -> None:
    (decoded,) = quantized([tf.constant(values)], bits, tf.constant([seed, 0]))
    decoded = decoded.numpy()
    level = (values.max().astype(np.float64) - values.min()) / (2**bits - 1)
    rounding = 1e-5 * np.abs(values).max()

    assert np.abs(decoded - values).max() <= level + rounding
    assert decoded.min() >= values.min() - rounding
    assert decoded.max() <= values.max() + rounding
    assert len(np.unique(decoded)) <= 2**bits


def test_the_mean_over_many_roundings_is_the_value() -> None:
    values = tf.linspace(0.0, 1.0, 11)
    draws = [quantized([values], 4, tf.constant([seed, 7]))[0].numpy() for seed in range(2000)]
    # A rounding is off by at most a level of 1/15: so is its standard deviation, by a half of it.
    assert np.abs(np.mean(draws, axis=0) - values).max() < 6 * (0.5 / 15) / np.sqrt(2000)


def test_tensors_are_rounded_by_draws_of_their_own() -> None:
    one, other = quantized([tf.linspace(0.0, 1.0, 1000)] * 2, 4, tf.constant([1, 2]))
    assert not np.array_equal(one, other)


def test_equal_values_are_exact() -> None:
    (decoded,) = quantized([tf.fill([5], 0.3)], 4, tf.constant([1, 2]))
    np.testing.assert_array_equal(decoded, np.full(5, 0.3, np.float32))


@hypothesis.given(size=strategies.integers(1, 70), seed=strategies.integers(0, 99))
@hypothesis.settings(deadline=None, max_examples=30)
def test_rotated_values_are_off_by_less_than_a_level_of_a_vector_of_their_norm(
    size: int, seed: int
) -> None:
    """A rotation keeps the norm, so no level is further than twice the norm from the least."""
    values = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    (decoded,) = quantized([tf.constant(values)], 8, tf.constant([seed, 0]), rotated=True)
    norm = np.linalg.norm(values)

    assert decoded.shape == values.shape
    assert np.linalg.norm(decoded - values) <= 2 * norm / 255 * np.sqrt(size) + 1e-5 * norm


def test_the_mean_over_many_rotations_is_the_value() -> None:
    values = tf.linspace(-1.0, 1.0, 11)
    draws = [
        quantized([values], 4, tf.constant([seed, 7]), rotated=True)[0].numpy()
        for seed in range(500)
    ]
    # Of norm 2.1, the rotated values are 4.2 apart at most: so a level is 0.28, and the standard
    # deviation of a rounding is half of it.
    assert np.abs(np.mean(draws, axis=0) - values).max() < 6 * 0.14 / np.sqrt(500)


@pytest.mark.parametrize("size", [1024, 640])
def test_rotation_lowers_the_error_where_few_values_are_large(size: int) -> None:
    """One value of 100 among others of about 1: a level of 4 bits is as large as seven of those."""
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    values[5] = 100
    plain, rotated = (
        np.linalg.norm(
            quantized([tf.constant(values)], 4, tf.constant([1, 2]), rotated=how)[0] - values
        )
        for how in (False, True)
    )
    assert rotated < plain / 3


def test_a_vector_of_one_value_becomes_one_of_equal_size() -> None:
    """The column of a Walsh-Hadamard matrix, whose entries are +-1/sqrt(64): two levels do."""
    values = np.zeros(64, np.float32)
    values[9] = 8.0
    (sent,) = levels_of([tf.constant(values)], 4, tf.constant([1, 2]), rotated=True)

    assert set(sent.levels.numpy()) == {0.0, 15.0}
    assert (float(sent.least), float(sent.distance)) == pytest.approx((-1, 2 / 15))
