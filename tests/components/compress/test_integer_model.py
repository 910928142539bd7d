"""Whole int8 files as TensorFlow models: every integer as TFLite has it, and the same scores."""

import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from privet.components.compress.integer_model import IntegerModel, agreement
from privet.components.shared.errors import ModelError

EXAMPLES = 500
layers = tf.keras.layers


def dense() -> tf.keras.Model:
    inputs = tf.keras.Input((20,), name="x")
    value = layers.Dense(32, activation="relu")(inputs)
    value = layers.Dense(16, activation="relu6")(value)
    return tf.keras.Model(inputs, layers.Dense(5)(value))


def handwriting() -> tf.keras.Model:
    """The example's own: Rescaling, Reshape, pooling, and a normalization of each image."""
    path = Path(__file__).parents[3] / "examples/handwriting/model.py"
    return runpy.run_path(str(path))["build_model"]()


def large_cnn() -> tf.keras.Model:
    """Sums of its dense layer do not fit float32."""
    inputs = tf.keras.Input((28, 28, 1), name="image")
    value = layers.Conv2D(32, 3, activation="relu")(inputs)
    value = layers.Conv2D(64, 3, activation="relu")(value)
    value = layers.Flatten()(layers.MaxPooling2D()(value))
    value = layers.Dense(128, activation="relu")(value)
    return tf.keras.Model(inputs, layers.Dense(62)(value))


def reshaped_cnn() -> tf.keras.Model:
    """A shape that the batch decides keeps XNNPACK away from the whole graph."""
    inputs = tf.keras.Input((28, 28), dtype="uint8", name="image")
    value = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    value = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu")(value)
    value = layers.DepthwiseConv2D(3, activation="relu6")(value)
    value = layers.GlobalAveragePooling2D(keepdims=True)(layers.MaxPooling2D()(value))
    return tf.keras.Model(inputs, layers.Dense(10)(layers.Flatten()(value)))


def separable() -> tf.keras.Model:
    inputs = tf.keras.Input((16, 16, 3), name="image")
    value = layers.SeparableConv2D(12, 3, strides=2, padding="same", activation="relu6")(inputs)
    value = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(value)
    value = layers.AveragePooling2D(3, 2, padding="same")(value)
    return tf.keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(value)))


def residual() -> tf.keras.Model:
    inputs = tf.keras.Input((12, 12, 4), name="image")
    first = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    second = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(first))
    value = layers.ReLU()(layers.Add()([first, second]))
    value = layers.Concatenate()(
        [layers.Conv2D(8, 1, strides=2)(value), layers.MaxPooling2D()(value)]
    )
    value = layers.Conv2D(6, 3, strides=2)(layers.ZeroPadding2D(1)(value))
    value = layers.GlobalAveragePooling2D()(layers.Permute((2, 1, 3))(value))
    return tf.keras.Model(inputs, layers.Dense(5)(value * layers.Dense(6)(value)))


def words() -> tf.keras.Model:
    """Two inputs; a mean over words; a layer on sequences."""
    text = tf.keras.Input((10,), dtype="int64", name="text")
    size = tf.keras.Input((4,), name="size")
    value = layers.Dense(8, activation="relu")(layers.Embedding(50, 8)(text))
    value = layers.Concatenate()([layers.GlobalAveragePooling1D()(value), size])
    return tf.keras.Model([text, size], layers.Dense(5)(value))


MODELS = (dense, handwriting, large_cnn, reshaped_cnn, separable, residual, words)


def drawn(model: tf.keras.Model, count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = {}
    for spec in model.inputs:
        shape = (count, *spec.shape[1:])
        features[spec.name] = {
            tf.float32: lambda shape=shape: rng.normal(size=shape).astype(np.float32),
            tf.uint8: lambda shape=shape: rng.integers(0, 256, shape).astype(np.uint8),
            tf.int64: lambda shape=shape: rng.integers(0, 50, shape),
        }[spec.dtype]()
    return features


def converted(
    model: tf.keras.Model, folder: Path, change: Callable[[Any], None] = lambda _: None
) -> bytes:
    """int8 inside, by a synthetic data set; softmax in float behind it."""
    specs = {
        spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in model.inputs
    }

    @tf.function(autograph=False)
    def predict(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = next(iter(features.values())) if len(features) == 1 else features
        return {"scores": model(inputs, training=False)}

    def examples() -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
        for seed in range(30):
            yield "serving_default", drawn(model, 1, seed)

    module = tf.Module()
    module.model = model
    key = "serving_default"
    tf.saved_model.save(
        module, str(folder), signatures={key: predict.get_concrete_function(**specs)}
    )
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[key])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    change(converter)
    return with_softmax(converter.convert())


def with_softmax(tflite: bytes) -> bytes:
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    (graph,) = model.subgraphs
    (logits,) = graph.outputs
    code, operator, scores = schema.OperatorCodeT(), schema.OperatorT(), schema.TensorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
    code.version = 1
    source = graph.tensors[logits]
    scores.name, scores.shape, scores.type = b"scores", source.shape, source.type
    scores.shapeSignature = source.shapeSignature
    operator.opcodeIndex, operator.inputs = len(model.operatorCodes), [logits]
    operator.outputs = [len(graph.tensors)]
    operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    operator.builtinOptions = schema.SoftmaxOptionsT()
    operator.builtinOptions.beta = 1.0
    graph.outputs = operator.outputs
    (model.signatureDefs[0].outputs[0].tensorIndex,) = operator.outputs
    graph.tensors.append(scores)
    graph.operators.append(operator)
    model.operatorCodes.append(code)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def all_tensors(tflite: bytes, features: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
    """What the interpreter computes on the way, each made an output of the graph."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    (graph,) = model.subgraphs
    signature = {entry.name.decode(): entry.tensorIndex for entry in model.signatureDefs[0].inputs}
    graph.outputs = [int(index) for operator in graph.operators for index in operator.outputs]
    model.signatureDefs = None
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    for name, value in features.items():
        interpreter.resize_tensor_input(signature[name], value.shape)
    interpreter.allocate_tensors()
    for name, value in features.items():
        interpreter.set_tensor(signature[name], value)
    interpreter.invoke()
    return {index: interpreter.get_tensor(index) for index in graph.outputs}


@dataclass(frozen=True)
class Made:
    model: tf.keras.Model
    tflite: bytes
    integer: IntegerModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[], Any]], Made]:
    """Each model once: built with weights that are always the same, and converted."""
    kept: dict[str, Made] = {}

    def make(build: Callable[[], tf.keras.Model]) -> Made:
        if build.__name__ not in kept:
            tf.keras.utils.set_random_seed(1)
            model = build()
            tflite = converted(model, tmp_path_factory.mktemp(build.__name__))
            kept[build.__name__] = Made(model, tflite, IntegerModel(tflite))
        return kept[build.__name__]

    return make


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_every_integer_is_that_of_tflite(made: Any, build: Any) -> None:
    one = made(build)
    features = drawn(one.model, EXAMPLES, seed=100)
    wanted = all_tensors(one.tflite, features)
    # In a graph, since TensorFlow's optimizer must not change them either.
    compiled = tf.function(one.integer.tensors, autograph=False)
    got = compiled({name: tf.constant(value) for name, value in features.items()})

    integers = {index for index, value in wanted.items() if value.dtype == np.int8}
    assert len(integers) >= 3
    assert sum(np.ptp(wanted[index].astype(int)) > 20 for index in integers) >= 2
    differing = {index: int((got[index].numpy() != wanted[index]).sum()) for index in integers}
    assert differing == dict.fromkeys(integers, 0)
    assert agreement(one.integer, one.tflite, features) <= 1e-6


@pytest.mark.parametrize("count", [1, 7, 32])
def test_any_number_of_examples(made: Any, count: int) -> None:
    one = made(reshaped_cnn)
    features = drawn(one.model, count, seed=count)
    assert one.integer({name: tf.constant(value) for name, value in features.items()}).shape == (
        count,
        10,
    )
    assert agreement(one.integer, one.tflite, features) <= 1e-6


def test_saved_model_answers_alike_in_another_process(made: Any, tmp_path: Path) -> None:
    one = made(large_cnn)
    features = drawn(one.model, 32, seed=5)
    module = tf.Module()
    module.integer = one.integer

    @tf.function(autograph=False)
    def predict(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": one.integer({"image": image})}

    spec = tf.TensorSpec([None, 28, 28, 1], tf.float32, name="image")
    exported = predict.get_concrete_function(spec)
    tf.saved_model.save(
        module, str(tmp_path / "saved"), signatures={"serving_default": exported, "other": exported}
    )
    np.save(tmp_path / "image.npy", features["image"])
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1] + '/saved')\n"
        "image = tf.constant(np.load(sys.argv[1] + '/image.npy'))\n"
        "scores = model.signatures['serving_default'](image=image)['scores']\n"
        "np.save(sys.argv[1] + '/scores.npy', scores.numpy())\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    loaded = np.load(tmp_path / "scores.npy")

    assert agreement(lambda _: tf.constant(loaded), one.tflite, features) <= 1e-6
    size = (tmp_path / "saved/saved_model.pb").stat().st_size
    assert size < len(one.tflite) + 40_000  # weights as int8, once for both signatures


def test_fake_quantized_model_needs_no_examples(tmp_path: Path) -> None:
    """Ranges that were trained with the weights."""

    def rounded(value: tf.Tensor, low: float, high: float) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_vars(value, low, high)

    weights = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)

    class Model(tf.Module):
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 8], tf.float32, "x")])
        def predict(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            kernel = tf.quantization.fake_quant_with_min_max_vars(
                weights, -3.0, 3.0, narrow_range=True
            )
            hidden = tf.nn.relu(tf.matmul(rounded(x, -2.0, 2.0), kernel))
            return {"scores": rounded(hidden, 0.0, 9.0)}

    model = Model()
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.predict})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path), signature_keys=["serving_default"]
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    tflite = with_softmax(converter.convert())
    features = {"x": np.random.default_rng(1).normal(size=(EXAMPLES, 8)).astype(np.float32)}

    assert agreement(IntegerModel(tflite), tflite, features) <= 1e-6
    assert any(value.dtype == np.int8 for value in all_tensors(tflite, features).values())


def test_integers_of_16_bits_are_refused(tmp_path: Path) -> None:
    def wide(converter: Any) -> None:
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]

    with pytest.raises(ModelError, match=r"int16.*measured but not served as SavedModel"):
        IntegerModel(converted(dense(), tmp_path, wide))


def test_agreement_is_the_largest_difference(made: Any) -> None:
    one = made(dense)
    features = drawn(one.model, 300, seed=3)  # more than it compares at a time

    def moved(given: Mapping[str, tf.Tensor]) -> tf.Tensor:
        last = given["x"].shape[0] < 256
        return one.integer(given) + tf.one_hot([0], 5) * float(last)

    assert agreement(one.integer, one.tflite, features) <= 1e-6
    assert agreement(moved, one.tflite, features) == pytest.approx(1.0)
    assert agreement(lambda given: one.integer(given) * np.nan, one.tflite, features) == np.inf
    with pytest.raises(ModelError, match="at least one; got \\[0\\] examples"):
        agreement(one.integer, one.tflite, {"x": np.zeros((0, 20), np.float32)})
