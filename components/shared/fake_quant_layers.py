"""Keras layers that round as int8 does, while they train."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_NARROWEST = 1e-2  # least width of a range, of its initial one

_registered = tf.keras.utils.register_keras_serializable(package="privet")


@_registered
class FakeQuantize(tf.keras.layers.Layer):
    """Rounds to 256 levels of a range, of which 0 is one.

    Args:
      low, high: the initial range, low <= 0 <= high and low < high.
      fixed: whether it stays as it is, as TFLite has it for some operations.
    """

    def __init__(self, low: float, high: float, fixed: bool = False, **options: Any):
        super().__init__(**options)
        self.supports_masking = True
        self.low, self.high, self.fixed = float(low), float(high), fixed

    def build(self, input_shape: Any) -> None:
        """Makes the weight: how far the two ends have moved.

        It counts in widths of the initial range, so that the noise of a round moves a narrow range
        by no larger share than a wide one; from a width of 1 on in roots of it, since a gradient
        step grows by the square of what is counted in, and would go too far.
        """
        if not self.fixed:
            self.moved = self.add_weight("moved", shape=(2,), initializer="zeros")
        super().build(input_shape)

    def ends(self) -> tuple[Any, Any]:
        """The range as it is used: whatever the weight is, low <= 0 <= high, and not empty.

        The gradient is that of the range as the weight has it, so that it finds its way back.
        """
        if self.fixed:
            return tf.constant(self.low), tf.constant(self.high)
        width = self.high - self.low
        free = tf.stack([self.low, self.high]) + min(width, width**0.5) * self.moved
        low = tf.minimum(free[0], 0.0)
        high = tf.maximum(tf.maximum(free[1], 0.0), low + _NARROWEST * width)
        used = free + tf.stop_gradient(tf.stack([low, high]) - free)
        return used[0], used[1]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The rounded values. While it trains, what is not finite stays so.

        The operation alone would make a number of it, and an update of a client's broken data.
        """
        rounded = tf.quantization.fake_quant_with_min_max_vars(inputs, *self.ends())
        return tf.where(tf.math.is_finite(inputs), rounded, inputs) if training else rounded

    def get_config(self) -> dict[str, Any]:
        """What Keras makes it again from."""
        own = {"low": self.low, "high": self.high, "fixed": self.fixed}
        return {**super().get_config(), **own}


class _RoundsKernel:
    """Of a Keras layer: it computes with its kernel rounded, which trains as it is."""

    kernel_name, channel_axes = "kernel", 1

    def call(self, inputs: Any) -> Any:
        """What the layer computes."""
        rounded = rounded_kernel(self.__dict__[self.kernel_name], self.channel_axes)
        with _replaced(self, self.kernel_name, rounded):
            return super().call(inputs)  # type: ignore[misc]


@_registered
class FakeQuantDense(_RoundsKernel, tf.keras.layers.Dense):
    """One scale: TensorFlow 2.14's converter knows no other for FULLY_CONNECTED."""

    channel_axes = 0


@_registered
class FakeQuantConv1D(_RoundsKernel, tf.keras.layers.Conv1D):
    """A scale for each output channel."""


@_registered
class FakeQuantConv2D(_RoundsKernel, tf.keras.layers.Conv2D):
    """A scale for each output channel."""


@_registered
class FakeQuantDepthwiseConv2D(_RoundsKernel, tf.keras.layers.DepthwiseConv2D):
    """A scale for each output channel."""

    kernel_name, channel_axes = "depthwise_kernel", 2


@_registered
class FakeQuantEmbedding(_RoundsKernel, tf.keras.layers.Embedding):
    """One scale, which is that of the vectors taken from the table."""

    kernel_name, channel_axes = "embeddings", 0


def rounded_kernel(kernel: Any, axes: int) -> Any:
    """A kernel's values as int8 holds them, with the gradient of the kernel itself.

    Args:
      kernel: float32.
      axes: how many of its last axes tell output channels, each of which has its own scale; 0 for
        one scale.
    """
    shape = kernel.shape
    if axes == 0:
        largest = tf.reduce_max(tf.abs(kernel))
        return tf.quantization.fake_quant_with_min_max_vars(
            kernel, -largest, largest, narrow_range=True
        )
    channels = tf.reshape(kernel, (*shape[: len(shape) - axes], -1))
    largest = tf.reduce_max(tf.abs(channels), axis=list(range(len(channels.shape) - 1)))
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        channels, -largest, largest, narrow_range=True
    )
    return tf.reshape(rounded, shape)


@contextlib.contextmanager
def _replaced(layer: tf.keras.layers.Layer, name: str, value: Any) -> Iterator[None]:
    """Another value in an attribute, past Keras, which would take it for a change of weights."""
    own = layer.__dict__
    kept, own[name] = own[name], value
    try:
        yield
    finally:
        own[name] = kept
