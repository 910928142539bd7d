"""How XNNPACK and TFLite's own kernels rescale int8, in TensorFlow ops and to the last bit.

XNNPACK rescales in float32 and rounds to the nearest even, on every processor. TFLite's own
kernels multiply by a 31-bit integer, shift, and round twice; what they do with halves depends on
the kernel, and is here as TensorFlow 2.14 does it on x86.

TensorFlow's graph optimizer joins a constant factor with the factors beside it, and moves it into
the weights of a convolution. Both would change last digits. It does not look past a cast, which is
why float32 products are computed in float64 here (`times`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from privet.components.compress.integer_graph import Operator, TensorInfo, refused

Values = Sequence[Any]
"""The inputs of an operator: tensors; NumPy arrays for constants; None for one that is absent."""

LOWEST, HIGHEST = -128, 127

# TFLite's schema: none, RELU, RELU6.
_ACTIVATIONS: Mapping[int, tuple[float | None, float | None]] = {
    0: (None, None),
    1: (0.0, None),
    3: (0.0, 6.0),
}


def int8(operator: Operator, value: Any) -> Any:
    """The value; an error unless it and the operator's output are int8."""
    if operator.output.dtype != "int8" or value.dtype != "int8":
        raise operator.refused_types()
    return value


def centred(value: Any, info: TensorInfo, dtype: tf.DType) -> tf.Tensor:
    """The integers less their zero point, in a wider type."""
    return tf.cast(value, dtype) - info.zero_point


def times(value: Any, factor: Any) -> tf.Tensor:
    """float32 value * factor. The product is exact in float64, so it is rounded once."""
    wide = tf.cast(tf.cast(value, tf.float32), tf.float64)
    return tf.cast(wide * tf.cast(factor, tf.float64), tf.float32)


def fixed_point(
    value: tf.Tensor, factors: ArrayLike, *, halves: Literal["up", "away"]
) -> tf.Tensor:
    """int64 * real factors as TFLite's kernels multiply: by 31 bits, then a shift.

    After Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, 2018, section 2.2.

    Args:
      value: int64; channels last.
      factors: float64, one or one per channel.
      halves: where the second rounding takes them: up, as ruy's matrix products and vector
        instructions do, or away from 0.
    """
    return multiplied(value, *fixed_point_factors(factors), halves=halves)


def fixed_point_in_blocks(value: tf.Tensor, factors: np.ndarray, *, block: int) -> tf.Tensor:
    """The same where vector instructions take whole blocks of channels, and plain code the rest."""
    split = len(factors) // block * block
    return tf.concat(
        [
            fixed_point(value[..., :split], factors[:split], halves="up"),
            fixed_point(value[..., split:], factors[split:], halves="away"),
        ],
        -1,
    )


def fixed_point_factors(factors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """int64 (multipliers, exponents) with factor = multiplier / 2**31 * 2**exponent.

    >>> [int(part) for part in fixed_point_factors(0.75)]
    [1610612736, 0]
    """
    fractions, exponents = np.frexp(np.asarray(factors, np.float64))
    multipliers = np.floor(fractions * 2**31 + 0.5).astype(np.int64)
    full = multipliers == 2**31
    multipliers, exponents = np.where(full, 2**30, multipliers), exponents + full
    tiny = exponents < -31
    return np.where(tiny, 0, multipliers), np.where(tiny, 0, exponents).astype(np.int64)


def multiplied(
    value: tf.Tensor, multipliers: np.ndarray, exponents: np.ndarray, *, halves: str
) -> tf.Tensor:
    """int64 value * multipliers / 2**31 * 2**exponents, rounded twice: see `fixed_point`."""
    left, right = np.maximum(exponents, 0), np.maximum(-exponents, 0)
    high = shifted(value * (multipliers << left), 31)
    if halves == "up":
        return shifted(high, right)
    return shifted(high - tf.cast(high < 0, tf.int64) * (right > 0), right)


def shifted(value: tf.Tensor, bits: np.ndarray | int) -> tf.Tensor:
    """int64 value / 2**bits, rounded to the nearest, halves up."""
    bits = np.asarray(bits, np.int64)
    return tf.bitwise.right_shift(value + ((np.int64(1) << bits) >> 1), bits)


def narrowed(operator: Operator, value: tf.Tensor, activation: int | None = None) -> tf.Tensor:
    """Whole numbers as the operator's int8 output, behind its activation."""
    return clipped(operator, value + operator.output.zero_point, activation)


def clipped(operator: Operator, value: tf.Tensor, activation: int | None = None) -> tf.Tensor:
    """The same for integers that have the zero point in them already."""
    output = operator.output
    if output.dtype != "int8":
        raise operator.refused_types()
    lower, upper = _bounds(operator, activation)
    lowest, highest = LOWEST, HIGHEST
    if lower is not None:
        lowest = max(lowest, output.zero_point)
    if upper is not None:
        steps = np.float32(upper) / output.scale
        steps = np.rint(steps) if operator.by_xnnpack else np.floor(steps + np.float32(0.5))
        highest = int(min(highest, output.zero_point + steps))
    return tf.cast(tf.clip_by_value(value, lowest, highest), tf.int8)


def activated(operator: Operator, value: tf.Tensor, activation: int | None = None) -> tf.Tensor:
    """Floats behind the operator's activation."""
    if operator.output.dtype != "float32":
        raise operator.refused_types()
    lower, upper = _bounds(operator, activation)
    value = value if lower is None else tf.maximum(value, lower)
    return value if upper is None else tf.minimum(value, upper)


def _bounds(operator: Operator, activation: int | None) -> tuple[float | None, float | None]:
    if activation is None:
        activation = operator.options.get("fusedActivationFunction", 0)
    if activation not in _ACTIVATIONS:
        raise refused(f"{operator.name} with activation {activation}", "none, RELU and RELU6")
    return _ACTIVATIONS[activation]
