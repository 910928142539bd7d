"""A client's update in few bits on its way up: stochastic uniform quantization.

Each tensor of an update is sent as its least value and the distance of two levels (float32 both)
and a level of few bits for each value, rounded up or down at random such that the mean is right
(Alistarh et al., 2017, "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding";
the levels are those of Suresh et al., 2017, "Distributed Mean Estimation with Limited
Communication", section 2.2). The server clips what it decodes, so the sensitivity to a client is
what it is without. That is the same as to quantize the clipped update and to clip again, since
quantization commutes with scaling.

A tensor may be rotated at random before (section 3 of Suresh et al.), which brings its largest
values near the others, and so the levels closer together; the server rotates back. For the bytes
see wire.py.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from privet.components.train.wire import Message

_MASK = (1 << 24) - 1  # float32 holds whole numbers up to it


class Levels(NamedTuple):
    """A tensor in few bits.

    Attributes:
      levels: float32 [values], whole numbers from 0 to 2**bits - 1.
      least: what level 0 stands for.
      distance: of two levels.
    """

    levels: Any
    least: Any
    distance: Any


def quantized(record: Any, bits: int, seed: Any, *, rotated: bool = False) -> Any:
    """What the server decodes of a record that was sent in so many bits per value.

    Args:
      record: structure of float32 tensors.
      bits: of a level.
      seed: int32 [2], of the rounding and the rotation.
      rotated: whether tensors are rotated at random before.
    """
    levels = levels_of(record, bits, seed, rotated=rotated)
    return restored(levels, record, seed, rotated=rotated)


def levels_of(record: Any, bits: int, seed: Any, *, rotated: bool = False) -> list[Levels]:
    """What a client sends, tensor by tensor; for the arguments see `quantized`."""
    most = float(2**bits - 1)

    def sent(index: int, value: Any) -> Levels:
        value = tf.reshape(value, (-1,))
        if rotated:
            value = _rotated(value, seed, index)
        least = tf.reduce_min(value)
        distance = (tf.reduce_max(value) - least) / most
        chance = tf.cast(tf.bitwise.bitwise_and(_drawn(value, seed, 0, index), _MASK), tf.float32)
        chance /= _MASK + 1
        level = tf.floor(tf.math.divide_no_nan(value - least, distance) + chance)
        return Levels(tf.minimum(level, most), least, distance)

    return [sent(*each) for each in enumerate(tf.nest.flatten(record))]


def restored(levels: Sequence[Levels], like: Any, seed: Any, *, rotated: bool = False) -> Any:
    """What the server decodes.

    Args:
      levels: of each tensor.
      like: structure of tensors, or of their specs, of the form to give.
      seed, rotated: see `quantized`.
    """

    def decoded(index: int, sent: Levels, shape: Any) -> Any:
        value = sent.least + sent.levels * sent.distance
        return tf.reshape(_rotated(value, seed, index, back=True) if rotated else value, shape)

    shapes = [value.shape for value in tf.nest.flatten(like)]
    values = [decoded(index, *each) for index, each in enumerate(zip(levels, shapes, strict=True))]
    return tf.nest.pack_sequence_as(like, values)


def received(message: Message) -> list[np.ndarray]:
    """The tensors of a message that was decoded."""
    if message.scales is None or message.bits is None:
        return list(message.tensors)
    levels = [
        Levels(tf.constant(tensor.ravel(), tf.float32), *scale)
        for tensor, scale in zip(message.tensors, message.scales, strict=True)
    ]
    seed, rotated = message.seed, message.seed is not None
    return [part.numpy() for part in restored(levels, message.tensors, seed, rotated=rotated)]


def _rotated(values: Any, seed: Any, index: int, *, back: bool = False) -> Any:
    """Values times an orthonormal matrix of random signs and Walsh-Hadamard matrices; or back.

    Those have sizes that are powers of two. So first the front of the tensor is rotated and then
    its end, where the two overlap: padding, which the literature takes, could double the bytes.
    """
    whole = values.shape.num_elements()
    size = 1 << (whole.bit_length() - 1)
    for start in sorted({0, whole - size}, reverse=back):
        before, part, after = tf.split(values, (start, size, whole - size - start))
        which = 1 if start == 0 else 2
        signs = tf.where(_drawn(part, seed, which, index) < 0, -1.0, 1.0)
        part = signs * _transformed(part) if back else _transformed(signs * part)
        values = tf.concat((before, part, after), 0)
    return values


def _transformed(values: Any) -> Any:
    """The Walsh-Hadamard transform over a power of two values, which is its own inverse.

    By sums and differences, whose rounding is the same with and without XLA, unlike a product's.
    """
    size = values.shape.num_elements()
    for half in _powers_below(size):
        pairs = tf.reshape(values, (-1, 2, half))
        values = tf.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1)
    return tf.reshape(values, (-1,)) / math.sqrt(size)


def _powers_below(size: int) -> Iterator[int]:
    half = 1
    while half < size:
        yield half
        half *= 2


def _drawn(like: Any, seed: Any, purpose: int, index: int) -> Any:
    """Whole numbers at random, one for each value; of a named algorithm they are, unlike fractions,
    the same with and without XLA."""
    own = seed + tf.constant([purpose, index], tf.int32)
    return tf.random.stateless_uniform(like.shape, own, None, None, tf.int32, alg="philox")
