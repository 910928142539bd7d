"""Fine-tuning for int8: it trains a copy for the integers of the file, and keeps what is sparse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.compress.convert import (
    convert_fake_quantized,
    float_operators,
)
from privet.components.compress.export import KerasPredictor
from privet.components.compress.quantization_aware import fine_tuned
from privet.components.compress.variant_config import FineTuningConfig
from privet.components.shared.errors import ModelError
from privet.components.validate.infra import sample_inputs

CLUSTERS = 8
ONCE = FineTuningConfig()


def sparse_or_clustered(weight: np.ndarray, *, sparse: bool, clustered: bool) -> np.ndarray:
    """The weight with about half of it at zero, or all at one of CLUSTERS values, or both."""
    if weight.ndim < 2:
        return weight
    if clustered:
        values = np.quantile(weight, np.linspace(0.02, 0.98, CLUSTERS)).astype(np.float32)
        weight = values[np.abs(weight[..., None] - values).argmin(axis=-1)]
    if sparse:
        weight = np.where(np.abs(weight) < np.median(np.abs(weight)), 0, weight)
    return weight.astype(np.float32)


def changed(model: Any, *, sparse: bool, clustered: bool) -> Any:
    copy = tf.keras.models.clone_model(model)
    copy.set_weights(
        [
            sparse_or_clustered(weight, sparse=sparse, clustered=clustered)
            for weight in model.get_weights()
        ]
    )
    return copy


def integer_kernels(tflite: bytes) -> dict[str, np.ndarray]:
    """Layer -> its int8 constant, in Keras' order of axes, with 0 for zero."""
    interpreter = tf.lite.Interpreter(
        model_content=tflite, experimental_preserve_all_tensors=True, num_threads=1
    )
    interpreter.allocate_tensors()
    computed = {index for one in interpreter._get_ops_details() for index in one["outputs"]}
    kernels = {}
    for one in interpreter.get_tensor_details():
        if one["dtype"] != np.int8 or one["index"] in computed or len(one["shape"]) < 2:
            continue
        if not one["name"]:  # room that a convolution works in
            continue
        kernel = interpreter.get_tensor(one["index"])
        if kernel.ndim == 2 and "embedding" not in one["name"]:
            kernel = kernel.T
        elif kernel.ndim == 4 and kernel.shape[0] > 1:
            kernel = kernel.transpose(1, 2, 3, 0)
        name = one["name"].split("/")[1].removeprefix("quant_")
        kernels[name] = kernel.astype(int) - one["quantization"][1]
    return kernels


@pytest.fixture(scope="module")
def tuned(separable: Any) -> Callable[..., tuple[Any, Any, bytes]]:
    """(sparse, clustered) -> the model before, the model after, and its file."""
    made: dict[tuple[bool, bool], tuple[Any, Any, bytes]] = {}

    def tune(*, sparse: bool = False, clustered: bool = False) -> tuple[Any, Any, bytes]:
        if (sparse, clustered) not in made:
            before = changed(separable.model, sparse=sparse, clustered=clustered)
            after = fine_tuned(
                before,
                separable.features,
                separable.labels,
                separable.schema,
                FineTuningConfig(epochs=2, learning_rate=1e-3),
                sparse=sparse,
                clustered=clustered,
                seed=1,
            )
            tflite = convert_fake_quantized(after, separable.schema)
            made[sparse, clustered] = before, after, tflite
        return made[sparse, clustered]

    return tune


SCHEMES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize(("sparse", "clustered"), SCHEMES)
def test_file_of_the_tuned_model_is_int8_and_right(
    separable: Any, tuned: Any, sparse: bool, clustered: bool
) -> None:
    _, after, tflite = tuned(sparse=sparse, clustered=clustered)
    run = tf.lite.Interpreter(model_content=tflite).get_signature_runner("serving_default")
    scores = run(**separable.features)["scores"]
    predict = KerasPredictor(after, separable.schema)
    trained = predict({"x": tf.constant(separable.features["x"])}).numpy()

    assert np.mean(scores.argmax(1) == separable.labels) > 0.98
    assert float_operators(tflite) == []
    assert integer_kernels(tflite).keys() == {"conv", "depthwise", "hidden", "logits"}
    # What was trained is what the file does, but for a step of the integers here and there.
    assert np.mean(np.abs(scores - trained)) < 1e-3


@pytest.mark.parametrize("clustered", [False, True])
def test_zeros_stay_zeros(tuned: Any, clustered: bool) -> None:
    before, _, tflite = tuned(sparse=True, clustered=clustered)
    kernels = integer_kernels(tflite)

    for name in ("conv", "hidden", "logits"):
        zeros = before.get_layer(name).kernel.numpy() == 0
        assert zeros.mean() > 0.3
        assert not kernels[name][zeros].any()
    zeros = before.get_layer("depthwise").depthwise_kernel.numpy() == 0
    assert not kernels["depthwise"].reshape(zeros.shape)[zeros].any()


@pytest.mark.parametrize("sparse", [False, True])
def test_clusters_stay_clusters(tuned: Any, sparse: bool) -> None:
    before, _, tflite = tuned(sparse=sparse, clustered=True)

    for name, kernel in integer_kernels(tflite).items():
        values = len(np.unique(before.get_layer(name).get_weights()[0]))
        if name == "depthwise":  # has a scale per channel: so many values in each
            counts = [len(np.unique(channel)) for channel in np.moveaxis(kernel, -1, 0)]
            assert max(counts) <= values
        else:
            assert len(np.unique(kernel)) <= values <= CLUSTERS


def test_training_moves_what_it_may_move(tuned: Any) -> None:
    before, after, _ = tuned(sparse=True, clustered=True)

    def weights(layer: str) -> tuple[np.ndarray, np.ndarray]:
        tuned_layer = after.get_layer(f"quant_{layer}")
        (values,) = [one for one in tuned_layer.weights if one.name.endswith("kernel:0")]
        return before.get_layer(layer).get_weights()[0], values.numpy()

    for name in ("conv", "hidden", "logits"):
        first, last = weights(name)
        assert np.abs(first - last).max() > 1e-4
    np.testing.assert_array_equal(*weights("depthwise"))  # nothing would keep its clusters


def test_given_model_stays_as_it_was(separable: Any) -> None:
    model = separable.model
    weights, layers = model.get_weights(), list(model.layers)
    outputs = model(separable.features["x"]).numpy()
    arguments = separable.features, separable.labels, separable.schema, ONCE
    fine_tuned(model, *arguments, sparse=False, clustered=False, seed=0)

    assert model.layers == layers
    assert model.optimizer is None
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model(separable.features["x"]), outputs)


def test_same_seed_gives_the_same_file(kinds: Any) -> None:
    """Also with layers that Keras has counted on meanwhile; another seed gives another."""
    schema = kinds["binary"].schema
    features = sample_inputs(schema, 96)
    labels = (features["x"].sum(axis=1) > 0).astype(np.int64)
    files = []
    for seed in (1, 1, 2):
        tf.keras.utils.set_random_seed(0)
        arguments = kinds["binary"].build(), features, labels, schema, ONCE
        model = fine_tuned(*arguments, sparse=False, clustered=False, seed=seed)
        files.append(convert_fake_quantized(model, schema))

    assert files[0] == files[1] != files[2]


def test_kernel_without_zeros_does_not_end_the_keeping_of_others(schema_of: Any) -> None:
    """tfmot's layers share a quantizer, which forgets zeros at the first kernel that has none."""
    layers = tf.keras.layers
    inputs = tf.keras.Input((4,), name="x")
    value = layers.Dense(4, activation="relu", name="full")(inputs)
    model = tf.keras.Model(inputs, layers.Dense(2, name="half")(value))
    half = np.array([[0, 0.5], [0.5, 0], [-0.5, 0], [0, -0.5]], np.float32)
    full = np.tile(np.array([0.5, -0.5, 0.25, 0.5], np.float32), (4, 1))
    model.set_weights([full, np.zeros(4, np.float32), half, np.zeros(2, np.float32)])
    features = {"x": np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)}
    labels = (features["x"][:, 0] > 0).astype(np.int64)
    arguments = features, labels, schema_of({"x": 4}, 3), FineTuningConfig(learning_rate=0.01)
    tuned = fine_tuned(model, *arguments, sparse=True, clustered=True, seed=0)
    (kernel,) = [
        one.numpy() for one in tuned.get_layer("quant_half").weights if "kernel:0" in one.name
    ]

    np.testing.assert_array_equal(kernel == 0, half == 0)
    assert len(np.unique(kernel)) == 3
    assert np.abs(kernel - half).max() > 1e-3


def test_layers_unknown_to_tfmot_stay_float_and_their_output_is_rounded(schema_of: Any) -> None:
    """The range of the input is that of the examples: 0 to 50, where tfmot would say -6 to 6."""
    layers = tf.keras.layers
    inputs = tf.keras.Input((6,), name="x")
    value = layers.Dense(8, activation="relu")(inputs)
    value = layers.Dense(4, activation="elu")(layers.LayerNormalization()(value))
    model = tf.keras.Model(inputs, layers.Dense(3, name="logits")(value))
    features = {"x": np.random.default_rng(0).uniform(0, 50, (64, 6)).astype(np.float32)}
    features["x"][:, 0], features["x"][:, 1] = 50, 0
    schema = schema_of({"x": 6}, 3)
    arguments = features, np.arange(64) % 3, schema, FineTuningConfig(batch_size=16)
    tuned = fine_tuned(model, *arguments, sparse=False, clustered=False, seed=0)
    tflite = convert_fake_quantized(tuned, schema)
    details = tf.lite.Interpreter(model_content=tflite).get_tensor_details()

    # Int8 are the dense layer before the normalization, and the one behind elu.
    assert integer_kernels(tflite).keys() == {"dense", "logits"}
    assert "FULLY_CONNECTED" in float_operators(tflite)  # elu
    shape, dtype = (1, 6), np.int8
    (scale,) = [
        one["quantization"][0]
        for one in details
        if tuple(one["shape"]) == shape and one["dtype"] == dtype
    ]
    assert scale == pytest.approx(50 / 255, rel=1e-3)


def test_sparse_embedding_is_not_trained(kinds: Any) -> None:
    """tfmot leaves it float, so that nothing would keep its zeros."""
    model = changed(kinds["embedding"].build(), sparse=True, clustered=False)
    schema = kinds["embedding"].schema
    features = sample_inputs(schema, 64)
    tuned = fine_tuned(
        model, features, np.arange(64) % 3, schema, ONCE, sparse=True, clustered=False, seed=0
    )

    np.testing.assert_array_equal(
        model.get_layer("embedding").embeddings, tuned.get_layer("embedding").embeddings
    )


def test_model_without_a_layer_for_tfmot_is_refused(schema_of: Any) -> None:
    layers = tf.keras.layers
    inputs = tf.keras.Input((6,), name="x")
    value = layers.Conv1D(3, 6, name="only")(layers.Reshape((6, 1))(inputs))
    model = tf.keras.Model(inputs, layers.Flatten()(value))
    arguments = {"x": np.ones((4, 6))}, np.zeros(4), schema_of({"x": 6}, 3), ONCE

    with pytest.raises(ModelError, match=r"Dense, Conv2D.*only \(Conv1D\).*give ranges"):
        fine_tuned(model, *arguments, sparse=False, clustered=False, seed=0)
