"""tf.Example without TensorFlow: a message with the fields of tensorflow/core/example's."""

from typing import TYPE_CHECKING

from privet.serving.message_classes import message_classes

if TYPE_CHECKING:
    from tensorflow.core.example.example_pb2 import Example

_PACKAGE = "tensorflow"

_CLASSES = message_classes(
    "privet/serving/example_proto.proto",
    _PACKAGE,
    {
        "BytesList": ((1, "value", "repeated bytes"),),
        "FloatList": ((1, "value", "repeated float"),),
        "Int64List": ((1, "value", "repeated int64"),),
        "Feature": (
            (1, "bytes_list", f"oneof kind {_PACKAGE}.BytesList"),
            (2, "float_list", f"oneof kind {_PACKAGE}.FloatList"),
            (3, "int64_list", f"oneof kind {_PACKAGE}.Int64List"),
        ),
        "Features": ((1, "feature", f"map {_PACKAGE}.Feature"),),
        "Example": ((1, "features", f"{_PACKAGE}.Features"),),
    },
)


def new_example() -> "Example":
    """An empty tf.Example."""
    example: Example = _CLASSES["Example"]()
    return example
