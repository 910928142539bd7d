"""Reshapes of a TFLite file to constant shapes, so that the XNNPACK delegate takes the graph.

TensorFlow's converter computes the shape of a Keras `Reshape` layer, and of a `Dense` layer on
sequences, from the shape of the batch (SHAPE, STRIDED_SLICE, PACK, RESHAPE), although all of it but
the number of examples is known. TFLite then does not know the sizes behind it before the model
runs, and the delegate, which must, takes no operator of the whole graph: float and int8 fall to
TFLite's own kernels, which are slower. The converter has no option against it.

A reshape keeps the number of elements. So a shape of which one size is unknown follows from the
others, and that size may be given as -1, as the converter itself does for `Flatten`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_UNKNOWN = -1  # in signatures of shapes, and what RESHAPE takes for the size that it works out

Sizes = np.ndarray
"""int64, a scalar or [n]: what is known of a shape, or of a part of one, before the model runs."""


def with_static_shapes(tflite: bytes) -> bytes:
    """The file with each RESHAPE to a constant shape where its shape is known but for one size.

    Operators that computed nothing but such shapes are left out. The answers stay the same, for any
    number of examples; so do the names and indices of tensors. What changes: an input of another
    shape than the signature's, such as one image of twice the height, may be taken for two examples
    where the RESHAPE refused it, as it may with `Flatten`.

    Args:
      tflite: of TensorFlow's converter: a size that may change is -1 in a shape's signature.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    changed = [_rewrite(model, graph) for graph in model.subgraphs]
    if not any(changed):
        return tflite
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _rewrite(model: Any, graph: Any) -> bool:
    """Gives the graph's reshapes constant shapes, and says whether there was one to give."""
    shapes: dict[int, Sizes] = {}  # that the graph computes, by tensor
    changed = False
    for operator in graph.operators:
        if _name(model, operator) == "RESHAPE":
            source, *shape = operator.inputs
            if shape and shape[0] in shapes and _determined(shapes[shape[0]]):
                operator.inputs = [source, _add_constant(model, graph, shapes[shape[0]])]
                changed = True
            continue
        sizes = _computed(model, graph, operator, shapes)
        if sizes is not None:
            shapes[operator.outputs[0]] = sizes
    if changed:
        _drop_unused(model, graph)
    return changed


def _determined(shape: Sizes) -> bool:
    """Whether the number of elements decides all of a shape that is not known."""
    known = shape[shape != _UNKNOWN]
    return len(known) == len(shape) - 1 and bool((known > 0).all())


def _computed(model: Any, graph: Any, operator: Any, shapes: Mapping[int, Sizes]) -> Sizes | None:
    """What an operator computes from shapes; None if it is none of those that are known here."""
    name, options = _name(model, operator), operator.builtinOptions
    if name == "SHAPE":
        signature = graph.tensors[operator.inputs[0]].shapeSignature
        # Without one all sizes are constant, or not even their number is known.
        return None if signature is None else np.array(signature, np.int64)
    if name not in (*_JOINS, *_PARTS):
        return None
    constants = [_constant(model, graph, index) for index in operator.inputs]
    inputs = [shapes.get(i, value) for i, value in zip(operator.inputs, constants, strict=True)]
    if name in _JOINS:
        known = [sizes for sizes in inputs if sizes is not None]
        return _JOINS[name](known) if len(known) == len(inputs) else None
    settings = [value for value in constants[1:] if value is not None]
    if inputs[0] is None or inputs[0].ndim != 1 or len(settings) != len(inputs) - 1:
        return None
    return _PARTS[name](options, inputs[0], *settings)


def _constant(model: Any, graph: Any, index: int) -> Sizes | None:
    from tensorflow.lite.python import schema_py_generated as schema

    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or tensor.type != schema.TensorType.INT32:
        return None
    shape = [] if tensor.shape is None else list(tensor.shape)
    return np.frombuffer(bytes(data), "<i4").reshape(shape).astype(np.int64)


def _concatenation(inputs: Sequence[Sizes]) -> Sizes | None:
    return np.concatenate(inputs) if all(sizes.ndim == 1 for sizes in inputs) else None


def _pack(inputs: Sequence[Sizes]) -> Sizes | None:
    return np.stack(inputs) if all(sizes.ndim == 0 for sizes in inputs) else None


def _gather(options: Any, sizes: Sizes, indices: Sizes) -> Sizes | None:
    return None if options.batchDims else np.asarray(sizes[indices])


def _reduce_prod(options: Any, sizes: Sizes, axes: Sizes) -> Sizes | None:
    if axes.size != 1:
        return None
    product = _UNKNOWN if (sizes == _UNKNOWN).any() else sizes.prod()
    return np.full([1] if options.keepDims else [], product, np.int64)


def _strided_slice(
    options: Any, sizes: Sizes, begin: Sizes, end: Sizes, strides: Sizes
) -> Sizes | None:
    if len(begin) != 1 or options.ellipsisMask or options.newAxisMask or options.offset:
        return None
    if options.shrinkAxisMask:
        return np.asarray(sizes[begin[0]])
    first = None if options.beginMask else begin[0]
    last = None if options.endMask else end[0]
    return sizes[first : last : strides[0]]


_JOINS: Mapping[str, Callable[[Sequence[Sizes]], Sizes | None]] = {
    "CONCATENATION": _concatenation,
    "PACK": _pack,
}
"""Operators that put sizes together."""

_PARTS: Mapping[str, Callable[..., Sizes | None]] = {
    "GATHER": _gather,
    "REDUCE_PROD": _reduce_prod,
    "STRIDED_SLICE": _strided_slice,
}
"""Operators on a shape [n]: of their options, the shape, and inputs that must be constants."""


def _add_constant(model: Any, graph: Any, sizes: Sizes) -> int:
    """Adds a constant, and returns the index of its tensor."""
    from tensorflow.lite.python import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(sizes.astype("<i4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name = f"static_shape_{len(graph.tensors)}"
    tensor.shape = [len(sizes)]
    tensor.hasRank = True
    tensor.type = schema.TensorType.INT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _drop_unused(model: Any, graph: Any) -> None:
    """Leaves out operators on shapes whose output nothing reads."""
    read = set(graph.outputs)
    kept = []
    for operator in reversed(graph.operators):
        on_shapes = _name(model, operator) in ("SHAPE", *_JOINS, *_PARTS)
        if on_shapes and read.isdisjoint(operator.outputs):
            continue
        read.update(operator.inputs)
        kept.append(operator)
    graph.operators = kept[::-1]


def _name(model: Any, operator: Any) -> str:
    """The operator's name in TFLite's schema."""
    from tensorflow.lite.python import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    return next(name for name, value in vars(schema.BuiltinOperator).items() if value == code)
