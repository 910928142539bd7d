"""Weight quantization that SavedModel and TFLite agree on to the last bit.

`quantize_weights` rounds a model's weights to values that the scheme can store, in float32. The
SavedModel keeps those values; the TFLite file stores the same values in fewer bits, through
`pack_weights`: each weight matrix as float16, or as int8 with a scale per output channel, with a
DEQUANTIZE operator behind it. TFLite then computes in float, at float speed, on the same weights.

The converter's own float16 mode rounds every constant, also those that are no weights (such as
the 1 / 255 that scales an image), so that the two files would differ. Its dynamic-range mode
leaves tensors below 1,024 elements in float and rounds activations at run time; it is measured
for comparison.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.compress.variant_config import Quantization
from privet.components.shared.keras_models import with_weights

_LEVELS = 127  # symmetric and narrow: -127..127, as TFLite's int8 weights
_EXACT = 1e-6  # relative error below which values count as int8 multiples of a scale
_SMALLEST = 64  # elements; below, the scales and the operator cost more than fewer bits save

# DEQUANTIZE's version that knows float16, and the one that knows a scale per channel.
_DEQUANTIZE_VERSIONS = {"float16": 3, "int8": 5}

Stored = tuple[np.ndarray, np.ndarray | None, int]
"""Values as they are stored, their scales [channels] if they are int8, and the channel axis."""


def rounded(model: tf.keras.Model, scheme: Quantization) -> tf.keras.Model:
    """A copy of the model with its trainable weights rounded to what the scheme stores."""
    variables = model.trainable_variables
    weights = [variable.numpy() for variable in variables]
    names = [variable.name for variable in variables]
    return with_weights(model, quantize_weights(weights, names, scheme))


def quantize_weights(
    weights: Sequence[np.ndarray], names: Sequence[str], scheme: Quantization
) -> list[np.ndarray]:
    """Weights rounded to what the scheme stores.

    Args:
      weights: float32 arrays.
      names: of the variables, for the channel axis.
      scheme: of the others than float16 and int8_weights none changes anything here.

    Returns:
      float32 arrays of the same shapes. Vectors (biases) stay float32 under int8_weights.
    """
    if scheme == "float16":
        return [weight.astype(np.float16).astype(np.float32) for weight in weights]
    if scheme == "int8_weights":
        return [
            weight if weight.ndim < 2 else dequantize(*quantize_int8(weight, channel_axes(name)))
            for weight, name in zip(weights, names, strict=True)
        ]
    return list(weights)


def channel_axes(name: str) -> tuple[int, ...]:
    """The axes of a Keras variable along which the scale may differ."""
    if "depthwise_kernel" in name:
        return (-2, -1)  # [height, width, input channel, multiplier]
    if "embeddings" in name:
        return (0,)
    return (-1,)


def quantize_int8(weight: np.ndarray, axes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 values and their scales.

    Args:
      weight: float32, two or more axes.
      axes: those along which the scale may differ.

    Returns:
      (int8 array of the weight's shape, float32 scales that broadcast to it).
    """
    kept = {axis % weight.ndim for axis in axes}
    reduced = tuple(axis for axis in range(weight.ndim) if axis not in kept)
    largest = np.abs(weight).max(axis=reduced, keepdims=True)
    scales = np.where(largest > 0, largest / np.float32(_LEVELS), np.float32(1)).astype(np.float32)
    values = np.clip(np.rint(weight / scales), -_LEVELS, _LEVELS)
    return values.astype(np.int8), scales


def dequantize(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """What TFLite's DEQUANTIZE computes: float32 values * scales."""
    return values.astype(np.float32) * scales


def pack_weights(tflite: bytes, scheme: Quantization) -> tuple[bytes, int]:
    """Stores the constant matrices of a float TFLite model in fewer bits, where that is exact.

    Args:
      tflite: a float32 model whose weights `quantize_weights(…, scheme)` made.
      scheme: float16 or int8_weights.

    Returns:
      (the smaller model, how many tensors are smaller). A tensor that the converter changed (by
      folding another operation into it) is no longer exact and stays float32.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    exact = {"float16": _exact_float16, "int8_weights": _exact_int8}[scheme]
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    packed = 0
    for graph in model.subgraphs:
        operators = []
        for index, tensor in enumerate(list(graph.tensors)):
            constant = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or constant is None:
                continue
            weight = np.frombuffer(bytes(constant), "<f4")
            weight = weight.reshape(tensor.shape)
            found = exact(weight) if weight.ndim >= 2 and weight.size >= _SMALLEST else None
            if found is None:
                continue
            graph.tensors.append(_stored_tensor(schema, tensor, found, buffer=len(model.buffers)))
            model.buffers.append(_buffer(schema, found[0]))
            model.buffers[tensor.buffer].data = None
            tensor.buffer = 0  # TFLite's convention: computed, not constant
            version = _DEQUANTIZE_VERSIONS[found[0].dtype.name]
            operators.append(_dequantize(schema, model, version, len(graph.tensors) - 1, index))
        graph.operators = operators + list(graph.operators)
        packed += len(operators)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), packed


def _exact_float16(weight: np.ndarray) -> Stored | None:
    """A tensor whose values are all float16's."""
    with np.errstate(over="ignore"):
        values = weight.astype(np.float16)
    return (values, None, 0) if np.array_equal(values.astype(np.float32), weight) else None


def _exact_int8(weight: np.ndarray) -> Stored | None:
    """A tensor that is exactly int8 times a scale per channel."""
    for axis in (0, weight.ndim - 1):  # [out, …] of dense and conv, [1, h, w, out] of depthwise
        values, scales = quantize_int8(weight, (axis,))
        error = np.abs(dequantize(values, scales) - weight).max()
        if error <= _EXACT * np.abs(weight).max():
            return values, scales.reshape(-1), axis
    return None


def _stored_tensor(schema: Any, tensor: Any, found: Stored, *, buffer: int) -> Any:
    values, scales, axis = found
    stored = schema.TensorT()
    stored.name = bytes(tensor.name) + f"_{values.dtype}".encode()
    stored.shape = list(values.shape)
    stored.type = getattr(schema.TensorType, values.dtype.name.upper())
    stored.buffer = buffer
    if scales is None:
        return stored
    stored.quantization = schema.QuantizationParametersT()
    stored.quantization.scale = scales.tolist()
    stored.quantization.zeroPoint = [0] * len(scales)
    stored.quantization.quantizedDimension = axis
    return stored


def _buffer(schema: Any, values: np.ndarray) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return buffer


def operator_code(model: Any, code: int, *, version: int) -> int:
    """Index of a builtin operator among those that a TFLite model lists; adds it if need be.

    Args:
      model: a TFLite model as the schema's object; may be changed.
      code: a value of BuiltinOperator.
      version: of the operator.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    known = [(entry.builtinCode, entry.version) for entry in model.operatorCodes]
    if (code, version) not in known:
        known.append((code, version))
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = version
        model.operatorCodes.append(entry)
    return known.index((code, version))


def _dequantize(schema: Any, model: Any, version: int, source: int, destination: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, schema.BuiltinOperator.DEQUANTIZE, version=version)
    operator.inputs, operator.outputs = [source], [destination]
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator
