"""Standard normal noise inside a program: drawn anew, or correlated with that of earlier rounds."""

import math
import secrets
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from privet.components.train.correlated_noise import CorrelatedNoise


def fresh_seeds(*shape: int) -> np.ndarray:
    """Seeds of 128 bits each from the operating system, int64 [*shape, 2]."""
    count = int(np.prod(shape))
    return np.frombuffer(secrets.token_bytes(16 * count), np.int64).reshape(*shape, 2)


def standard_normal(shape: Any, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Independent standard normal numbers, drawn in float64 with tails as long as noise needs.

    Box and Muller, 1958, "A Note on the Generation of Random Normal Deviates", from 128 bits for
    two numbers: none is beyond 9.5, which a Gaussian is with probability 2e-21. TensorFlow's own
    stateless_normal ends at 5.68, in float64 too, since BoxMullerFloat and BoxMullerDouble put
    1e-7 in the place of smaller uniform numbers (tsl/lib/random/random_distributions.h). Noise of
    one clip norm that a client moves by one would then be where it cannot be without that client
    with probability P[z > 4.68] = 1.4e-6 a round, whatever epsilon is, and no delta allowed for it.

    Args:
      shape: static.
      seed: int64 [2], of whose 128 bits each makes other numbers. (TensorFlow's stateless_fold_in
        and split would cut it down to 32 bits.)
      dtype: to round to.
    """
    shape = tf.TensorShape(shape)
    count = shape.num_elements()
    bits = tf.random.stateless_uniform(
        (2, -(-count // 2)), seed, None, None, tf.uint64, alg="philox"
    )
    first, second = tf.unstack((tf.cast(bits, tf.float64) + 0.5) * 2.0**-64)  # in (0, 1]
    radius, angle = tf.sqrt(-2 * tf.math.log(first)), 2 * math.pi * second
    pairs = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], 0)
    return tf.cast(tf.reshape(pairs[:count], shape), dtype)


class Weights(NamedTuple):
    """A correlated_noise.Row as a program takes it.

    Attributes:
      scale: float64, of what is drawn anew.
      added, kept: float64 [slots], of what was kept: in the noise of this round, and in what is
        kept of it.
      slot: bool [slots], where that goes.
    """

    scale: Any
    added: Any
    kept: Any
    slot: Any


def weights_of(correlation: CorrelatedNoise | None, step: int) -> Weights:
    """The weights of a round, counted from 0 since the noise began; without correlation, none."""
    if correlation is None:
        return Weights(np.float64(1.0), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    row = correlation.row(step)
    slot = np.arange(correlation.slots) == row.slot
    return Weights(np.float64(row.scale), row.added, row.kept, slot)


def dtype_of(value: Any) -> tf.DType:
    """What noise on a tensor is computed in: whole numbers are of a grid finer than float32."""
    return tf.float64 if value.dtype.is_integer else tf.float32


def kept_nothing(correlation: CorrelatedNoise | None, sums: Any) -> tuple[tf.Tensor, ...]:
    """What is kept before the first round, [slots, ...] for each tensor of the sums."""
    slots = 0 if correlation is None else correlation.slots
    return tuple(tf.zeros((slots, *value.shape), dtype_of(value)) for value in sums)


def draw_noise(
    sums: Any, seeds: tf.Tensor, kept: Any, weights: Weights
) -> tuple[list[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Noise of unit variance (if it is not correlated) for each tensor, and what to keep.

    Args:
      sums: tensors that the noise is for.
      seeds: int64 [tensors, 2].
      kept: of earlier rounds, as kept_nothing gives it.
      weights: of this round.
    """
    noises, keeping = [], []
    for index, (value, before) in enumerate(zip(sums, kept, strict=True)):
        dtype = dtype_of(value)
        fresh = standard_normal(value.shape, seeds[index], dtype)
        fresh = tf.cast(weights.scale, dtype) * fresh
        if before.shape[0] == 0:
            noises.append(fresh)
            keeping.append(before)
            continue
        noises.append(fresh + tf.tensordot(tf.cast(weights.added, dtype), before, 1))
        new = fresh + tf.tensordot(tf.cast(weights.kept, dtype), before, 1)
        place = tf.reshape(weights.slot, (-1, *[1] * len(value.shape)))
        keeping.append(tf.where(place, new, before))
    return noises, tuple(keeping)
