"""Integer and float TFLite files: what they hold, how they are called, that they answer right."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.compress.convert import (
    convert_fake_quantized,
    convert_float,
    convert_integer,
    float_operators,
)
from privet.components.compress.export import KerasPredictor
from privet.components.compress.quantize import quantize_weights
from privet.components.shared import signatures
from privet.components.shared.errors import DataError, ModelError
from privet.components.validate.infra import sample_inputs


def runner(tflite: bytes) -> Any:
    return tf.lite.Interpreter(model_content=tflite).get_signature_runner("serving_default")


def answer(tflite: bytes, features: Mapping[str, np.ndarray]) -> np.ndarray:
    (values,) = runner(tflite)(**features).values()
    return values


def float_answer(model: Any, schema: Any, features: Mapping[str, np.ndarray]) -> np.ndarray:
    given = {name: tf.constant(values) for name, values in features.items()}
    return KerasPredictor(model, schema)(given).numpy()


def graph(tflite: bytes) -> list[tuple[str, list[str], list[str]]]:
    """Operators in order: name, dtypes of the inputs, dtypes of the outputs."""
    interpreter = tf.lite.Interpreter(model_content=tflite)
    dtypes = {one["index"]: one["dtype"].__name__ for one in interpreter.get_tensor_details()}
    dtypes[-1] = "none"  # a bias that is left out
    return [
        (
            one["op_name"],
            [dtypes[index] for index in one["inputs"]],
            [dtypes[index] for index in one["outputs"]],
        )
        for one in interpreter._get_ops_details()
        if one["op_name"] != "DELEGATE"
    ]


@pytest.fixture(scope="module")
def integers(separable: Any) -> Callable[[str], bytes]:
    """scheme -> the trained model under it."""
    files: dict[str, bytes] = {}

    def convert(scheme: Any) -> bytes:
        if scheme not in files:
            examples = {"x": separable.features["x"][:100]}
            files[scheme] = convert_integer(separable.model, separable.schema, scheme, examples)
        return files[scheme]

    return convert


@pytest.mark.parametrize("scheme", ["int8", "int16"])
def test_integer_model_agrees_with_the_float_model(
    separable: Any, integers: Any, scheme: str
) -> None:
    found = answer(integers(scheme), separable.features)
    wanted = float_answer(separable.model, separable.schema, separable.features)

    assert np.mean(wanted.argmax(1) == separable.labels) > 0.98
    assert np.mean(found.argmax(1) == wanted.argmax(1)) > 0.99


@pytest.mark.parametrize(("scheme", "activations"), [("int8", "int8"), ("int16", "int16")])
def test_kernels_are_int8_and_everything_between_is_integer(
    integers: Any, scheme: str, activations: str
) -> None:
    operators = {name: (inputs, outputs) for name, inputs, outputs in graph(integers(scheme))}

    for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        inputs, outputs = operators[name]
        assert inputs[:2] == [activations, "int8"]
        assert outputs == [activations]
    assert float_operators(integers(scheme)) == []


@pytest.mark.parametrize("scheme", ["int8", "int16"])
def test_softmax_is_float_behind_the_last_dequantize(integers: Any, scheme: str) -> None:
    *_, before, last = graph(integers(scheme))

    assert before == ("DEQUANTIZE", [scheme], ["float32"])
    assert last == ("SOFTMAX", ["float32"], ["float32"])


def test_scores_have_the_resolution_of_floats(separable: Any, integers: Any) -> None:
    scores = answer(integers("int8"), separable.features)

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert scores.min() > 0
    assert scores.min() < 1 / 512  # an int8 softmax would round it to 0


@pytest.mark.parametrize("kind", ["binary", "regression", "embedding", "image", "text"])
def test_every_kind_of_model_is_called_by_the_names_of_its_schema(
    kinds: Any, trained: Any, kind: str
) -> None:
    """Integer features stay integers outside; scores and predictions are floats."""
    schema = kinds[kind].schema
    model = tf.keras.models.load_model(trained(kind), compile=False)
    features = sample_inputs(schema, 64)
    tflite = convert_integer(model, schema, "int8", features)
    wanted = float_answer(model, schema, features)
    run = runner(tflite)
    signature = signatures.read_signature_metadata(tflite)["serving_default"]
    output = "prediction" if kind == "regression" else "scores"

    assert {name: one["dtype"] for name, one in run.get_input_details().items()} == {
        name: np.dtype(feature.dtype).type for name, feature in schema.features.items()
    }
    assert signature.inputs.keys() == schema.features.keys()
    assert signature.outputs.keys() == run.get_output_details().keys() == {output}
    assert [dim.size for dim in signature.outputs[output].tensor_shape.dim] == [-1, wanted.shape[1]]
    if kind == "binary":
        assert graph(tflite)[-1][0] == "LOGISTIC"
    error = np.abs(answer(tflite, features) - wanted).max()
    assert error < 0.03 * max(1.0, np.ptp(wanted))


@pytest.mark.parametrize("scheme", ["float32", "float16", "int8_weights", "dynamic_range"])
def test_float_files_answer_as_the_model_with_rounded_weights(separable: Any, scheme: Any) -> None:
    model = tf.keras.models.clone_model(separable.model)
    names = [variable.name for variable in model.trainable_variables]
    model.set_weights(quantize_weights(separable.model.get_weights(), names, scheme))
    tflite = convert_float(model, separable.schema, scheme)
    found = answer(tflite, separable.features)
    wanted = float_answer(model, separable.schema, separable.features)

    # (dynamic_range rounds activations when it runs.)
    np.testing.assert_allclose(found, wanted, atol=0.05 if scheme == "dynamic_range" else 1e-6)
    assert signatures.read_signature_metadata(tflite)["serving_default"].outputs.keys() == {
        "scores"
    }


@pytest.mark.parametrize("scheme", ["int8_weights", "int8"])
@pytest.mark.parametrize("kind", ["embedding", "image"])
def test_same_weights_give_the_same_bytes_whatever_was_built_before(
    kinds: Any, kind: str, scheme: Any
) -> None:
    """Keras numbers layers as it makes them, so the second model's have other names."""
    files = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(1)
        model, schema = kinds[kind].build(), kinds[kind].schema
        features = sample_inputs(schema, 8)
        files.append(
            convert_integer(model, schema, scheme, features)
            if scheme == "int8"
            else convert_float(model, schema, scheme)
        )

    assert files[0] == files[1]


def test_names_of_tensors_are_those_that_a_user_gave_the_layers(integers: Any) -> None:
    details = tf.lite.Interpreter(model_content=integers("int8")).get_tensor_details()
    names = {name for one in details for name in one["name"].replace(";", "/").split("/")}

    assert {"model", "conv", "depthwise", "hidden", "logits", "scores"} <= names


def test_operator_without_an_integer_form_stays_float(schema_of: Any) -> None:
    inputs = tf.keras.Input((6,), name="x")
    value = tf.sin(tf.keras.layers.Dense(8)(inputs))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(value))
    features = {"x": np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)}
    schema = schema_of({"x": 6}, 3)
    tflite = convert_integer(model, schema, "int8", features)

    assert float_operators(tflite) == ["SIN"]
    assert [inputs[1] for name, inputs, _ in graph(tflite) if name == "FULLY_CONNECTED"] == [
        "int8",
        "int8",
    ]
    np.testing.assert_allclose(
        answer(tflite, features), float_answer(model, schema, features), atol=0.05
    )


def test_fake_quantization_gives_the_scales(schema_of: Any) -> None:
    """Ranges of 256 steps of 1/128 and 1/64, a kernel whose largest weight is 1.27."""

    def rounded(value: Any, low: float, high: float) -> Any:
        return tf.quantization.fake_quant_with_min_max_vars(value, low, high)

    class Kernel(tf.keras.layers.Dense):
        def call(self, inputs: Any) -> Any:
            kernel = tf.quantization.fake_quant_with_min_max_vars(
                self.kernel, -1.27, 1.27, narrow_range=True
            )
            return tf.matmul(inputs, kernel) + self.bias

    inputs = tf.keras.Input((2,), name="x")
    value = Kernel(1, name="value")(rounded(inputs, -1.0, 127 / 128))
    model = tf.keras.Model(inputs, rounded(value, -2.0, 127 / 64))
    model.set_weights([np.array([[1.27], [-0.01]], np.float32), np.array([0.5], np.float32)])
    tflite = convert_fake_quantized(model, schema_of({"x": 2}, None))
    features = {"x": np.array([[0.5, 0.25], [-0.25, 1 / 128]], np.float32)}

    interpreter = tf.lite.Interpreter(model_content=tflite)
    scales = {
        (one["dtype"].__name__, tuple(one["shape"])): one["quantization"]
        for one in interpreter.get_tensor_details()
    }
    assert graph(tflite)[1] == ("FULLY_CONNECTED", ["int8", "int8", "int32"], ["int8"])
    assert scales["int8", (1, 2)] in [(pytest.approx(1 / 128), 0), (pytest.approx(0.01), 0)]
    assert scales["int8", (1, 1)] == (pytest.approx(1 / 64), 0)
    # 0.5 * 1.27 - 0.25 * 0.01 + 0.5 = 1.1325, to a multiple of 1/64.
    np.testing.assert_allclose(answer(tflite, features), [[72 / 64], [12 / 64]], atol=1e-6)


def test_model_that_tflite_cannot_do_is_named(schema_of: Any) -> None:
    inputs = tf.keras.Input((4,), name="x")
    matrix = tf.linalg.cholesky(tf.reshape(inputs, (-1, 2, 2)))
    value = tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(matrix))
    model = tf.keras.Model(inputs, value)
    schema = schema_of({"x": 4}, 3)

    with pytest.raises(ModelError, match=r"as int8: ConverterError: .*Cholesky.*Replace the layer"):
        convert_integer(model, schema, "int8", {"x": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize(
    ("examples", "shown"),
    [
        ({}, "'words': 0, 'size': 0"),
        ({"words": np.zeros((3, 4)), "size": np.zeros((2, 2))}, "'words': 3, 'size': 2"),
    ],
)
def test_examples_of_every_feature_are_wanted(
    kinds: Any, examples: dict[str, np.ndarray], shown: str
) -> None:
    kind: SimpleNamespace = kinds["embedding"]

    with pytest.raises(DataError, match=shown):
        convert_integer(kind.build(), kind.schema, "int8", examples)
