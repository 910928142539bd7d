"""DP-SGD's gradient: of each example, clipped; added up, noised, divided by a constant.

Algorithm 1 of Abadi et al., 2016, "Deep Learning with Differential Privacy", but for its sampling:
batches are a fixed partition of a client's examples, of which each is in one. An example whose
gradient counts as zero moves the sum by at most the clip norm.

This is what tensorflow_privacy's DPKerasSGDOptimizer computes without noise, and a test holds it to
that. The optimizer itself is not used since it steps on tf.Variables, of which a program that loops
over clients has none, and since its noise comes from tf.random_normal_initializer: it follows
tf.random.set_seed where that was called, and else TensorFlow's generator, which takes 32 bits from
the operating system (std::random_device, once, in tsl/platform/random.cc): one can try them all.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from privet.components.train.client_noise import ClientNoise


def noised_gradient(
    gradient: Callable[[Any, Any], Any],
    weights: Any,
    examples: Any,
    noise: ClientNoise,
    *,
    batch: Any,
    batch_size: int,
) -> Any:
    """The noised sum of a batch's clipped gradients, divided by the size of a full batch.

    A batch that is not full is divided by the same constant: divided by its own size, it would have
    the more noise the fewer its examples.

    Args:
      gradient: (weights, example) -> the gradient of the loss of one example.
      weights: structure of tensors, as are gradients.
      examples: int32 [examples], those of the batch.
      noise: and clip norm.
      batch: the place of the batch in the noise.
      batch_size: of a full batch.
    """

    def add(number: Any, total: Any) -> Any:
        # The rows of an embedding may come several times, and only their sum is the gradient.
        one = tf.nest.map_structure(tf.convert_to_tensor, gradient(weights, examples[number]))
        return number + 1, tf.nest.map_structure(tf.add, total, noise.clipped(one))

    # One by one: tf.vectorized_map cannot convert the call of a TFF functional model (TensorFlow
    # 2.14 leaves a placeholder unfed), and would hold as many gradients as there are examples.
    nothing = tf.nest.map_structure(tf.zeros_like, weights)
    count = tf.shape(examples)[0]
    _, total = tf.while_loop(lambda number, _: number < count, add, (0, nothing))
    return tf.nest.map_structure(lambda value: value / batch_size, noise.noised(total, batch))
