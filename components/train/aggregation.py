"""Clip, sum, noise: the tensorflow_privacy query that every engine aggregates with."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_privacy

from privet.components.shared.errors import PrivacyError
from privet.components.train.accounting import count_noise_of, value_noise_multiplier
from privet.components.train.correlated_noise import CorrelatedNoise
from privet.components.train.privacy_config import LEAST_CLIP, MOST_CLIP, AdaptiveClipConfig

_UNITS = 2.0**30  # of a grid in a clip norm
_MOST_ROUNDED = 2.0**28  # noise in clip norms: 16 deviations of it stay below 2**62 units
_LARGE = 1e15  # squares of smaller values stay far from float32's limit, 3.4e38


class BoundedGaussianSumQuery(tensorflow_privacy.GaussianSumQuery):
    """GaussianSumQuery whose clip holds for every record that float32 can hold.

    Clipping by tf.clip_by_global_norm gives NaN once the squared norm overflows (a norm of about
    1.8e19), and one NaN spoils the whole sum: such a client would move it without bound. A record
    of large values is therefore brought down first, which clipping would do anyhow, and a record
    with a value that is not finite counts as zero.

    Attributes:
      noises: on each tensor, standard normal ones, while a program is traced that draws them.
        TensorFlow's own unseeded generator, which stands in without them, has 32 bits from the
        operating system: so few that one can try them all.
    """

    noises: Sequence[tf.Tensor] | None = None

    def get_noised_result(self, sample_state: Any, global_state: Any) -> Any:
        """The sum with Gaussian noise, the state, and the event."""
        if self.noises is None:
            return super().get_noised_result(sample_state, global_state)
        sums = zip(tf.nest.flatten(sample_state), self.noises, strict=True)
        values = [self._noised(value, noise, global_state) for value, noise in sums]
        event = dp_accounting.GaussianDpEvent(global_state.stddev / global_state.l2_norm_clip)
        return tf.nest.pack_sequence_as(sample_state, values), global_state, event

    def _noised(self, value: tf.Tensor, noise: tf.Tensor, global_state: Any) -> tf.Tensor:
        return value + global_state.stddev * noise

    def preprocess_record_impl(self, params: Any, record: Any) -> tuple[Any, Any]:
        """The record clipped to an L2 norm of at most `params`, whatever is in it; its norm."""
        values = tf.nest.flatten(record)
        norm = tf.linalg.global_norm(values)
        clip = tf.cast(params, norm.dtype)
        clipped = tf.cond(
            tf.math.is_finite(norm),
            lambda: [value * (clip / tf.maximum(norm, clip)) for value in values],
            lambda: self._clip_extreme(clip, values),
        )
        return tf.nest.pack_sequence_as(record, clipped), norm

    def _clip_extreme(self, clip: tf.Tensor, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Of values so large that their squares overflow, or not finite: the slow way."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])
        largest = tf.reduce_max([tf.reduce_max(tf.abs(value)) for value in values])

        def bounded(value: tf.Tensor) -> tf.Tensor:
            value = tf.where(largest > _LARGE, value / largest * clip, value)
            return tf.where(finite, value, tf.zeros_like(value))

        return super().preprocess_record_impl(clip, [bounded(value) for value in values])[0]


class RoundedGaussianSumQuery(BoundedGaussianSumQuery):
    """Sums of whole numbers, to which Gaussian noise is added that is rounded to one.

    The low bits of floating-point noise, and of sums whose rounding depends on what is added, can
    tell about the sum (Mironov, 2012, "On Significance of the Least Significant Bits for
    Differential Privacy"; Casacuberta et al., 2022, "Widespread Underestimation of Sensitivity in
    Differentially Private Libraries and How to Fix It"). Here a clipped record is cut towards zero
    to multiples of clip * 2**-30, by which its norm only falls; these add up exactly, and the sum
    with rounded noise is the rounded sum with noise: post-processing of the Gaussian mechanism,
    with the same event. (The rounded relative of the discrete Gaussian of Canonne, Kamath, Steinke,
    2020, for which no amplification by sampling is known to be tight.)

    Raises:
      PrivacyError: the noise is beyond whole numbers of 64 bits, which would make it one value.
    """

    def __init__(self, l2_norm_clip: float, stddev: float):
        super().__init__(l2_norm_clip, stddev)
        if not stddev / l2_norm_clip <= _MOST_ROUNDED:
            raise PrivacyError(
                f"noise of {stddev / l2_norm_clip:.4g} times what one client adds is too much for "
                "the whole numbers of train.privacy.rounded_noise. Lower noise_multiplier (or "
                "adaptive_clip.count_noise), or leave rounded_noise out."
            )

    def initial_sample_state(self, template: Any) -> Any:
        """The sum of no record."""
        return tf.nest.map_structure(
            lambda value: tf.zeros(getattr(value, "shape", ()), tf.int64), template
        )

    def preprocess_record_impl(self, params: Any, record: Any) -> tuple[Any, Any]:
        """The record clipped, in units of clip * 2**-30; its norm."""
        values = [tf.cast(value, tf.float64) for value in tf.nest.flatten(record)]
        norm = tf.linalg.global_norm(values)  # squares of any float32 stay within float64
        clip = tf.cast(params, tf.float64)
        # The norm is known up to rounding: some 2**-53 for each of the values.
        units = tf.minimum(1 / clip, (1 - 2.0**-28) / norm) * _UNITS
        cut = tf.cond(
            tf.math.is_finite(norm),
            lambda: [tf.cast(value * units, tf.int64) for value in values],
            lambda: [tf.zeros(value.shape, tf.int64) for value in values],
        )
        return tf.nest.pack_sequence_as(record, cut), tf.cast(norm, tf.float32)

    def _noised(self, value: tf.Tensor, noise: tf.Tensor, global_state: Any) -> tf.Tensor:
        clip, stddev = (tf.cast(part, tf.float64) for part in global_state)
        units = value + tf.cast(tf.round(noise * (stddev / clip * _UNITS)), tf.int64)
        return tf.cast(tf.cast(units, tf.float64) * (clip / _UNITS), tf.float32)


class AdaptiveClipQuery(tensorflow_privacy.QuantileAdaptiveClipSumQuery):
    """Clips to a noised quantile of the norms: library code over bounded, seedable sums.

    Attributes:
      parts: the two mechanisms, of the updates and of the count of those within the clip norm.
    """

    parts: tuple[BoundedGaussianSumQuery, BoundedGaussianSumQuery]

    def __init__(
        self,
        clip_norm: float,
        config: AdaptiveClipConfig,
        *,
        value_noise: float,
        count_noise: float,
        denominator: float,
        rounded: bool = False,
    ):
        sum_query = RoundedGaussianSumQuery if rounded else BoundedGaussianSumQuery
        settings = (config.target_quantile, config.learning_rate, count_noise, denominator)
        super().__init__(clip_norm, value_noise, *settings)
        self._sum_query = sum_query(clip_norm, clip_norm * value_noise)
        quantile_query = _RoundedQuantileQuery if rounded else _BoundedQuantileQuery
        quantile = quantile_query(clip_norm, *settings, geometric_update=True)
        self._quantile_estimator_query = quantile
        self.parts = (self._sum_query, quantile.count)


class _BoundedQuantileQuery(tensorflow_privacy.QuantileEstimatorQuery):
    """QuantileEstimatorQuery over a BoundedGaussianSumQuery."""

    kind = BoundedGaussianSumQuery
    count: BoundedGaussianSumQuery

    def preprocess_record(self, params: Any, record: Any) -> Any:
        """What a client counts for: 1/2 within the clip norm, -1/2 above it, 0 if it sent nothing.

        Were a client without data counted as one within the clip norm, then a client's data in the
        place of nothing could take 1 from the count, twice what its noise is for.
        """
        counted = super().preprocess_record(params, record)
        return tf.where(tf.equal(record, 0), tf.zeros_like(counted), counted)

    def get_noised_result(self, sample_state: Any, global_state: Any) -> Any:
        """The estimate, kept where a clip by it holds: see LEAST_CLIP."""
        estimate, state, event = super().get_noised_result(sample_state, global_state)
        estimate = tf.clip_by_value(estimate, LEAST_CLIP, MOST_CLIP)
        return estimate, state._replace(current_estimate=estimate), event

    def _construct_below_estimate_query(self, stddev: float, expected: float) -> Any:
        # A client counts +-1/2 or 0, so there or not, or with data or none, it moves it by 1/2.
        self.count = self.kind(l2_norm_clip=0.5, stddev=stddev)
        return tensorflow_privacy.NormalizedQuery(self.count, denominator=expected)


class _RoundedQuantileQuery(_BoundedQuantileQuery):
    """The same over a RoundedGaussianSumQuery."""

    kind = RoundedGaussianSumQuery


class MeanQuery(tensorflow_privacy.NormalizedQuery):
    """A sum with noise, divided by a constant.

    Attributes:
      correlation: of the noise over rounds, if there is any.
    """

    def __init__(
        self,
        total: BoundedGaussianSumQuery | AdaptiveClipQuery,
        denominator: float,
        correlation: CorrelatedNoise | None = None,
    ):
        super().__init__(total, denominator)
        self.correlation = correlation
        self._parts = total.parts if isinstance(total, AdaptiveClipQuery) else (total,)

    def accumulate_preprocessed_record(self, sample_state: Any, preprocessed_record: Any) -> Any:
        """Adds a record up.

        Raises:
          PrivacyError: it has other shapes than the sum, over which tf.add would spread it: one
            clipped value, added to every coordinate of n, moves the sum by sqrt(n) times the clip.
        """
        shapes = [
            [tuple(part.shape) for part in tf.nest.flatten(parts)]
            for parts in (preprocessed_record, sample_state)
        ]
        if shapes[0] != shapes[1]:
            raise PrivacyError(
                f"a client's update has tensors of shapes {shapes[0]}, the model's have "
                f"{shapes[1]}. It is not added up; please report this model and configuration."
            )
        return super().accumulate_preprocessed_record(sample_state, preprocessed_record)

    @contextlib.contextmanager
    def noised_by(self, noises: Sequence[tf.Tensor]) -> Iterator[None]:
        """While a program is traced: its noise is to be made of these.

        Args:
          noises: standard normal ones; of each tensor of the sum, and then of the count if there is
            one.
        """
        count = len(self._parts) - 1
        tensors = len(noises) - count
        try:
            for part, own in zip(self._parts, (noises[:tensors], noises[tensors:]), strict=False):
                part.noises = own
            yield
        finally:
            for part in self._parts:
                part.noises = None


def build_query(
    clip_norm: float,
    noise_multiplier: float,
    denominator: float,
    adaptive: AdaptiveClipConfig | None = None,
    *,
    rounded: bool = False,
    correlation: CorrelatedNoise | None = None,
) -> MeanQuery:
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
      adaptive: lets the clip norm follow a quantile of the norms, from clip_norm on; then
        noise_multiplier is the joint one of sum and count.
      rounded: whether sums are whole numbers; see RoundedGaussianSumQuery.
      correlation: of the noise over rounds; noise_multiplier is then that of what is drawn anew.

    Raises:
      ConfigError: the count of clipped updates has too little noise.
    """
    if adaptive is not None:
        count_noise = count_noise_of(adaptive, denominator) if noise_multiplier else 0.0
        total = AdaptiveClipQuery(
            clip_norm,
            adaptive,
            value_noise=value_noise_multiplier(noise_multiplier, count_noise),
            count_noise=count_noise,
            denominator=denominator,
            rounded=rounded,
        )
        return MeanQuery(total, denominator)
    kind = RoundedGaussianSumQuery if rounded else BoundedGaussianSumQuery
    fixed = kind(l2_norm_clip=clip_norm, stddev=clip_norm * noise_multiplier)
    return MeanQuery(fixed, denominator, correlation)


def clip_place(query: MeanQuery) -> int:
    """Which leaf of the query's global state is the clip norm in force."""
    state = query.initial_global_state()
    places = tf.nest.pack_sequence_as(state, range(len(tf.nest.flatten(state))))
    first: int = tf.nest.flatten(query.derive_sample_params(places))[0]
    return first


def clipped_value(clip_norm: float, coordinates: int, dtype: np.dtype[Any]) -> np.number[Any]:
    """What a record of so many equal values, clipped, adds to each of their sums.

    Args:
      clip_norm: that the record is scaled down to.
      coordinates: with values that are not zero; at least one.
      dtype: of the sums: float32, or whole numbers, as RoundedGaussianSumQuery adds them up.
    """
    if np.issubdtype(dtype, np.integer):
        return np.int64((1 - 2.0**-28) * _UNITS / math.sqrt(coordinates))
    return np.float32(clip_norm / math.sqrt(coordinates))


def build_aggregator(
    query: tensorflow_privacy.DPQuery | None, *, weighted: bool = False, bits: int | None = None
) -> Any:
    """The query as a TFF aggregator; without one, the plain mean over clients or examples.

    Args:
      query: clip, sum, noise.
      weighted: whether clients count by their examples.
      bits: for each value of an update, by TFF's own encoder: the levels of update_compression.py,
        rounded by draws of its own.
    """
    import tensorflow_federated as tff

    if query is None:
        mean = tff.aggregators.MeanFactory if weighted else tff.aggregators.UnweightedMeanFactory
        if bits is None:
            return mean()
        return mean(tff.aggregators.EncodedSumFactory.quantize_above_threshold(bits, threshold=0))
    return tff.aggregators.DifferentiallyPrivateFactory(query)
