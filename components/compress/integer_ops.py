"""TFLite's int8 operators in TensorFlow ops: the table of them, and those without sums.

A tensor has the type that the file gives it. What TFLite and XNNPACK do was read in their sources
and measured; tests/components/compress/test_integer_ops.py measures it again.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.compress import integer_sums
from privet.components.compress.integer_arithmetic import (
    HIGHEST,
    LOWEST,
    Values,
    activated,
    centred,
    clipped,
    fixed_point,
    int8,
    narrowed,
    shifted,
    times,
)
from privet.components.compress.integer_graph import Operator, refused

_EVERY_INT8 = np.arange(LOWEST, HIGHEST + 1)


def compute(operator: Operator, values: Values) -> tf.Tensor:
    """The output of one operator, as its tensor's type in the file.

    Raises:
      ModelError: the operator, its types or its options are not known here.
    """
    if operator.name not in OPERATORS:
        raise refused(
            f"operator {operator.name}", "the operators listed in docs/compression_int8.md"
        )
    on_int8 = operator.output.dtype == "int8"
    if operator.by_xnnpack and on_int8 and operator.name in _NEVER_BY_XNNPACK:
        raise refused(f"operator {operator.name} on XNNPACK", "it on TFLite's own kernels")
    return OPERATORS[operator.name](operator, values)


# Between float and int8.


def _quantize(operator: Operator, values: Values) -> tf.Tensor:
    source, output = operator.source(0), operator.output
    if (source.dtype, output.dtype) == ("float32", "int8"):
        inverse = np.float32(1) / output.scale
        return narrowed(operator, tf.round(times(values[0], inverse)))
    if (source.dtype, output.dtype) != ("int8", "int8"):
        raise operator.refused_types()
    value = centred(values[0], source, tf.int64)
    if operator.by_xnnpack:
        multiplier = int(np.rint(np.float32(256) * (source.scale / output.scale)))
        return narrowed(operator, shifted(value * multiplier, 8))
    factor = np.float64(source.scale) / np.float64(output.scale)
    return narrowed(operator, fixed_point(value, factor, halves="up"))


def _dequantize(operator: Operator, values: Values) -> tf.Tensor:
    source = operator.source(0)
    if (source.dtype, operator.output.dtype) != ("int8", "float32"):
        raise operator.refused_types()
    if operator.by_xnnpack:
        return times(centred(values[0], source, tf.float32), source.scale)
    scaled = times(values[0], source.scale)
    return scaled - np.float32(source.zero_point) * source.scale


# Element by element.


def _add(operator: Operator, values: Values) -> tf.Tensor:
    if operator.output.dtype == "float32":
        return activated(operator, values[0] + values[1])
    return _added(operator, values, sign=1)


def _sub(operator: Operator, values: Values) -> tf.Tensor:
    if operator.output.dtype == "float32":
        return activated(operator, values[0] - values[1])
    return _added(operator, values, sign=-1)


def _added(operator: Operator, values: Values, *, sign: int) -> tf.Tensor:
    """Both implementations rescale the inputs with integers before they add them."""
    left, right = _centred_pair(operator, values)
    scales, output = _scale_pair(operator), operator.output.scale
    if operator.by_xnnpack:
        ratios = [scale / output for scale in scales]
        shift = 21 - int(np.frexp(max(ratios))[1])
        factors = [int(np.rint(np.ldexp(ratio, shift))) for ratio in ratios]
        return narrowed(operator, shifted(left * factors[0] + sign * right * factors[1], shift))
    left, right, scale = _same_scale(left, right, scales, bits=20)
    factor = scale / np.float64(output)
    return narrowed(operator, fixed_point(left + sign * right, factor, halves="away"))


def _mul(operator: Operator, values: Values) -> tf.Tensor:
    if operator.output.dtype == "float32":
        return activated(operator, times(values[0], values[1]))
    left, right = _centred_pair(operator, values)
    scales, output = _scale_pair(operator), operator.output.scale
    if operator.by_xnnpack:
        return narrowed(operator, tf.round(times(left * right, scales[0] * scales[1] / output)))
    factor = np.float64(scales[0]) * np.float64(scales[1]) / np.float64(output)
    return narrowed(operator, fixed_point(left * right, factor, halves="away"))


def _squared_difference(operator: Operator, values: Values) -> tf.Tensor:
    left, right, scale = _same_scale(
        *_centred_pair(operator, values), _scale_pair(operator), bits=7
    )
    factor = scale * scale / np.float64(operator.output.scale)
    return narrowed(operator, fixed_point((left - right) * (left - right), factor, halves="away"))


def _same_scale(
    left: tf.Tensor, right: tf.Tensor, scales: list[np.float32], *, bits: int
) -> tuple[tf.Tensor, tf.Tensor, np.float64]:
    """Two tensors as integers of one scale, with so many bits more, and that scale."""
    twice = 2 * np.float64(max(scales))
    left, right = (
        fixed_point(value * 2**bits, np.float64(scale) / twice, halves="away")
        for value, scale in zip((left, right), scales, strict=True)
    )
    return left, right, twice / 2**bits


def _centred_pair(operator: Operator, values: Values) -> tuple[tf.Tensor, tf.Tensor]:
    left, right = (
        centred(int8(operator, values[place]), operator.source(place), tf.int64) for place in (0, 1)
    )
    return left, right


def _scale_pair(operator: Operator) -> list[np.float32]:
    return [operator.source(place).scale for place in (0, 1)]


def _extreme(function: Callable[[Any, Any], tf.Tensor]) -> Callable[[Operator, Values], tf.Tensor]:
    """MAXIMUM or MINIMUM, of integers that mean the same."""

    def operation(operator: Operator, values: Values) -> tf.Tensor:
        operator.check_same_scales()
        return function(*(int8(operator, value) for value in values))

    return operation


def _reduced(function: Callable[..., tf.Tensor]) -> Callable[[Operator, Values], tf.Tensor]:
    """A reduction that needs no rescaling."""

    def operation(operator: Operator, values: Values) -> tf.Tensor:
        operator.check_same_scales(slice(0, 1))
        axes = np.ravel(operator.constant(1)).tolist()
        return function(values[0], axes, keepdims=bool(operator.options["keepDims"]))

    return operation


def _reduce_prod(operator: Operator, values: Values) -> tf.Tensor:
    """Of shapes, which layers on sequences compute."""
    if operator.output.dtype != "int32":
        raise operator.refused_types()
    return _reduced(tf.reduce_prod)(operator, values)


def _relu(operator: Operator, values: Values) -> tf.Tensor:
    """RELU and RELU6."""
    activation = {"RELU": 1, "RELU6": 3}[operator.name]
    if operator.output.dtype == "float32":
        return activated(operator, values[0], activation)
    source = operator.source(0)
    value = centred(int8(operator, values[0]), source, tf.int64)
    factor = np.float64(source.scale) / np.float64(operator.output.scale)
    return narrowed(operator, fixed_point(value, factor, halves="away"), activation)


def _by_table(
    function: Callable[[np.ndarray], np.ndarray], of_floats: Callable[[Any], tf.Tensor]
) -> Callable[[Operator, Values], tf.Tensor]:
    """An operator that looks up one of 256 results, as both implementations do.

    Theirs were computed with other float32 functions: where a result lies within a rounding error
    of a half (one of 200,000 in experiments), it may be one step off.

    Args:
      function: of real values.
      of_floats: the same in TensorFlow, for float tensors.
    """

    def operation(operator: Operator, values: Values) -> tf.Tensor:
        if operator.output.dtype == "float32":
            return of_floats(values[0])
        source, output = operator.source(0), operator.output
        value = int8(operator, values[0])
        real = (_EVERY_INT8 - source.zero_point).astype(np.float32) * source.scale
        result = function(real.astype(np.float64)).astype(np.float32)
        result *= np.float32(1) / output.scale
        away = np.copysign(np.floor(np.abs(result) + np.float32(0.5)), result)
        steps = (np.rint(result) if operator.by_xnnpack else away) + output.zero_point
        table = np.clip(steps, LOWEST, HIGHEST).astype(np.int8)
        return tf.gather(table, tf.cast(value, tf.int32) - LOWEST)

    return operation


def _rsqrt(operator: Operator, values: Values) -> tf.Tensor:
    """TFLite's own fixed-point table: 20 bits of 1 / sqrt, then the scales. Below 0: as 0."""
    source, output = operator.source(0), operator.output
    value = int8(operator, values[0])
    whole = (_EVERY_INT8 - source.zero_point).clip(min=0)
    roots = np.rint(2.0**20 / np.sqrt(whole.clip(min=1))).astype(np.int64)
    factor = 1 / (np.sqrt(source.scale).astype(float) * float(output.scale) * 2**20)
    steps = fixed_point(tf.constant(roots), factor, halves="away") + output.zero_point
    table = tf.where(whole == 0, np.int64(HIGHEST), tf.clip_by_value(steps, LOWEST, HIGHEST))
    return tf.gather(tf.cast(table, tf.int8), tf.cast(value, tf.int32) - LOWEST)


def _softmax(operator: Operator, values: Values) -> tf.Tensor:
    if operator.output.dtype != "float32":
        raise operator.refused_types()
    return tf.nn.softmax(values[0] * np.float32(operator.options["beta"]))


# Shapes, and what only moves values.


def _reshape(operator: Operator, values: Values) -> tf.Tensor:
    shape = values[1] if len(values) > 1 else operator.options["newShape"]
    result = tf.reshape(values[0], shape)
    result.set_shape([None, *operator.output.shape[1:]] if operator.output.shape else [])
    return result


def _strided_slice(operator: Operator, values: Values) -> tf.Tensor:
    options = operator.options
    if options.get("offset"):
        raise refused("STRIDED_SLICE with an offset", "it with an end")
    return tf.strided_slice(
        *values,
        begin_mask=options["beginMask"],
        end_mask=options["endMask"],
        ellipsis_mask=options["ellipsisMask"],
        new_axis_mask=options["newAxisMask"],
        shrink_axis_mask=options["shrinkAxisMask"],
    )


def _concatenation(operator: Operator, values: Values) -> tf.Tensor:
    operator.check_same_scales()
    joined = tf.concat(values, operator.options["axis"])
    if operator.output.dtype == "float32":
        return activated(operator, joined)
    return clipped(operator, joined) if operator.output.dtype == "int8" else joined


def _pad(operator: Operator, values: Values) -> tf.Tensor:
    operator.check_same_scales(slice(0, 1))
    return tf.pad(values[0], values[1], constant_values=operator.output.zero_point)


def _gather(operator: Operator, values: Values) -> tf.Tensor:
    operator.check_same_scales(slice(0, 1))
    options = operator.options
    return tf.gather(
        values[0], values[1], axis=options["axis"], batch_dims=options.get("batchDims", 0)
    )


_NEVER_BY_XNNPACK = (
    "AVERAGE_POOL_2D",
    "SQUARED_DIFFERENCE",
    "SUM",
    "RELU",
    "RELU6",
    "RSQRT",
)
"""XNNPACK of TensorFlow 2.14 has no int8 form of these; a later one may round otherwise."""

OPERATORS: Mapping[str, Callable[[Operator, Values], tf.Tensor]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": integer_sums.average_pool_2d,
    "CAST": lambda operator, values: tf.cast(values[0], operator.output.dtype),
    "CONCATENATION": _concatenation,
    "CONV_2D": integer_sums.conv_2d,
    "DEPTHWISE_CONV_2D": integer_sums.depthwise_conv_2d,
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": lambda operator, values: tf.expand_dims(
        values[0], int(np.ravel(operator.constant(1))[0])
    ),
    "FULLY_CONNECTED": integer_sums.fully_connected,
    "GATHER": _gather,
    "LOGISTIC": _by_table(lambda x: 1 / (1 + np.exp(-x)), tf.sigmoid),
    "MAXIMUM": _extreme(tf.maximum),
    "MAX_POOL_2D": integer_sums.max_pool_2d,
    "MEAN": integer_sums.mean,
    "MINIMUM": _extreme(tf.minimum),
    "MUL": _mul,
    "PACK": lambda operator, values: tf.stack(values, operator.options["axis"]),
    "PAD": _pad,
    "QUANTIZE": _quantize,
    "REDUCE_MAX": _reduced(tf.reduce_max),
    "REDUCE_PROD": _reduce_prod,
    "RELU": _relu,
    "RELU6": _relu,
    "RESHAPE": _reshape,
    "RSQRT": _rsqrt,
    "SHAPE": lambda operator, values: tf.shape(values[0], operator.output.dtype),
    "SOFTMAX": _softmax,
    "SQUARED_DIFFERENCE": _squared_difference,
    "SQUEEZE": lambda operator, values: tf.squeeze(
        values[0], list(operator.options["squeezeDims"])
    ),
    "STRIDED_SLICE": _strided_slice,
    "SUB": _sub,
    "SUM": integer_sums.total,
    "TANH": _by_table(np.tanh, tf.tanh),
    "TRANSPOSE": lambda operator, values: tf.transpose(values[0], values[1]),
}
"""What computes each operator of TFLite's schema; docs/compression_int8.md lists them."""
