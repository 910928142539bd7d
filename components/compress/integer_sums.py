"""TFLite's int8 operators that add up: dense layers, convolutions, pooling, means and sums.

Sums of products are computed in floating point, which is exact while no partial sum reaches 2**24
(float32) or 2**53 (float64): the weights tell beforehand.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from privet.components.compress.integer_arithmetic import (
    HIGHEST,
    LOWEST,
    Values,
    centred,
    clipped,
    fixed_point,
    fixed_point_factors,
    fixed_point_in_blocks,
    int8,
    multiplied,
    narrowed,
    times,
)
from privet.components.compress.integer_graph import Operator, TensorInfo, refused

_EXACT_IN_FLOAT32 = 2**24


def fully_connected(operator: Operator, values: Values) -> tf.Tensor:
    """FULLY_CONNECTED."""
    source, kernel, bias = _operands(operator)
    if operator.options.get("weightsFormat"):
        raise refused("FULLY_CONNECTED with shuffled weights", "weights in their order")
    units, fan_in = kernel.shape
    dtype = _accumulator(source, kernel, bias)
    flat = centred(tf.reshape(values[0], [-1, fan_in]), source, dtype)
    sums = _plus_bias(tf.matmul(flat, tf.cast(kernel, dtype), transpose_b=True), bias)
    result = _rescaled(operator, sums)
    if operator.options.get("keepNumDims"):
        result = tf.reshape(result, tf.concat([tf.shape(values[0])[:-1], [units]], 0))
    return result


def conv_2d(operator: Operator, values: Values) -> tf.Tensor:
    """CONV_2D."""
    source, kernel, bias = _operands(operator)
    if source.shape[-1] != kernel.shape[-1]:
        raise refused("CONV_2D in groups", "convolutions over all channels")
    strides, dilations = _strides(operator), _dilations(operator)
    dtype = _accumulator(source, kernel, bias)
    sums = tf.nn.conv2d(
        centred(values[0], source, dtype),
        tf.cast(kernel.transpose(1, 2, 3, 0), dtype),
        strides,
        _padding(operator, kernel.shape[1:3], strides, dilations),
        dilations=dilations,
    )
    return _rescaled(operator, _plus_bias(sums, bias))


def depthwise_conv_2d(operator: Operator, values: Values) -> tf.Tensor:
    """DEPTHWISE_CONV_2D."""
    source, kernel, bias = _operands(operator)
    strides, dilations = _strides(operator), _dilations(operator)
    if strides[0] != strides[1] or (max(strides) > 1 and max(dilations) > 1):
        raise refused(
            f"DEPTHWISE_CONV_2D with strides {strides} and dilations {dilations}",
            "equal strides, and dilations only with stride 1",
        )
    dtype = _accumulator(source, kernel.transpose(3, 0, 1, 2), bias)
    _, height, width, channels = kernel.shape
    depth = operator.options["depthMultiplier"]
    sums = tf.nn.depthwise_conv2d(
        centred(values[0], source, dtype),
        tf.cast(kernel.reshape(height, width, channels // depth, depth), dtype),
        [1, *strides, 1],
        _padding(operator, (height, width), strides, dilations),
        dilations=dilations,
    )
    return _rescaled(operator, _plus_bias(sums, bias))


def _operands(operator: Operator) -> tuple[TensorInfo, np.ndarray, np.ndarray | None]:
    """The input, and the values of the weights and of the bias if there is one."""
    source, weights = operator.source(0), operator.source(1)
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    types = (source.dtype, weights.dtype, operator.output.dtype, bias.dtype if bias else "int32")
    kernel = weights.constant
    if types != ("int8", "int8", "int8", "int32") or kernel is None:
        raise operator.refused_types()
    if bias is None:
        return source, kernel, None
    if bias.constant is None:
        raise refused(f"{operator.name} with a computed bias", "constant ones")
    return source, kernel, bias.constant


def _accumulator(source: TensorInfo, kernel: np.ndarray, bias: np.ndarray | None) -> tf.DType:
    """The smaller float type in which no order of summation rounds.

    Every partial sum lies between the sum of the negative products and that of the positive ones,
    each for the inputs that make it largest.

    Args:
      source: the int8 input.
      kernel: int8; the first axis is that of the outputs.
      bias: int32, one for each output.
    """
    weights = kernel.reshape(len(kernel), -1).astype(np.int64)
    ends = np.stack([weights * (end - source.zero_point) for end in (LOWEST, HIGHEST)])
    largest = np.maximum(ends.max(0).clip(min=0).sum(1), -ends.min(0).clip(max=0).sum(1))
    if bias is not None:
        largest = largest + np.abs(bias.astype(np.int64))
    return tf.float32 if largest.max() < _EXACT_IN_FLOAT32 else tf.float64


def _plus_bias(sums: tf.Tensor, bias: np.ndarray | None) -> tf.Tensor:
    return sums if bias is None else tf.nn.bias_add(sums, tf.cast(bias, sums.dtype))


def _padding(
    operator: Operator, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> str:
    """SAME or VALID.

    XNNPACK (as in TensorFlow 2.14) reads the wrong pixels with SAME where the last pixels need no
    padding but are passed over by the stride: the subtraction of its padding wraps around. The
    file's own answer is wrong then; nobody wants it again.
    """
    padding = ("SAME", "VALID")[operator.options["padding"]]
    if padding == "VALID" or not operator.by_xnnpack or max(kernel) == 1:
        return padding
    sizes = operator.source(0).shape[1:3]
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (length - 1) * dilation + 1
        if reach < stride and (size is None or (size - 1) // stride * stride + reach < size):
            raise refused(
                f"{operator.name} with padding SAME, kernel {list(kernel)} and the larger strides "
                f"{list(strides)}, which XNNPACK computes wrongly",
                "strides up to the kernel's size, or padding VALID",
            )
    return padding


def _rescaled(operator: Operator, sums: tf.Tensor) -> tf.Tensor:
    """Sums of products (whole numbers in float; channels last) as int8."""
    source, weights, output = operator.source(0), operator.source(1), operator.output
    products = source.scale * weights.channel_scales  # in float32
    if operator.by_xnnpack:
        return narrowed(operator, tf.round(times(sums, products / output.scale)))
    if operator.name != "FULLY_CONNECTED" or len(products) > 1:  # where TFLite takes float64
        products = np.float64(source.scale) * weights.channel_scales.astype(np.float64)
    factors = products / np.float64(output.scale)
    whole = tf.cast(sums, tf.int64)
    if operator.name == "DEPTHWISE_CONV_2D":
        factors = np.broadcast_to(factors, sums.shape[-1:])
        return narrowed(operator, fixed_point_in_blocks(whole, factors, block=8))
    return narrowed(operator, fixed_point(whole, factors, halves="up"))


def _strides(operator: Operator) -> tuple[int, int]:
    """(height, width)."""
    return operator.options["strideH"], operator.options["strideW"]


def _dilations(operator: Operator) -> tuple[int, int]:
    """(height, width)."""
    return operator.options["dilationHFactor"], operator.options["dilationWFactor"]


# Pooling and reductions.


def max_pool_2d(operator: Operator, values: Values) -> tf.Tensor:
    """MAX_POOL_2D."""
    pooled = tf.nn.max_pool2d(tf.cast(int8(operator, values[0]), tf.float32), *_window(operator))
    return clipped(operator, pooled)


def average_pool_2d(operator: Operator, values: Values) -> tf.Tensor:
    """AVERAGE_POOL_2D."""
    size, strides, padding = _window(operator)
    images = operator.source(0).sizes([1, 2])
    height, width = (  # how many pixels each window has; padding does not count
        np.minimum(starts + length, image) - np.maximum(starts, 0)
        for image, length, stride in zip(images, size, strides, strict=True)
        for starts in [_window_starts(image, length, stride, padding)]
    )
    counts = np.outer(height, width)[None, :, :, None].astype(np.int32)
    means = tf.nn.avg_pool2d(tf.cast(int8(operator, values[0]), tf.float64), size, strides, padding)
    sums = tf.cast(tf.round(means * counts.astype(np.float64)), tf.int32)  # exact
    return clipped(operator, tf.sign(sums) * ((tf.abs(sums) + counts // 2) // counts))


def _window(operator: Operator) -> tuple[tuple[int, int], tuple[int, int], str]:
    """Size, strides and padding of a pooling operator."""
    options = operator.options
    size = (options["filterHeight"], options["filterWidth"])
    return size, _strides(operator), ("SAME", "VALID")[options["padding"]]


def _window_starts(image: int, length: int, stride: int, padding: str) -> np.ndarray:
    if padding == "VALID":
        return np.arange(0, image - length + 1, stride)
    starts = np.arange(0, image, stride)
    return starts - max(int(starts[-1]) + length - image, 0) // 2


def mean(operator: Operator, values: Values) -> tf.Tensor:
    """MEAN."""
    source, output = operator.source(0), operator.output
    sums, axes, count = _sums(operator, values)
    over_image = axes == [1, 2] and len(source.shape) == 4
    if operator.by_xnnpack:
        if not over_image:
            raise refused(f"MEAN over {axes} on XNNPACK", "it over height and width")
        scale = source.scale / (output.scale * np.float32(count))
        return narrowed(operator, tf.round(times(sums - count * source.zero_point, scale)))
    if over_image and operator.options["keepDims"]:
        factor = np.float64(source.scale / (np.float32(count) * output.scale))
        zero = float(np.float32(source.zero_point) * source.scale / output.scale)
        means = fixed_point_in_blocks(sums, np.full(source.sizes([3]), factor), block=16)
        return narrowed(operator, means - int(np.copysign(np.floor(abs(zero) + 0.5), zero)))
    # TFLite divides the fixed-point factor by the count, in integers.
    multiplier, exponent = fixed_point_factors(source.scale.astype(float) / float(output.scale))
    shift = min(count.bit_length() - 1, 32, 31 + int(exponent))
    multiplier = (multiplier << shift) // count
    whole = sums - count * source.zero_point
    return narrowed(operator, multiplied(whole, multiplier, exponent - shift, halves="away"))


def total(operator: Operator, values: Values) -> tf.Tensor:
    """SUM."""
    source = operator.source(0)
    sums, _, count = _sums(operator, values)
    scale = source.scale / operator.output.scale
    zero = np.float32(-source.zero_point) * scale * np.float32(count)
    scaled = times(sums, scale) + zero
    return narrowed(operator, tf.sign(scaled) * tf.floor(tf.abs(scaled) + 0.5))


def _sums(operator: Operator, values: Values) -> tuple[tf.Tensor, list[int], int]:
    """int64 sums of a reduction's integers, its axes, and how many elements each sum has."""
    source = operator.source(0)
    axes = sorted({int(axis) % len(source.shape) for axis in np.ravel(operator.constant(1))})
    wide = tf.cast(int8(operator, values[0]), tf.int64)
    sums = tf.reduce_sum(wide, axes, keepdims=bool(operator.options["keepDims"]))
    return sums, axes, int(np.prod(source.sizes(axes)))
