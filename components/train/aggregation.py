"""Clip, sum, noise: the tensorflow_privacy query that every engine aggregates with."""

from typing import Any

import tensorflow as tf
import tensorflow_privacy

_LARGE = 1e15  # squares of smaller values stay far from float32's limit, 3.4e38


class BoundedGaussianSumQuery(tensorflow_privacy.GaussianSumQuery):
    """GaussianSumQuery whose clip holds for every record that float32 can hold.

    Clipping by tf.clip_by_global_norm gives NaN once the squared norm overflows (a norm of about
    1.8e19), and one NaN spoils the whole sum: such a client would move it without bound. A record
    of large values is therefore brought down first, which clipping would do anyhow, and a record
    with a value that is not finite counts as zero.
    """

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """Clips a record to an L2 norm of at most `params`, whatever is in it."""
        values = tf.nest.flatten(record)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])
        largest = tf.reduce_max([tf.reduce_max(tf.abs(value)) for value in values])
        clip = tf.cast(params, largest.dtype)

        def bounded(value: tf.Tensor) -> tf.Tensor:
            value = tf.where(largest > _LARGE, value / largest * clip, value)
            return tf.where(finite, value, tf.zeros_like(value))

        return super().preprocess_record(params, tf.nest.map_structure(bounded, record))


def build_query(
    clip_norm: float, noise_multiplier: float, denominator: float
) -> tensorflow_privacy.DPQuery:
    """The Gaussian mechanism on the mean update of a cohort.

    Each client's update (all tensors as one vector) is scaled to an L2 norm of at most
    clip_norm; Gaussian noise of standard deviation clip_norm * noise_multiplier is added to
    every coordinate of the sum, once; the result is divided by a constant. Adding or removing
    one client moves the sum by at most clip_norm (McMahan, Ramage, Talwar, Zhang, 2018,
    "Learning Differentially Private Recurrent Language Models", Algorithm 1, fixed denominator).

    Args:
      clip_norm: L2 sensitivity of the sum to one client.
      noise_multiplier: noise in units of clip_norm.
      denominator: the expected cohort size. A constant, never the number of clients that
        reported, which is private.
    """
    total = BoundedGaussianSumQuery(l2_norm_clip=clip_norm, stddev=clip_norm * noise_multiplier)
    return tensorflow_privacy.NormalizedQuery(total, denominator)


def build_aggregator(query: tensorflow_privacy.DPQuery | None) -> Any:
    """The query as a TFF aggregator; without one, the plain mean over clients."""
    import tensorflow_federated as tff

    if query is None:
        return tff.aggregators.UnweightedMeanFactory()
    return tff.aggregators.DifferentiallyPrivateFactory(query)
