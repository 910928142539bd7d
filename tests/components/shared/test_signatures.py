"""SignatureDefs inside a .tflite: what is written is what TF Serving's reader finds."""

import functools
import os
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.components.shared.errors import ServingError
from privet.components.shared.signatures import (
    METADATA_NAME,
    PREDICT_METHOD_NAME,
    read_signature_metadata,
    tflite_signature,
    with_signature_metadata,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@functools.cache
def convert(*keys: str) -> bytes:
    """A TFLite model of y = 2 x, float32 [None, 4] (and z = 3 a, a scalar, under `other`)."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def double(x: Any) -> Any:
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="a")])
    def triple(a: Any) -> Any:
        return {"z": 3 * a}

    module = tf.Module()
    module.double, module.triple = double, triple
    with tempfile.TemporaryDirectory() as path:
        signatures = {"serving_default": double, "other": triple}
        tf.saved_model.save(module, path, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=list(keys))
        return bytes(converter.convert())


def signature_def(inputs: dict[str, tuple[str, int, list[int]]]) -> Any:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    signature = SignatureDef(method_name=PREDICT_METHOD_NAME)
    for name, (tensor_name, dtype, sizes) in inputs.items():
        signature.inputs[name].name = tensor_name
        signature.inputs[name].dtype = dtype
        for size in sizes:
            signature.inputs[name].tensor_shape.dim.add(size=size)
    return signature


names = st.text(
    st.characters(min_codepoint=1, max_codepoint=0x2FF, exclude_categories=["Cs"]),
    min_size=1,
    max_size=300,
)
signature_defs = st.builds(
    signature_def,
    st.dictionaries(
        names,
        st.tuples(
            names,
            st.integers(1, 10),
            st.lists(st.one_of(st.just(-1), st.integers(1, 2**40)), min_size=1, max_size=4),
        ),
        max_size=4,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, signature_defs, min_size=1, max_size=4))
def test_signatures_read_back_as_written(signatures: dict[str, Any]) -> None:
    written = with_signature_metadata(convert("serving_default"), signatures)

    assert read_signature_metadata(written) == signatures


def test_derived_signature_has_users_names_and_tflite_tensor_names() -> None:
    signature = tflite_signature(convert("serving_default"), "serving_default")

    assert dict(signature.inputs).keys() == {"x"}
    assert signature.inputs["x"].name == "serving_default_x:0"
    assert signature.inputs["x"].dtype == 1  # DT_FLOAT
    assert [d.size for d in signature.inputs["x"].tensor_shape.dim] == [-1, 4]
    assert dict(signature.outputs).keys() == {"y"}
    assert signature.outputs["y"].name in output_tensor_names(convert("serving_default"))
    assert signature.method_name == "tensorflow/serving/predict"


def output_tensor_names(model: bytes) -> list[str]:
    import tensorflow as tf

    details = tf.lite.Interpreter(model_content=model).get_output_details()
    return [detail["name"] for detail in details]


def test_model_without_the_buffer_has_no_metadata_signatures() -> None:
    assert read_signature_metadata(convert("serving_default")) == {}


def test_model_answers_the_same_with_the_buffer() -> None:
    import tensorflow as tf

    model = convert("serving_default")
    key = "serving_default"
    interpreter = tf.lite.Interpreter(
        model_content=with_signature_metadata(model, {key: tflite_signature(model, key)})
    )
    result = interpreter.get_signature_runner(key)(x=np.array([[1, 2, 3, 4]], np.float32))

    np.testing.assert_array_equal(result["y"], [[2, 4, 6, 8]])


def test_writing_twice_replaces_and_gives_the_same_bytes() -> None:
    model = convert("serving_default")
    first = {"one": signature_def({"a": ("t", 1, [-1])})}
    second = {"two": signature_def({"b": ("u", 3, [2, 3])})}
    once = with_signature_metadata(model, second)
    twice = with_signature_metadata(with_signature_metadata(model, first), second)

    assert read_signature_metadata(twice) == second
    assert with_signature_metadata(model, second) == once
    assert twice.count(METADATA_NAME.encode()) == 1


def test_weights_stay_aligned() -> None:
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema

    weights = tf.reshape(tf.range(3 * 1000, dtype=tf.float32), [3, 1000])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def dense(x: Any) -> Any:
        return {"y": tf.matmul(x, weights)}

    module = tf.Module()
    module.dense = dense
    with tempfile.TemporaryDirectory() as path:
        tf.saved_model.save(module, path, signatures={"serving_default": dense})
        model = tf.lite.TFLiteConverter.from_saved_model(path).convert()
    written = with_signature_metadata(model, {"k": signature_def({"x": ("t", 1, [-1])})})

    start = np.frombuffer(written, np.uint8).__array_interface__["data"][0]
    root = schema.Model.GetRootAsModel(written, 0)
    places = [
        root.Buffers(i).DataAsNumpy().__array_interface__["data"][0] - start
        for i in range(root.BuffersLength())
        if root.Buffers(i).DataLength()
    ]
    assert len(places) >= 2
    assert [place % 16 for place in places] == [0] * len(places)


def test_values_are_flexbuffer_strings_as_the_cpp_reader_wants() -> None:
    from flatbuffers import flexbuffers
    from tensorflow.lite.tools import flatbuffer_utils

    signatures = {"k": signature_def({"x": ("t", 1, [-1])})}
    model = flatbuffer_utils.convert_bytearray_to_object(
        with_signature_metadata(convert("serving_default"), signatures)
    )
    (entry,) = [m for m in model.metadata if m.name == METADATA_NAME.encode()]
    root = flexbuffers.GetRoot(bytearray(bytes(model.buffers[entry.buffer].data)))

    assert root.AsMap["k"].IsString
    assert bytes(root.AsMap["k"].AsStringBytes) == signatures["k"].SerializeToString()


def test_scalar_is_derived_without_a_shape_and_can_be_kept() -> None:
    model = convert("other")
    signature = tflite_signature(model, "other")

    assert not signature.inputs["a"].HasField("tensor_shape")
    assert read_signature_metadata(with_signature_metadata(model, {"other": signature})) == {
        "other": signature
    }


def test_zero_byte_is_refused() -> None:
    signature = signature_def({"x": ("t", 1, [])})
    signature.inputs["x"].tensor_shape.SetInParent()

    with pytest.raises(ServingError, match="zero byte"):
        with_signature_metadata(convert("serving_default"), {"k": signature})


def test_signature_of_another_subgraph_is_refused() -> None:
    model = convert("serving_default", "other")
    refused = []
    for key in ("serving_default", "other"):
        try:
            tflite_signature(model, key)
        except ServingError as error:
            refused.append(str(error))

    assert len(refused) == 1
    assert "subgraph 0 only" in refused[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: tflite_signature(model, "nope"), r"it has \['serving_default'\]"),
        (lambda model: with_signature_metadata(model, {}), "at least one signature"),
        (lambda model: read_signature_metadata(b"not a model"), "TFL3"),
        (lambda model: tflite_signature(b"", "serving_default"), "TFL3"),
    ],
)
def test_errors_say_what_was_wanted(call: Any, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        call(convert("serving_default"))
