"""The TFLite engine: a pool of interpreters, one per call under way."""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.components.shared.errors import ServingError
from privet.components.shared.signatures import (
    PREDICT_METHOD_NAME,
    SERVING_DEFAULT,
    read_signature_metadata,
)
from privet.serving.engine import Signature, check_input_types, signature_from_proto
from privet.serving.status import Code, RequestError

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

# What TF Serving's TFLite session can carry; it refuses to load a model with other tensors.
_TYPES = {
    "float32", "int32", "uint8", "int64", "bytes_", "str_", "object_", "bool_", "bool", "int16",
    "complex64", "int8",
}  # fmt: skip

Shapes = tuple[tuple[int, ...], ...]


class TFLiteEngine:
    """Runs a TFLite model under the signatures that TF Serving would find in it.

    An interpreter serves one call at a time, and changing its input shapes costs as much as many
    calls (XNNPACK packs the weights again). So interpreters that are free are kept with the
    shapes they were last used with, and a call takes one that fits or makes a new one.
    """

    kind = "tflite"
    may_block = False

    def __init__(self, model: bytes, *, kept_interpreters: int | None = None) -> None:
        """Loads a TFLite model.

        Args:
          model: the file's bytes.
          kept_interpreters: how many free interpreters to keep; by default 4 for each core.

        Raises:
          ServingError: TF Serving could not run this model.
        """
        self._model = model
        self._kept = kept_interpreters or 4 * (os.cpu_count() or 1)
        # Free interpreters, the least recently used first.
        self._free: OrderedDict[int, tuple[Shapes, str, Any]] = OrderedDict()
        self._lock = threading.Lock()
        _refuse_select_operators(model)
        try:
            interpreter = self._new_interpreter()
        except Exception as error:
            raise ServingError(
                "Wanted a TFLite model of built-in operators; making its interpreter failed "
                f"with {type(error).__name__}: {error}. Convert it again with "
                "target_spec.supported_ops = [TFLITE_BUILTINS]."
            ) from error
        self._inputs = _indices_by_name(interpreter.get_input_details(), "Input")
        self._outputs = _indices_by_name(interpreter.get_output_details(), "Output")
        self._signature_defs = self._find_signatures(interpreter)
        self._signatures = {
            key: signature_from_proto(key, proto) for key, proto in self._signature_defs.items()
        }

    @property
    def signature_defs(self) -> Mapping[str, "SignatureDef"]:
        return self._signature_defs

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        """Runs one signature; see `Engine.run`."""
        signature = self._signatures[signature_name]
        check_input_types(signature, inputs)
        shapes = tuple(inputs[name].shape for name in signature.inputs)
        interpreter = self._take(signature, shapes)
        for name, spec in signature.inputs.items():
            interpreter.set_tensor(self._inputs[spec.tensor_name], inputs[name])
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise RequestError(
                Code.INTERNAL, f"Failed to invoke TfLite interpreter: {error}"
            ) from error
        outputs = {
            name: interpreter.get_tensor(self._outputs[signature.outputs[name].tensor_name])
            for name in output_filter or signature.outputs
        }
        self._put_back(signature, shapes, interpreter)  # one that failed is not used again
        return outputs

    def close(self) -> None:
        """Frees the interpreters; see `Engine.close`."""
        with self._lock:
            self._free.clear()

    def _take(self, signature: Signature, shapes: Shapes) -> Any:
        """A free interpreter with these shapes, or a new one."""
        with self._lock:
            for key in reversed(self._free):
                kept_shapes, kept_signature, interpreter = self._free[key]
                if kept_shapes == shapes and kept_signature == signature.name:
                    del self._free[key]
                    return interpreter
        interpreter = self._new_interpreter()
        try:
            for spec, shape in zip(signature.inputs.values(), shapes, strict=True):
                interpreter.resize_tensor_input(self._inputs[spec.tensor_name], shape)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise RequestError(Code.INTERNAL, f"Failed to allocate tensors: {error}") from error
        return interpreter

    def _put_back(self, signature: Signature, shapes: Shapes, interpreter: Any) -> None:
        """Keeps an interpreter for the next call, and lets go of the one used longest ago."""
        with self._lock:
            self._free[id(interpreter)] = (shapes, signature.name, interpreter)
            while len(self._free) > self._kept:
                self._free.popitem(last=False)

    def _new_interpreter(self) -> Any:
        """An interpreter over the model's bytes, which all interpreters share."""
        import tensorflow as tf

        # More than one thread spins on cores that other requests need: far slower, not faster.
        return tf.lite.Interpreter(model_content=self._model, num_threads=1)

    def _find_signatures(self, interpreter: Any) -> dict[str, "SignatureDef"]:
        """The signatures in the metadata buffer, or TF Serving's stand-in for none."""
        from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

        found = read_signature_metadata(self._model)
        for key, signature in sorted(found.items()):
            for name, info in signature.inputs.items():
                info.name = _known_name(info.name, self._inputs, f"input {name} of {key}")
            for name, info in signature.outputs.items():
                info.name = _known_name(info.name, self._outputs, f"output {name} of {key}")
        if found:
            return dict(sorted(found.items()))
        made_up = SignatureDef(method_name=PREDICT_METHOD_NAME)
        for details, target in (
            (interpreter.get_input_details(), made_up.inputs),
            (interpreter.get_output_details(), made_up.outputs),
        ):
            for detail in details:
                info = target[_legacy_name(detail["name"])]
                info.name = detail["name"]
                info.dtype = _data_type(detail["dtype"])
                for size in detail["shape"].tolist():
                    info.tensor_shape.dim.add(size=size)
        return {SERVING_DEFAULT: made_up}


def _indices_by_name(details: list[dict[str, Any]], kind: str) -> dict[str, int]:
    """Tensor name -> index, with the checks that TF Serving makes at load."""
    indices: dict[str, int] = {}
    for detail in details:
        name, type_name = detail["name"], np.dtype(detail["dtype"]).type.__name__
        if name in indices:
            raise ServingError(
                f"{kind} tensor name: {name} has multiple indices. Give each input and output "
                "of the model its own tensor."
            )
        if type_name not in _TYPES:
            raise ServingError(
                f"Unknown TfLite type: {type_name} of {kind.lower()} tensor {name}. TF Serving "
                "carries float32, int8, int16, int32, int64, uint8, bool, complex64 and string; "
                "cast to one of these in the model."
            )
        indices[name] = detail["index"]
    return indices


def _known_name(name: str, indices: Mapping[str, int], what: str) -> str:
    """The tensor's name, or the form of it that early converters wrote."""
    for candidate in (name, _legacy_name(name)):
        if candidate in indices:
            return candidate
    raise ServingError(
        f"Signature {what} references an unknown tensor: Unknown tensor '{name}'. The TFLite "
        f"model has {sorted(indices)}; derive the signature with signatures.tflite_signature."
    )


def _legacy_name(name: str) -> str:
    """The name without TensorFlow's output number: `x:0` -> `x`."""
    return name.split(":", 1)[0]


def _data_type(numpy_type: Any) -> int:
    """TensorFlow's DataType number for what the interpreter calls a tensor's type."""
    import tensorflow as tf

    return int(tf.dtypes.as_dtype(numpy_type).as_datatype_enum)


def _refuse_select_operators(model: bytes) -> None:
    """Refuses operators that this process could run and TF Serving's TFLite could not."""
    from tensorflow.lite.python import schema_py_generated as schema

    if model[4:8] != b"TFL3":
        raise ServingError(
            f"Cannot build FlatBufferModel from buffer. Wanted a TFLite model; got "
            f"{len(model)} bytes that start with {model[:8]!r}. Export it again."
        )
    root = schema.Model.GetRootAsModel(model, 0)
    codes = (root.OperatorCodes(i).CustomCode() for i in range(root.OperatorCodesLength()))
    flex = sorted({code.decode() for code in codes if code and code.startswith(b"Flex")})
    if flex:
        raise ServingError(
            f"Wanted TFLite's built-in operators; the model also needs {', '.join(flex)}, which "
            "TF Serving cannot run. Convert with TFLITE_BUILTINS alone, or serve the SavedModel."
        )
