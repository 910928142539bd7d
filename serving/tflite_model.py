"""A .tflite file as TF Serving takes it: its tensors, its signatures, and interpreters for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.components.shared import signatures_reader
from privet.components.shared.errors import ServingError
from privet.components.shared.signatures import PREDICT_METHOD_NAME, SERVING_DEFAULT
from privet.serving.data_types import data_type_number
from privet.serving.signature_protos import new_signature, parse_signature

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

# What TF Serving's TFLite session can carry; it refuses to load a model with other tensors.
_TYPES = {
    "float32", "int32", "uint8", "int64", "bytes_", "str_", "object_", "bool_", "bool", "int16",
    "complex64", "int8",
}  # fmt: skip

# Operators outside the schema's list that TFLite brings nevertheless (kernels/register.cc).
_CUSTOM_OPERATORS = {
    "AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess",
}  # fmt: skip

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorPlace:
    """An input or output of the model.

    Attributes:
      index: by which the interpreter knows it.
      shape: -1 for a dimension of any size; None for any shape.
    """

    index: int
    shape: Shape | None


class TFLiteModel:
    """The model, and what is known of it without running it."""

    def __init__(self, content: bytes) -> None:
        """Reads a model.

        Args:
          content: the file's bytes.

        Raises:
          ServingError: TF Serving could not run this model.
        """
        self._content = content
        unranked = _read(content)
        try:
            self._interpreter_class = _interpreter_class()
            interpreter = self.new_interpreter()
            given, made = interpreter.get_input_details(), interpreter.get_output_details()
        except Exception as error:
            raise ServingError(
                "Wanted a TFLite model of built-in operators; making its interpreter failed "
                f"with {type(error).__name__}: {error}. Convert it again with "
                "target_spec.supported_ops = [TFLITE_BUILTINS]."
            ) from error
        self.inputs = _places(given, "Input", unranked)
        self.outputs = _places(made, "Output", unranked)
        self.signature_defs: dict[str, SignatureDef] = self._known_signatures() or {
            SERVING_DEFAULT: _stand_in(given, made)
        }

    def new_interpreter(self) -> Any:
        """An interpreter over the model's bytes, which all interpreters share."""
        # More than one thread spins on cores that other requests need: far slower, not faster.
        return self._interpreter_class(model_content=self._content, num_threads=1)

    def _known_signatures(self) -> dict[str, "SignatureDef"]:
        """The signatures in the metadata buffer, by key; {} if it has none."""
        serialized = signatures_reader.read_serialized_signatures(self._content)
        found = {}
        for key, data in sorted(serialized.items()):
            try:
                signature = parse_signature(data)
            except Exception as error:  # protobuf raises several kinds
                raise signatures_reader.unreadable_signatures(error) from error
            for name, info in signature.inputs.items():
                info.name = _known_name(info.name, self.inputs, f"input {name} of {key}")
            for name, info in signature.outputs.items():
                info.name = _known_name(info.name, self.outputs, f"output {name} of {key}")
            found[key] = signature
        return found


def _interpreter_class() -> Callable[..., Any]:
    """TensorFlow's interpreter; tflite-runtime's, which has the same API, where there is none."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        from tflite_runtime.interpreter import Interpreter

        runtime: Callable[..., Any] = Interpreter
        return runtime
    whole: Callable[..., Any] = tf.lite.Interpreter
    return whole


def _read(content: bytes) -> set[str]:
    """Checks the file, and returns the names of tensors of any rank."""
    if content[4:8] != signatures_reader.FILE_IDENTIFIER:
        raise ServingError(
            f"Cannot build FlatBufferModel from buffer. Wanted a TFLite model; got "
            f"{len(content)} bytes that start with {content[:8]!r}. Export it again."
        )
    try:
        custom = signatures_reader.custom_operators(content)
        unranked = signatures_reader.unranked_tensors(content)
    except Exception as error:  # flatbuffers raises whatever reading past the end raises
        raise ServingError(
            f"Cannot build FlatBufferModel from buffer. Wanted a whole TFLite model; its "
            f"{len(content)} bytes are damaged ({type(error).__name__}: {error}). Copy it again."
        ) from error
    unknown = sorted(custom - _CUSTOM_OPERATORS)
    if unknown:
        # Those of TensorFlow (Flex...) its own interpreter would run; TF Serving does not.
        raise ServingError(
            f"Wanted TFLite's built-in operators; the model also needs {', '.join(unknown)}. "
            "Convert with TFLITE_BUILTINS alone, or serve the SavedModel."
        )
    return unranked


def _places(details: list[dict[str, Any]], kind: str, unranked: set[str]) -> dict[str, TensorPlace]:
    """Tensor name -> its place, with the checks that TF Serving makes at load."""
    places: dict[str, TensorPlace] = {}
    for detail in details:
        name, type_name = detail["name"], np.dtype(detail["dtype"]).type.__name__
        if name in places:
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
        shape = tuple(detail["shape_signature"].tolist())
        places[name] = TensorPlace(
            detail["index"], None if name in unranked and not shape else shape
        )
    return places


def _known_name(name: str, places: Mapping[str, TensorPlace], what: str) -> str:
    """The tensor's name, or the form of it that early converters wrote."""
    for candidate in (name, _legacy_name(name)):
        if candidate in places:
            return candidate
    raise ServingError(
        f"Signature {what} references an unknown tensor: Unknown tensor '{name}'. The TFLite "
        f"model has {sorted(places)}; derive the signature with signatures.tflite_signature."
    )


def _legacy_name(name: str) -> str:
    """The name without TensorFlow's output number: `x:0` -> `x`."""
    return name.split(":", 1)[0]


def _stand_in(given: list[dict[str, Any]], made: list[dict[str, Any]]) -> "SignatureDef":
    """The signature that TF Serving makes up for a model without any."""
    signature = new_signature(PREDICT_METHOD_NAME)
    for details, target in ((given, signature.inputs), (made, signature.outputs)):
        for detail in details:
            info = target[_legacy_name(detail["name"])]
            info.name = detail["name"]
            info.dtype = data_type_number(np.dtype(detail["dtype"]))
            for size in detail["shape"].tolist():
                info.tensor_shape.dim.add(size=size)
    return signature
