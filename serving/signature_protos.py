"""SignatureDefs without TensorFlow: messages with the fields of TensorFlow's, and their JSON.

The names and numbers are those of tensorflow/core/protobuf/meta_graph.proto and
tensorflow/core/framework/tensor_shape.proto, so what TensorFlow has written is read here, and
the other way round. Left out are the encodings that no .tflite file has: composite tensors, and
the values of default inputs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from privet.serving.data_types import DATA_TYPES
from privet.serving.message_classes import message_classes

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

_PACKAGE = "tensorflow"

_CLASSES = message_classes(
    "privet/serving/signature_protos.proto",
    _PACKAGE,
    {
        "Dim": ((1, "size", "int64"), (2, "name", "string")),
        "TensorShapeProto": (
            (2, "dim", f"repeated {_PACKAGE}.Dim"),
            (3, "unknown_rank", "bool"),
        ),
        "TensorInfo": (
            (1, "name", "oneof encoding string"),
            (2, "dtype", f"{_PACKAGE}.DataType"),
            (3, "tensor_shape", f"{_PACKAGE}.TensorShapeProto"),
        ),
        "TensorProto": (),
        "SignatureDef": (
            (1, "inputs", f"map {_PACKAGE}.TensorInfo"),
            (2, "outputs", f"map {_PACKAGE}.TensorInfo"),
            (3, "method_name", "string"),
            (4, "defaults", f"map {_PACKAGE}.TensorProto"),
        ),
    },
    enums={
        "DataType": {
            "DT_INVALID": 0,
            **{f"DT_{name.upper()}": number for number, (name, _) in DATA_TYPES.items()},
        }
    },
)


def new_signature(method_name: str) -> "SignatureDef":
    """A SignatureDef without inputs and outputs."""
    signature: SignatureDef = _CLASSES["SignatureDef"](method_name=method_name)
    return signature


def parse_signature(serialized: bytes) -> "SignatureDef":
    """A SignatureDef from its bytes.

    Raises:
      DecodeError: they are no SignatureDef's.
    """
    signature: SignatureDef = _CLASSES["SignatureDef"].FromString(serialized)
    return signature


def signature_json(signature: "SignatureDef") -> dict[str, Any]:
    """A SignatureDef, TensorFlow's or one of these, as protobuf's JSON with all defaults.

    Maps have no order; here their entries come by name, so that the same signature gives the
    same text in every process. Fields come as TF Serving 2.14 prints them: by number, those of a
    oneof last.
    """
    from google.protobuf import json_format

    fields: dict[str, Any] = json_format.MessageToDict(
        signature, including_default_value_fields=True, preserving_proto_field_name=True
    )
    for side in ("inputs", "outputs"):
        fields[side] = {
            name: _in_order(info, ("dtype", "tensor_shape"))
            for name, info in sorted(fields[side].items())
        }
    return _in_order(fields, ("inputs", "outputs", "method_name"))


def _in_order(fields: Mapping[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    """The fields, those named before the others."""
    return {name: fields[name] for name in first if name in fields} | dict(fields)
