"""Standard normal noise inside a program: drawn anew, or correlated with that of earlier rounds."""

import secrets
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from privet.components.train.correlated_noise import CorrelatedNoise


def fresh_seeds(*shape: int) -> np.ndarray:
    """Seeds of 128 bits each from the operating system, int64 [*shape, 2]."""
    count = int(np.prod(shape))
    return np.frombuffer(secrets.token_bytes(16 * count), np.int64).reshape(*shape, 2)


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
      seeds: int64 [tensors, 2]. (TensorFlow's stateless_fold_in and split would cut such a seed
        down to 32 bits; stateless_normal takes all of it.)
      kept: of earlier rounds, as kept_nothing gives it.
      weights: of this round.
    """
    noises, keeping = [], []
    for index, (value, before) in enumerate(zip(sums, kept, strict=True)):
        dtype = dtype_of(value)
        fresh = tf.random.stateless_normal(value.shape, seeds[index], dtype=dtype)
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
