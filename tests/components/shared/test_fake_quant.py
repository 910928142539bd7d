"""Models that round as int8 does: by hand, against the converter, and back to the plain model."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.shared.errors import ModelError
from privet.components.shared.fake_quant import (
    initial_ranges,
    ranges_of,
    take_weights,
    with_fake_quant,
)
from privet.components.shared.fake_quant_layers import FakeQuantize, rounded_kernel
from privet.components.shared.keras_models import model_inputs
from privet.components.shared.synthetic import synthetic_features

layers = tf.keras.layers


def dense() -> tf.keras.Model:
    inputs = tf.keras.Input((2,), name="x")
    return tf.keras.Model(inputs, layers.Dense(1, name="value")(inputs))


def perceptron() -> tf.keras.Model:
    inputs = tf.keras.Input((64,), name="x")
    hidden = layers.Dense(8, "relu", name="hidden")(layers.Rescaling(1 / 16, name="scaled")(inputs))
    hidden = layers.Dense(8, "tanh", name="bent")(hidden)
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(hidden))


def convolution() -> tf.keras.Model:
    return tf.keras.Sequential(
        [
            tf.keras.Input((64,), name="x"),
            layers.Rescaling(1 / 16, name="scaled"),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(4, 3, name="conv"),
            layers.ReLU(name="relu"),
            layers.MaxPool2D(),
            layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu6", name="depthwise"),
            layers.AveragePooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, name="logits"),
        ]
    )


def branches() -> tf.keras.Model:
    """A shared inner model, a separable convolution, a sum before a ReLU, plain operations."""
    inputs = tf.keras.Input((64,), name="x")
    image = layers.Reshape((8, 8, 1))(inputs - tf.reduce_mean(inputs, axis=-1, keepdims=True))
    one = layers.SeparableConv2D(4, 3, activation="sigmoid", name="separable")(image)
    other = layers.Conv2D(4, 3, name="conv")(image)
    both = layers.Activation("relu", name="relu")(layers.Add(name="sum")([one, other]))
    hidden = layers.GlobalAveragePooling2D(name="mean")(both)
    inner = tf.keras.Sequential([layers.Dense(4, "relu", name="dense")], name="inner")
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(inner(inner(hidden))))


def words() -> tf.keras.Model:
    word = tf.keras.Input((4,), name="word", dtype=tf.int64)
    x = tf.keras.Input((2,), name="x")
    embedded = layers.Flatten()(layers.Embedding(7, 3, name="table")(word))
    both = layers.Concatenate(name="all")([embedded, x])
    return tf.keras.Model([word, x], layers.Dense(3, name="logits")(both))


PIXELS = {"x": {"columns": "x_{0..63}", "minimum": 0, "maximum": 16}}
WORDS = {
    "word": {"columns": "word", "dtype": "int64", "shape": [4], "minimum": 0, "maximum": 6},
    "x": 2,
}
MODELS: dict[str, Any] = {
    "perceptron": (perceptron, PIXELS, ["x", "scaled", "hidden", "bent/linear", "logits"]),
    "convolution": (convolution, PIXELS, ["x", "scaled", "relu", "depthwise", "logits"]),
    "branches": (
        branches,
        PIXELS,
        [
            "x",
            "tf.math.reduce_mean",
            "tf.math.subtract",
            "separable/depthwise",
            "separable/linear",
            "conv",
            "relu",
            "mean",
            "inner/dense",
            "logits",
        ],
    ),
    "words": (words, WORDS, ["x", "all", "logits"]),
}


@pytest.fixture(scope="module")
def made(schema_of: Any) -> Callable[[str], SimpleNamespace]:
    """A model of a kind with its initial ranges, its form that rounds, and 50 examples."""
    known: dict[str, SimpleNamespace] = {}

    def make(kind: str) -> SimpleNamespace:
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(1)
        build, features, _ = MODELS[kind]
        model, schema = build(), schema_of(features, 3)
        ranges = initial_ranges(model, schema, seed=0)
        fed = synthetic_features(schema, 50, seed=1)
        return SimpleNamespace(
            model=model, ranges=ranges, rounding=with_fake_quant(model, ranges), features=fed
        )

    def get(kind: str) -> SimpleNamespace:
        if kind not in known:
            known[kind] = make(kind)
        return known[kind]

    return get


def test_ends_of_a_range_learn_by_what_they_cut_off() -> None:
    layer = FakeQuantize(-2.0, 2.0)
    values = tf.constant([[-3.0, -0.5, 0.5, 2.5, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(layer(values) * [[1.0, 10.0, 100.0, 1000.0, 10000.0]])
    inside, ends = tape.gradient(total, [values, layer.moved])
    np.testing.assert_array_equal(inside, [[0, 10, 100, 0, 0]])
    np.testing.assert_allclose(ends, [2, 22000])  # counted in widths: the root of 4


def test_narrow_range_moves_by_its_own_width() -> None:
    layer = FakeQuantize(-0.05, 0.15)
    layer.build((None, 2))
    layer.moved.assign([-0.5, 1.0])
    np.testing.assert_allclose(layer.ends(), [-0.15, 0.35], rtol=1e-6)


def test_values_are_rounded_to_256_levels_one_of_which_is_0() -> None:
    values = np.linspace(-2, 3, 5001, dtype=np.float32)[None]
    rounded = FakeQuantize(-1.0, 2.0)(values).numpy()
    assert len(np.unique(rounded)) == 256
    assert 0.0 in rounded
    step = 3 / 255
    inside = (values > -1) & (values < 2)
    assert np.abs(rounded - values)[inside].max() <= step / 2 * 1.001
    assert rounded.min() == pytest.approx(-1, abs=step / 2)
    assert rounded.max() == pytest.approx(2, abs=step / 2)


@pytest.mark.parametrize("moved", [(9.0, 0.0), (0.0, -9.0), (9.0, -9.0), (-9.0, -20.0), (1e6, 1e6)])
def test_range_is_valid_whatever_noise_does_to_it_and_finds_back(moved: Any) -> None:
    layer = FakeQuantize(-1.0, 3.0)
    layer.build((None, 2))
    layer.moved.assign(moved)
    with tf.GradientTape() as tape:
        low, high = layer.ends()
        total = 2 * low + 3 * high
    assert low <= 0 <= high
    assert high - low >= 0.039
    np.testing.assert_allclose(tape.gradient(total, layer.moved), [4, 6])
    assert np.isfinite(layer(np.array([[-1.0, 5.0]], np.float32))).all()


def test_what_is_not_finite_stays_so_in_training_only() -> None:
    layer = FakeQuantize(-1.0, 1.0)
    values = np.array([[np.nan, np.inf, 0.5]], np.float32)
    got = layer(values, training=True).numpy()
    assert np.isnan(got[0, 0])
    assert np.isinf(got[0, 1])
    assert got[0, 2] == pytest.approx(0.5, abs=1 / 255)
    assert np.isfinite(layer(values[:, 1:], training=False)).all()


def test_kernel_is_rounded_by_its_own_largest_value_and_trains_as_it_is() -> None:
    kernel = tf.constant([[1.27, -0.5], [0.004, 12.7]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(kernel)
        channels = rounded_kernel(kernel, 1)
        whole = rounded_kernel(kernel, 0)
    np.testing.assert_allclose(channels, [[1.27, -0.5], [0.0, 12.7]], atol=1e-6)
    np.testing.assert_allclose(whole, [[1.3, -0.5], [0.0, 12.7]], atol=1e-6)
    for rounded in (channels, whole):
        np.testing.assert_allclose(tape.gradient(rounded, kernel), np.ones((2, 2)))


def test_depthwise_kernel_has_a_scale_for_each_input_and_multiplier() -> None:
    kernel = np.array([[[[1.27, 12.7], [127.0, 0.0127]]]], np.float32)
    np.testing.assert_allclose(rounded_kernel(tf.constant(kernel), 2), kernel, rtol=1e-6)


def test_kernel_of_zeros_stays_and_learns() -> None:
    kernel = tf.zeros((3, 2))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = rounded_kernel(kernel, 1)
    np.testing.assert_array_equal(rounded, kernel)
    np.testing.assert_array_equal(tape.gradient(rounded, kernel), np.ones((3, 2)))


def test_linear_model_by_hand() -> None:
    model = dense()
    model.set_weights([np.array([[1.27], [0.504]], np.float32), np.array([0.26], np.float32)])
    rounding = with_fake_quant(model, {"x": [0.0, 2.55], "value": [-2.55, 0.0]})
    # The kernel is 1.27 and 0.50; inputs are hundredths up to 2.55, and so is the output.
    got = rounding(np.array([[0.104, 0.0], [9.0, 1.0], [-1.0, -1.0]], np.float32))
    np.testing.assert_allclose(got, [[0.0], [0.0], [0.0]], atol=1e-6)
    wide = with_fake_quant(model, {"x": [0.0, 2.55], "value": [0.0, 25.5]})
    got = wide(np.array([[0.104, 0.0], [9.0, 1.0], [-1.0, -1.0]], np.float32))
    np.testing.assert_allclose(got, [[0.4], [4.0], [0.3]], atol=1e-5)  # 0.387, 3.9985, 0.26


@pytest.mark.parametrize("kind", MODELS)
def test_what_tflite_rounds_has_a_range(kind: str, made: Any) -> None:
    one = made(kind)
    assert set(one.ranges) == set(MODELS[kind][2])
    assert all(low <= 0 <= high and low < high for low, high in one.ranges.values())
    assert one.ranges["logits"][0] <= -16
    assert one.ranges["logits"][1] >= 16
    assert one.ranges["x"] == ([0, 1] if kind == "words" else [0, 16])


@pytest.mark.parametrize("kind", MODELS)
def test_form_that_rounds_is_the_model_to_some_steps_of_its_ranges(kind: str, made: Any) -> None:
    one = made(kind)
    features = model_inputs(one.features)
    wanted, got = one.model(features).numpy(), one.rounding(features).numpy()
    widest = max(high - low for low, high in one.ranges.values())
    assert 0 < np.abs(got - wanted).max() < 10 * widest / 255
    for name, ends in ranges_of(one.rounding).items():
        np.testing.assert_allclose(ends, one.ranges[name], rtol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_trained_weights_go_back_into_the_model_that_was_given(kind: str, made: Any) -> None:
    tf.keras.backend.clear_session()
    model = MODELS[kind][0]()
    before = [weight.numpy() for weight in model.weights]
    rounding = with_fake_quant(model, made(kind).ranges)
    for weight in rounding.weights:
        weight.assign_add(0.5 * np.ones(weight.shape))
    for weight, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    take_weights(model, rounding)
    for weight, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, kept + np.float32(0.5))
    assert not any(isinstance(layer, FakeQuantize) for layer in model.layers)
    for low, high in (ranges_of(rounding)[name] for name in made(kind).ranges):
        assert low <= 0 <= high


def int8_model(rounding: tf.keras.Model) -> tf.lite.Interpreter:
    converter = tf.lite.TFLiteConverter.from_keras_model(rounding)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    reference = tf.lite.experimental.OpResolverType.BUILTIN_REF
    return tf.lite.Interpreter(
        model_content=converter.convert(), experimental_op_resolver_type=reference
    )


OPERATIONS: dict[str, Any] = {
    "perceptron": {"FULLY_CONNECTED": 3, "TANH": 1, "MUL": 1},
    "convolution": {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "MUL": 1},
    "branches": {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 3, "ADD": 1},
    "words": {"GATHER": 1, "FULLY_CONNECTED": 1, "CONCATENATION": 1},
}


@pytest.mark.parametrize("kind", MODELS)
def test_form_that_rounds_becomes_an_int8_file_with_its_ranges(kind: str, made: Any) -> None:
    """TFLite computes in integers alone."""
    one = made(kind)
    interpreter = int8_model(one.rounding)
    interpreter.allocate_tensors()
    tensors = {entry["index"]: entry for entry in interpreter.get_tensor_details()}
    counted: dict[str, int] = {}
    scales = []
    for operator in interpreter._get_ops_details():
        name, outputs = operator["op_name"], [tensors[place] for place in operator["outputs"]]
        counted[name] = counted.get(name, 0) + 1
        if name != "DEQUANTIZE":
            assert all(entry["dtype"] in (np.int8, np.int32) for entry in outputs), name
            scales += [entry["quantization"][0] for entry in outputs]
    assert {name: counted.get(name) for name in OPERATIONS[kind]} == OPERATIONS[kind]
    for name, (low, high) in ranges_of(one.rounding).items():
        assert any(np.isclose((high - low) / 255, scale, rtol=1e-5) for scale in scales), name

    features, answers = one.features, []
    runner = interpreter.get_signature_runner()
    (output,) = runner.get_output_details()
    for place in range(len(features["x"])):
        answers.append(
            runner(**{name: values[place : place + 1] for name, values in features.items()})[output]
        )
    wanted = one.rounding(model_inputs(features)).numpy()
    steps = (
        np.abs(np.concatenate(answers) - wanted) * 255 / np.subtract(*one.ranges["logits"][::-1])
    )
    assert steps.max() < 2.01  # rounding of a tie here and there, a step at a time
    assert np.mean(steps > 0.01) < 0.1


def test_no_range_begins_with_a_level_0_between_two_levels(schema_of: Any) -> None:
    even = {"columns": ["x_0", "x_1"], "minimum": -4, "maximum": 4}
    model = dense()
    model.set_weights([np.zeros((2, 1)), np.zeros(1)])
    ranges = initial_ranges(model, schema_of({"x": even}, 2), seed=0)
    assert ranges["x"] == [pytest.approx(-4 * 128 / 127), 4]
    assert ranges["value"] == [pytest.approx(-16 * 128 / 127), 16]
    for low, high in ranges.values():
        assert -low / (high - low) * 255 == pytest.approx(128)


def test_ranges_of_another_model_are_refused(made: Any) -> None:
    with pytest.raises(ModelError, match=r"no range for 'value', but for hidden, x: they are of a"):
        with_fake_quant(dense(), {"x": [0.0, 1.0], "hidden": [0.0, 1.0]})


def test_saved_model_takes_its_ranges_again(made: Any, tmp_path: Any) -> None:
    one = made("branches")
    one.model.save(tmp_path / "model", include_optimizer=False, save_format="tf")
    loaded = tf.keras.models.load_model(tmp_path / "model", compile=False)
    again = with_fake_quant(loaded, one.ranges)
    features = model_inputs(one.features)
    np.testing.assert_array_equal(again(features), one.rounding(features))


def test_layer_of_a_user_passes_through(schema_of: Any) -> None:
    class Doubled(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    inputs = tf.keras.Input((2,), name="x")
    model = tf.keras.Model(inputs, layers.Dense(3, name="logits")(Doubled(name="twice")(inputs)))
    ranges = initial_ranges(model, schema_of({"x": 2}, 3), seed=0)
    assert ranges["twice"][1] == pytest.approx(4, rel=0.05)  # of inputs up to 1, with the margin
    rounding = with_fake_quant(model, ranges)
    x = np.array([[0.25, 1.0]], np.float32)
    np.testing.assert_allclose(rounding(x), model(x), atol=0.1)
