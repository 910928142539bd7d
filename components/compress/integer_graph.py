"""Reading an int8 TFLite file: its operators, what quantizes their tensors, and which run where.

TFLite computes an operator in one of two ways: its XNNPACK delegate takes those that it knows, and
the kernels of TFLite itself run the rest. The two round differently. Which operators the delegate
takes depends on types, options and on the rest of the graph (none, as soon as one shape depends
on the data), so the interpreter is asked rather than its rules copied.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from privet.components.shared import signatures
from privet.components.shared.errors import ModelError

_DTYPES = ("float32", "int8", "int32", "int64", "uint8", "bool")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the file, without its computed value.

    Attributes:
      index: its place in the file.
      name: as the file has it.
      dtype: NumPy's name, such as int8.
      shape: None where a size is known only at run time.
      scales: float32, one or one per channel; None when the tensor is not quantized.
      zero_point: the integer that stands for 0.
      constant: the value, if it is one.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scales: np.ndarray | None
    zero_point: int
    constant: np.ndarray | None

    @property
    def scale(self) -> np.float32:
        """The only scale of a quantized tensor."""
        if len(self.channel_scales) != 1:
            raise refused(
                f"{len(self.channel_scales)} scales in {self.name}", "one for activations"
            )
        return np.float32(self.channel_scales[0])

    @property
    def channel_scales(self) -> np.ndarray:
        """float32: the scales of a quantized tensor."""
        if self.scales is None:
            raise refused(f"no scale in {self.name}", "one for every int8 tensor")
        return self.scales

    def sizes(self, axes: Collection[int]) -> list[int]:
        """The sizes of axes that must be known before the model runs."""
        known = [size for axis in axes if (size := self.shape[axis]) is not None]
        if len(known) != len(axes):
            raise refused(f"an axis of unknown size in {self.name}", "known sizes of images")
        return known


@dataclass(frozen=True)
class Operator:
    """One operator of the file.

    Attributes:
      name: in TFLite's schema, such as CONV_2D.
      inputs: None where an optional one is absent.
      output: every operator that is known here has one.
      options: of the schema, by their names there.
      by_xnnpack: whether the XNNPACK delegate computes it.
    """

    name: str
    inputs: tuple[TensorInfo | None, ...]
    output: TensorInfo
    options: Mapping[str, Any]
    by_xnnpack: bool

    def source(self, place: int) -> TensorInfo:
        """The input at a place, which must be there."""
        info = self.inputs[place] if place < len(self.inputs) else None
        if info is None:
            raise refused(f"{self.name} without input {place}", "it with all inputs")
        return info

    def constant(self, place: int) -> np.ndarray:
        """The value of an input that must be a constant."""
        value = self.source(place).constant
        if value is None:
            raise refused(f"{self.name} with a computed input {place}", "a constant one")
        return value

    def check_same_scales(self, places: slice = slice(None)) -> None:
        """Refuses inputs whose integers mean something else than those of the output."""
        output = self.output
        for info in self.inputs[places]:
            if info is None or info.scales is None or output.scales is None:
                continue
            if (info.scale, info.zero_point) != (output.scale, output.zero_point):
                raise refused(f"{self.name} of tensors with different scales", "equal scales")

    def refused_types(self) -> ModelError:
        """The error for types that are not known here."""
        types = ", ".join(info.dtype if info else "none" for info in self.inputs)
        return refused(
            f"{self.name} from {types} to {self.output.dtype}",
            "int8 between QUANTIZE and DEQUANTIZE (quantization: int8), and float32 outside",
        )


@dataclass(frozen=True)
class Graph:
    """A TFLite file.

    Attributes:
      inputs: by the names of the serving_default signature.
      output: the only one of that signature.
      operators: in the order of execution.
    """

    inputs: Mapping[str, TensorInfo]
    output: TensorInfo
    operators: tuple[Operator, ...]


def read_graph(tflite: bytes) -> Graph:
    """Reads the operators of a TFLite file.

    Raises:
      ModelError: it has no serving_default signature, several graphs, outputs or zero points, or
        types that are not known here.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    signature = _signature(model)
    if len(model.subgraphs) != 1 or len(signature.outputs) != 1:
        raise refused(
            f"{len(model.subgraphs)} graphs and {len(signature.outputs)} outputs",
            "one graph (without branches and loops) and one output",
        )
    tensors = [
        _tensor(model, index, tensor) for index, tensor in enumerate(model.subgraphs[0].tensors)
    ]
    return Graph(
        inputs={_text(entry.name): tensors[entry.tensorIndex] for entry in signature.inputs},
        output=tensors[signature.outputs[0].tensorIndex],
        operators=_operators(model, tensors, _taken_by_xnnpack(tflite)),
    )


def refused(what: str, wanted: str) -> ModelError:
    """The error for a file outside of what can be computed exactly in TensorFlow."""
    return ModelError(
        f"The TFLite file has {what}; its exact computation in TensorFlow knows {wanted}. The "
        "variant can be measured but not served as SavedModel: serve another variant, such as "
        "quantization: int8_weights."
    )


def _signature(model: Any) -> Any:
    known = {_text(entry.signatureKey): entry for entry in model.signatureDefs or []}
    if signatures.SERVING_DEFAULT not in known:
        raise ModelError(
            f"Wanted signature {signatures.SERVING_DEFAULT} in the TFLite file; it has "
            f"{sorted(known)}. Convert it from a SavedModel with that signature."
        )
    return known[signatures.SERVING_DEFAULT]


def _tensor(model: Any, index: int, tensor: Any) -> TensorInfo:
    quantization = tensor.quantization
    scales = None if quantization is None else quantization.scale
    points = [] if scales is None else [int(point) for point in quantization.zeroPoint]
    if any(point != points[0] for point in points):
        raise refused(f"several zero points in {_text(tensor.name)}", "one per tensor")
    if tensor.sparsity is not None:
        raise refused(f"sparse storage of {_text(tensor.name)}", "dense tensors")
    sizes = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    dtype = _dtype(tensor.type)
    data = model.buffers[tensor.buffer].data
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    return TensorInfo(
        index=index,
        name=_text(tensor.name),
        dtype=dtype,
        shape=tuple(None if size < 0 else int(size) for size in ([] if sizes is None else sizes)),
        scales=None if scales is None else np.asarray(scales, np.float32),
        zero_point=points[0] if points else 0,
        constant=None if data is None else np.frombuffer(bytes(data), dtype).reshape(shape),
    )


def _operators(
    model: Any, tensors: Sequence[TensorInfo], delegated: frozenset[int]
) -> tuple[Operator, ...]:
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    operators = []
    for position, operator in enumerate(model.subgraphs[0].operators):
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if len(operator.outputs) != 1:
            raise refused(f"{name} with {len(operator.outputs)} outputs", "operators with one")
        options = operator.builtinOptions
        operators.append(
            Operator(
                name=name,
                inputs=tuple(tensors[i] if i >= 0 else None for i in operator.inputs),
                output=tensors[operator.outputs[0]],
                options={} if options is None else vars(options),
                by_xnnpack=position in delegated,
            )
        )
    return tuple(operators)


def _taken_by_xnnpack(tflite: bytes) -> frozenset[int]:
    """Positions of the operators that the interpreter hands to its XNNPACK delegate.

    The interpreter lists the file's operators, and behind them one DELEGATE for each part of the
    graph that it replaced. The part's operators are those on the way back from the delegate's
    outputs to its inputs.
    """
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    listed = interpreter._get_ops_details()  # no public function lists operators
    operators = [operator for operator in listed if operator["op_name"] != "DELEGATE"]
    maker = {int(i): place for place, entry in enumerate(operators) for i in entry["outputs"]}
    taken: set[int] = set()
    for delegate in (operator for operator in listed if operator["op_name"] == "DELEGATE"):
        given = {int(i) for i in delegate["inputs"]}
        wanted = [int(i) for i in delegate["outputs"]]
        while wanted:
            place = maker[wanted.pop()]
            taken.add(place)
            sources = {int(i) for i in operators[place]["inputs"]} - given
            wanted += [i for i in sources if i in maker and maker[i] not in taken]
    return frozenset(taken)


def _dtype(tensor_type: int) -> str:
    """NumPy's name for a tensor type of the TFLite schema."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    name = names[tensor_type].lower()
    if name not in _DTYPES:
        raise refused(f"{name} tensors", ", ".join(_DTYPES))
    return name


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
