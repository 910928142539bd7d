"""A client's update in few bits on its way up: stochastic uniform quantization.

Each tensor of an update is sent as its least value and the distance of two levels (float32 both)
and a level of few bits for each value, rounded up or down at random such that the mean is right
(Alistarh et al., 2017, "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding";
the levels are those of Suresh et al., 2017, "Distributed Mean Estimation with Limited
Communication", section 2.2). The server clips what it decodes, so the sensitivity to a client is
what it is without. That is the same as to quantize the clipped update and to clip again, since
quantization commutes with scaling. For the bytes see communication.py.
"""

from typing import Any

import tensorflow as tf

_MASK = (1 << 24) - 1  # float32 holds whole numbers up to it


def quantized(record: Any, bits: int, seed: Any) -> Any:
    """What the server decodes of a record that was sent in so many bits per value.

    Args:
      record: structure of float32 tensors.
      bits: of a level.
      seed: int32 [2], of the rounding.
    """
    most = float(2**bits - 1)

    def decoded(index: int, value: Any) -> Any:
        least = tf.reduce_min(value)
        distance = (tf.reduce_max(value) - least) / most
        own = seed + tf.constant([0, index], seed.dtype)
        # Whole numbers of a named algorithm are the same with and without XLA; fractions are not.
        drawn = tf.random.stateless_uniform(value.shape, own, None, None, tf.int32, alg="philox")
        chance = tf.cast(tf.bitwise.bitwise_and(drawn, _MASK), tf.float32) / (_MASK + 1)
        level = tf.floor(tf.math.divide_no_nan(value - least, distance) + chance)
        return least + tf.minimum(level, most) * distance

    values = [decoded(*each) for each in enumerate(tf.nest.flatten(record))]
    return tf.nest.pack_sequence_as(record, values)
