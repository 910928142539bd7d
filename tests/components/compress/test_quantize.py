"""Rounding of weights: its error, its fixed points, and the axis of its scales."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privet.components.compress.quantize import (
    channel_axes,
    dequantize,
    quantize_int8,
    quantize_weights,
)

weights = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=4, max_side=6),
    elements=st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False).filter(
        lambda value: value == 0 or abs(value) > 1e-20
    ),
)


@given(weights, st.integers(0, 3))
def test_error_is_at_most_half_a_scale(weight: np.ndarray, axis: int) -> None:
    values, scales = quantize_int8(weight, (axis % weight.ndim,))
    error = np.abs(dequantize(values, scales).astype(np.float64) - weight)

    assert values.dtype == np.int8
    assert values.min(initial=0) >= -127  # symmetric: -128 is not used
    assert np.all(error <= scales * 0.5 * (1 + 1e-4))


@given(weights)
def test_rounding_twice_changes_nothing(weight: np.ndarray) -> None:
    once = dequantize(*quantize_int8(weight, (-1,)))
    values, scales = quantize_int8(once, (-1,))

    np.testing.assert_allclose(dequantize(values, scales), once, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(values, quantize_int8(weight, (-1,))[0])


def test_scale_is_the_largest_weight_of_its_channel() -> None:
    weight = np.array([[127.0, 0.5], [-63.6, -1.0]], np.float32)
    values, scales = quantize_int8(weight, (1,))

    np.testing.assert_allclose(scales, [[1.0, 1 / 127]], rtol=1e-6)
    assert values.tolist() == [[127, 64], [-64, -127]]


def test_channel_of_zeros_stays_zero() -> None:
    weight = np.array([[0.0, 1.0], [0.0, 2.0]], np.float32)

    assert dequantize(*quantize_int8(weight, (1,)))[:, 0].tolist() == [0.0, 0.0]


def test_scales_differ_along_several_axes() -> None:
    _, scales = quantize_int8(np.ones((3, 3, 4, 2), np.float32), (-2, -1))
    assert scales.shape == (1, 1, 4, 2)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("dense/kernel:0", (-1,)),
        ("conv/kernel:0", (-1,)),
        ("depthwise/depthwise_kernel:0", (-2, -1)),
        ("embedding/embeddings:0", (0,)),
    ],
)
def test_axes_follow_the_variable(name: str, axes: tuple[int, ...]) -> None:
    assert channel_axes(name) == axes


@pytest.mark.parametrize(
    ("scheme", "matrix", "bias"),
    [
        ("float32", 1 / 3, 1 / 3),
        ("dynamic_range", 1 / 3, 1 / 3),
        ("float16", float(np.float16(1 / 3)), float(np.float16(1 / 3))),
        ("int8_weights", 42 / 127, 1 / 3),
    ],
)
def test_schemes_round_what_they_store(scheme: Any, matrix: float, bias: float) -> None:
    given_ = [np.array([[1 / 3], [1.0]], np.float32), np.array([1 / 3, 1.0], np.float32)]
    rounded = quantize_weights(given_, ["a/kernel:0", "a/bias:0"], scheme)

    assert [part.dtype for part in rounded] == [np.float32, np.float32]
    np.testing.assert_allclose(rounded[0], [[matrix], [1.0]], rtol=1e-6)
    np.testing.assert_allclose(rounded[1], [bias, 1.0], rtol=1e-6)
