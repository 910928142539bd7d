"""Classify and regress requests and responses: REST JSON to tf.Examples, results to JSON."""

from typing import TYPE_CHECKING, Any

import numpy as np

from privet.components.shared import tf_example
from privet.serving.document import Document
from privet.serving.inference import Classifications, serialize_examples
from privet.serving.json_tensor import decode_base64, is_base64_object, json_type_name
from privet.serving.json_writer import PrettyWriter, decimal
from privet.serving.status import RequestError, invalid_argument

if TYPE_CHECKING:
    from tensorflow.core.example.example_pb2 import Example
    from tensorflow.core.example.feature_pb2 import Feature

_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def read_examples(document: Document) -> np.ndarray:
    """Reads the examples of a classify or regress request.

    Returns:
      Serialized tf.Examples as objects that are bytes, [examples]; the context's features, if
      there is one, are in each.

    Raises:
      RequestError: INVALID_ARGUMENT, with TF Serving's message.
    """
    members = document.members
    context = _example(members["context"]) if "context" in members else None
    if "examples" not in members:
        # TF Serving says "classify" for regress too.
        raise document.format_error(
            "When method is classify, key 'examples' is expected and was not found"
        )
    examples = members["examples"]
    if not isinstance(examples, list):
        raise document.format_error("Expecting 'examples' value to be an list/array")
    if not examples:
        raise document.format_error("'examples' value is an empty array")
    return serialize_examples(map(_example, examples), context)


def write_classifications(result: Classifications) -> bytes:
    """Writes the response of a classify request: [label, score] pairs for each example."""
    writer = PrettyWriter()
    writer.start_object()
    writer.string("results")
    writer.start_array()
    for example in result.examples():
        writer.single_line = True
        writer.start_array()
        for label, score in example:
            writer.start_array()
            writer.string(label.decode("utf-8", "surrogateescape"))
            writer.raw(decimal(score, np.float32))
            writer.end_array()
        writer.end_array()
        writer.single_line = False
    writer.end_array()
    writer.end_object()
    return writer.text().encode("utf-8", "surrogateescape")


def write_regressions(values: np.ndarray) -> bytes:
    """Writes the response of a regress request: one number for each example, float32 [B]."""
    writer = PrettyWriter()
    writer.start_object()
    writer.string("results")
    writer.single_line = True
    writer.start_array()
    for value in values.tolist():
        writer.raw(decimal(value, np.float32))
    writer.end_array()
    writer.end_object()
    return writer.text().encode()


def _example(value: Any) -> "Example":
    """A tf.Example from a JSON object: feature name -> scalar or flat list."""
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {json_type_name(value)}")
    example: Example = tf_example.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _add(feature, name, element)
    return example


def _add(feature: "Feature", name: str, value: Any) -> None:
    """Adds one JSON value to a feature; the first one decides the feature's kind."""
    if (
        value is None
        or isinstance(value, list)
        or (isinstance(value, dict) and not is_base64_object(value))
    ):
        raise invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {json_type_name(value)}"
        )
    if isinstance(value, int):  # booleans too
        _check_kind(feature, name, "int64_list")
        if not -(2**63) <= value < 2**63:
            raise invalid_argument(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        feature.int64_list.value.append(int(value))
    elif isinstance(value, float):
        _check_kind(feature, name, "float_list")
        with np.errstate(over="ignore"):
            feature.float_list.value.append(float(np.float32(value)))
    else:
        _check_kind(feature, name, "bytes_list")
        content = (
            value.encode("utf-8", "surrogateescape")
            if isinstance(value, str)
            else decode_base64(value)
        )
        feature.bytes_list.value.append(content)


def _check_kind(feature: "Feature", name: str, kind: str) -> None:
    """Refuses a value of another kind than those before it in the feature."""
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise _kind_error(name, found)


def _kind_error(name: str, kind: str) -> RequestError:
    """The error for mixed kinds."""
    return invalid_argument(
        f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[kind]}"
    )
