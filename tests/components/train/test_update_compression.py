"""Updates in few bits: never further off than a level, right in the mean."""

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import tensorflow as tf
from hypothesis import strategies

from privet.components.train.update_compression import quantized

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
