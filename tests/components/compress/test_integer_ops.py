"""Every int8 operator equals TFLite's, on XNNPACK and on TFLite's own kernels, to the last bit.

Each test builds a TFLite file of one operator with drawn scales, zero points, shapes and options,
and compares all outputs with those of the interpreter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from privet.components.compress.integer_graph import Operator, read_graph
from privet.components.compress.integer_ops import OPERATORS, compute
from privet.components.shared.errors import ModelError

few = settings(deadline=None, max_examples=25)  # each builds and runs a file in both ways

NONE, RELU, RELU6 = 0, 1, 3
SAME, VALID = 0, 1

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(-2, 0).map(lambda exponent: np.float32(10**exponent))
zero_points = st.integers(-128, 127)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file to build; one with data is a constant."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Any = None
    zero_point: int = 0
    axis: int = 0
    data: np.ndarray | None = None


@st.composite
def quantized(draw: Any, *shape: int) -> Tensor:
    return Tensor(shape, scale=draw(scales), zero_point=draw(zero_points))


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def one_operator(
    name: str, inputs: Sequence[Tensor], output: Tensor, kind: str = "", **options: Any
) -> bytes:
    """A TFLite file of one operator, with the signature serving_default."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    for index, tensor in enumerate([*inputs, output]):
        entry = schema.TensorT()
        entry.name, entry.shape, entry.buffer = f"t{index}".encode(), list(tensor.shape), 0
        entry.type = getattr(schema.TensorType, tensor.dtype.upper())
        if tensor.scale is not None:
            entry.quantization = schema.QuantizationParametersT()
            entry.quantization.scale = np.ravel(tensor.scale).tolist()
            entry.quantization.zeroPoint = [tensor.zero_point] * np.size(tensor.scale)
            entry.quantization.quantizedDimension = tensor.axis
        if tensor.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.data.tobytes(), np.uint8)
            entry.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(entry)
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = {"FULLY_CONNECTED": 4, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}.get(name, 2)
    operator.inputs, operator.outputs = list(range(len(inputs))), [len(inputs)]
    if kind:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
        vars(operator.builtinOptions).update(options)
    fed = [index for index, tensor in enumerate(inputs) if tensor.data is None]
    graph.inputs, graph.outputs, graph.operators = fed, [len(inputs)], [operator]
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.inputs = [tensor_map(f"x{index}", index) for index in fed]
    signature.outputs = [tensor_map("y", len(inputs))]
    model.subgraphs, model.operatorCodes, model.signatureDefs = [graph], [code], [signature]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def answer(tflite: bytes, values: Sequence[np.ndarray], *, xnnpack: bool) -> np.ndarray:
    resolver = tf.lite.experimental.OpResolverType
    interpreter = tf.lite.Interpreter(
        model_content=tflite,
        num_threads=1,
        experimental_op_resolver_type=resolver.AUTO
        if xnnpack
        else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def check(tflite: bytes, *values: np.ndarray, xnnpack: bool | None, one_off: bool = False) -> None:
    """Both ways of the interpreter equal ours.

    Args:
      tflite: a file of one operator.
      values: of its inputs that are no constants.
      xnnpack: whether the delegate takes the operator. None if that depends on the numbers drawn:
        it refuses an activation that leaves one value.
      one_off: whether one element may differ by one step.
    """
    (operator,) = read_graph(tflite).operators
    assert xnnpack is None or operator.by_xnnpack == xnnpack
    for ours, on_xnnpack in ((operator, True), (replace(operator, by_xnnpack=False), False)):
        fed = iter(values)
        given_ = [
            info.constant if info.constant is not None else tf.constant(next(fed))
            for info in ours.inputs
        ]
        got = compute(ours, given_).numpy()
        wanted = answer(tflite, values, xnnpack=on_xnnpack)
        assert got.dtype == wanted.dtype
        if one_off and (got != wanted).sum() == 1:
            wanted = wanted + np.sign(got - wanted)
        np.testing.assert_array_equal(got, wanted, err_msg=f"{operator.name} {on_xnnpack=}")


def weight_scales(
    rng: np.random.Generator, source: Tensor, output: Tensor, fan_in: int, count: int
) -> np.ndarray:
    """Such that outputs spread over the whole int8 range."""
    typical = output.scale * 60 / (source.scale * 5000 * np.sqrt(fan_in))
    return (typical * 10 ** rng.uniform(-0.5, 0.5, count)).astype(np.float32)


def weighted(
    rng: np.random.Generator,
    source: Tensor,
    shape: tuple[int, ...],
    weights: np.ndarray,
    axis: int = 0,
) -> list[Tensor]:
    """Weights and bias."""
    kernel = rng.integers(-127, 128, shape).astype(np.int8)
    bias = rng.integers(-9000, 9000, shape[axis]).astype(np.int32)
    return [
        Tensor(shape, scale=weights, axis=axis, data=kernel),
        Tensor(bias.shape, "int32", scale=source.scale * weights, data=bias),
    ]


@few
@given(scales, zero_points, seeds)
def test_quantize(scale: np.float32, zero_point: int, seed: int) -> None:
    halves = (np.arange(-140, 140) - zero_point + 0.5) * scale
    drawn = np.random.default_rng(seed).normal(size=1000) * scale * 100
    value = np.concatenate([halves, drawn]).astype(np.float32)[None]
    output = Tensor(value.shape, scale=scale, zero_point=zero_point)
    check(one_operator("QUANTIZE", [Tensor(value.shape, "float32")], output), value, xnnpack=True)


@few
@given(scales, zero_points)
def test_dequantize(scale: np.float32, zero_point: int) -> None:
    value = np.arange(-128, 128).astype(np.int8)[None]
    source = Tensor(value.shape, scale=scale, zero_point=zero_point)
    check(one_operator("DEQUANTIZE", [source], Tensor(value.shape, "float32")), value, xnnpack=True)


@few
@given(
    seeds,
    quantized(1, 1),
    quantized(1, 1),
    st.integers(1, 200),
    st.integers(1, 40),
    st.sampled_from([NONE, RELU, RELU6]),
    st.booleans(),
)
def test_fully_connected(
    seed: int,
    source: Tensor,
    output: Tensor,
    fan_in: int,
    units: int,
    activation: int,
    per_channel: bool,
) -> None:
    rng = np.random.default_rng(seed)
    kernel_scales = weight_scales(rng, source, output, fan_in, units if per_channel else 1)
    tflite = one_operator(
        "FULLY_CONNECTED",
        [
            replace(source, shape=(1, fan_in)),
            *weighted(rng, source, (units, fan_in), kernel_scales),
        ],
        replace(output, shape=(1, units)),
        "FullyConnected",
        fusedActivationFunction=activation,
    )
    taken = (not per_channel or units == 1) if activation == NONE else None
    check(tflite, integers(rng, 16, fan_in), xnnpack=taken)


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    """Sizes of an image, and of what slides over it."""
    sides = st.integers(1, 3)
    return {
        "image": (draw(st.integers(3, 9)), draw(st.integers(3, 9))),
        "kernel": (draw(sides), draw(sides)),
        "strides": (draw(sides), draw(sides)),
        "padding": draw(st.sampled_from([SAME, VALID])),
    }


def slid(window: Mapping[str, Any], dilation: int = 1) -> list[tuple[int, bool]]:
    """Output size along each axis, and whether XNNPACK's computation of the padding is right."""
    result = []
    for size, length, stride in zip(
        window["image"], window["kernel"], window["strides"], strict=True
    ):
        reach = (length - 1) * dilation + 1
        if window["padding"] == VALID:
            result.append(((size - reach) // stride + 1, True))
        else:
            count = -(-size // stride)
            result.append((count, (count - 1) * stride + reach >= size))
    return result


@few
@given(
    seeds,
    quantized(1, 1, 1, 1),
    quantized(1, 1, 1, 1),
    windows(),
    st.integers(1, 8),
    st.integers(1, 20),
    st.sampled_from([NONE, RELU, RELU6]),
    st.integers(1, 2),
)
def test_conv_2d(
    seed: int,
    source: Tensor,
    output: Tensor,
    window: dict[str, Any],
    channels: int,
    filters: int,
    activation: int,
    dilation: int,
) -> None:
    rng = np.random.default_rng(seed)
    if max(window["strides"]) > 1 or min(window["image"]) < 5:
        dilation = 1
    (height, right_h), (width, right_w) = slid(window, dilation)
    fan_in = int(np.prod(window["kernel"])) * channels
    kernel_scales = weight_scales(rng, source, output, fan_in, filters)
    tflite = one_operator(
        "CONV_2D",
        [
            replace(source, shape=(1, *window["image"], channels)),
            *weighted(rng, source, (filters, *window["kernel"], channels), kernel_scales),
        ],
        replace(output, shape=(1, height, width, filters)),
        "Conv2D",
        **sliding_options(window, dilation),
        fusedActivationFunction=activation,
    )
    value = integers(rng, 3, *window["image"], channels)
    right = (right_h and right_w) or max(window["kernel"]) == 1
    check_or_refuse(tflite, value, activation, right=right)


@few
@given(
    seeds,
    quantized(1, 1, 1, 1),
    quantized(1, 1, 1, 1),
    windows(),
    st.integers(1, 20),
    st.integers(1, 3),
    st.sampled_from([NONE, RELU, RELU6]),
)
def test_depthwise_conv_2d(
    seed: int,
    source: Tensor,
    output: Tensor,
    window: dict[str, Any],
    channels: int,
    depth: int,
    activation: int,
) -> None:
    rng = np.random.default_rng(seed)
    window["strides"] = (window["strides"][0],) * 2
    (height, right_h), (width, right_w) = slid(window)
    fan_in, filters = int(np.prod(window["kernel"])), channels * depth
    kernel_scales = weight_scales(rng, source, output, fan_in, filters)
    tflite = one_operator(
        "DEPTHWISE_CONV_2D",
        [
            replace(source, shape=(1, *window["image"], channels)),
            *weighted(rng, source, (1, *window["kernel"], filters), kernel_scales, axis=3),
        ],
        replace(output, shape=(1, height, width, filters)),
        "DepthwiseConv2D",
        **sliding_options(window, 1),
        depthMultiplier=depth,
        fusedActivationFunction=activation,
    )
    value = integers(rng, 3, *window["image"], channels)
    right = (right_h and right_w) or max(window["kernel"]) == 1
    check_or_refuse(tflite, value, activation, right=right)


def sliding_options(window: Mapping[str, Any], dilation: int) -> dict[str, int]:
    return {
        "padding": window["padding"],
        "strideH": window["strides"][0],
        "strideW": window["strides"][1],
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
    }


def check_or_refuse(tflite: bytes, value: np.ndarray, activation: int, *, right: bool) -> None:
    """Equal, or refused where XNNPACK reads the wrong pixels."""
    (operator,) = read_graph(tflite).operators
    if right or not operator.by_xnnpack:
        check(tflite, value, xnnpack=True if activation == NONE else None)
        return
    with pytest.raises(ModelError, match="XNNPACK computes wrongly"):
        compute(operator, [value, *(info.constant for info in operator.inputs[1:])])


@few
@given(seeds, quantized(1, 1, 1, 1), windows(), st.integers(1, 20))
@pytest.mark.parametrize("name", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling(
    name: str, seed: int, source: Tensor, window: dict[str, Any], channels: int
) -> None:
    (height, _), (width, _) = slid(window)
    tflite = one_operator(
        name,
        [replace(source, shape=(1, *window["image"], channels))],
        replace(source, shape=(1, height, width, channels)),
        "Pool2D",
        padding=window["padding"],
        strideH=window["strides"][0],
        strideW=window["strides"][1],
        filterHeight=window["kernel"][0],
        filterWidth=window["kernel"][1],
        fusedActivationFunction=NONE,
    )
    value = integers(np.random.default_rng(seed), 3, *window["image"], channels)
    # XNNPACK leaves a pooling of single pixels to TFLite.
    check(tflite, value, xnnpack=None if name == "MAX_POOL_2D" else False)


@few
@given(
    seeds,
    quantized(1, 1, 1, 1),
    quantized(1, 1, 1, 1),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40)),
    st.sampled_from([(1, 2), (2, 1), (1,), (3,), (-1,)]),
    st.booleans(),
    st.booleans(),
)
@pytest.mark.parametrize("name", ["MEAN", "SUM"])
def test_reductions(
    name: str,
    seed: int,
    source: Tensor,
    output: Tensor,
    sizes: tuple[int, int, int],
    axes: tuple[int, ...],
    keep: bool,
    same: bool,
) -> None:
    value = integers(np.random.default_rng(seed), 3, *sizes)
    kept = value.mean(axis=tuple(sorted({axis % 4 for axis in axes})), keepdims=keep).shape[1:]
    growth = np.float32(0.7 if name == "MEAN" else 3)
    scale = source.scale if same else source.scale * growth
    zero_point = source.zero_point if same else output.zero_point
    tflite = one_operator(
        name,
        [
            replace(source, shape=(1, *sizes)),
            Tensor((len(axes),), "int32", data=np.array(axes, np.int32)),
        ],
        Tensor((1, *kept), scale=scale, zero_point=zero_point),
        "Reducer",
        keepDims=keep,
    )
    check(tflite, value, xnnpack=name == "MEAN" and set(axes) == {1, 2})


@few
@given(
    seeds,
    quantized(1, 4, 6),
    quantized(1, 4, 6),
    quantized(1, 4, 6),
    st.sampled_from([(4, 6), (1, 6), (4, 1), (1, 1)]),
    st.sampled_from([NONE, RELU, RELU6]),
)
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM"])
def test_pairs(
    name: str,
    seed: int,
    left: Tensor,
    right: Tensor,
    output: Tensor,
    broadcast: tuple[int, int],
    activation: int,
) -> None:
    rng = np.random.default_rng(seed)
    spread = {
        "MUL": left.scale * right.scale * 100,
        "SQUARED_DIFFERENCE": (left.scale + right.scale) ** 2 * 100,
    }.get(name, left.scale + right.scale)
    output = replace(output, scale=np.float32(spread * 10 ** rng.uniform(-0.3, 0.5)))
    if name in ("MAXIMUM", "MINIMUM"):
        right = output = left
    fused = name in ("ADD", "SUB", "MUL")
    kind = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum"}.get(
        name, name.title().replace("_", "")
    )
    taken = fused if activation == NONE else None if fused else False
    tflite = one_operator(
        name,
        [left, replace(right, shape=(1, *broadcast))],
        output,
        kind,
        **({"fusedActivationFunction": activation} if fused else {}),
    )
    check(tflite, integers(rng, 1, 4, 6), integers(rng, 1, *broadcast), xnnpack=taken)


@few
@given(quantized(1, 256), quantized(1, 256))
@pytest.mark.parametrize("name", ["RELU", "RELU6", "LOGISTIC", "TANH", "RSQRT", "QUANTIZE"])
def test_every_integer(name: str, source: Tensor, output: Tensor) -> None:
    value = np.arange(-128, 128).astype(np.int8)[None]
    fixed = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # what TFLite demands
    if name in fixed:
        scale, zero_point = fixed[name]
        output = replace(output, scale=np.float32(scale), zero_point=zero_point)
    if name == "RSQRT":  # of what is never negative
        source = replace(source, zero_point=-128)
    tflite = one_operator(name, [source], output)
    taken = None if name in ("LOGISTIC", "TANH", "QUANTIZE") else False
    check(tflite, value, xnnpack=taken, one_off=name in fixed)


def test_large_fan_in_is_summed_without_rounding() -> None:
    fan_in, units = 20_000, 4  # sums of up to 20,000 * 127 * 255 = 6e8, far above 2**24
    rng = np.random.default_rng(0)
    source = Tensor((1, fan_in), scale=np.float32(0.01), zero_point=-128)
    output = Tensor((1, units), scale=np.float32(1.0))
    kernel = rng.integers(100, 128, (units, fan_in)).astype(np.int8)
    value = integers(rng, 64, fan_in)
    value[0] = 127
    exact = (value.astype(np.int64) + 128) @ kernel.T.astype(np.int64)
    single = ((value.astype(np.float32) + 128) @ kernel.T.astype(np.float32)).astype(np.int64)
    assert (single != exact).any()  # why float32 does not do here

    # One step for each 2**16: whether a sum lies above or below a half shows in the output.
    scale = np.float32(100 / (exact.mean() * 0.01))
    tflite = one_operator(
        "FULLY_CONNECTED",
        [
            source,
            Tensor(kernel.shape, scale=scale, data=kernel),
            Tensor((units,), "int32", scale=0.01 * scale, data=np.zeros(units, np.int32)),
        ],
        output,
        "FullyConnected",
        fusedActivationFunction=NONE,
    )
    check(tflite, value, xnnpack=True)


def test_operator_outside_of_the_set_is_named() -> None:
    source = Tensor((1, 4), scale=np.float32(1 / 256), zero_point=-128)
    (operator,) = read_graph(one_operator("SOFTMAX", [source], source, "Softmax")).operators
    with pytest.raises(ModelError, match=r"SOFTMAX from int8 to int8.*not served as SavedModel"):
        compute(operator, [np.zeros((1, 4), np.int8)])
    unknown = Operator("LSTM", operator.inputs, operator.output, {}, by_xnnpack=False)
    with pytest.raises(ModelError, match=r"operator LSTM.*can be measured but not served"):
        compute(unknown, [])


def test_every_operator_is_documented() -> None:
    page = Path(__file__).parents[3].joinpath("docs/compression_int8.md").read_text()
    listed = page.split("## Operators")[1].split("## What")[0]
    words = set(listed.replace(",", " ").replace(".", " ").replace(":", " ").split())
    assert words >= set(OPERATORS)
