"""Checks of the user's model, each with what to change."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from privet.components.shared.errors import ModelError
from privet.components.train.model import (
    assign_weights,
    build_keras_model,
    check_exportable,
)

layers = tf.keras.layers


def one_input(
    *hidden: Any, units: int = 3, width: int = 2, **options: Any
) -> Callable[[], tf.keras.Model]:
    def build() -> tf.keras.Model:
        inputs = tf.keras.Input(shape=(width,), name="x")
        value = inputs
        for layer in hidden:
            value = layer()(value)
        return tf.keras.Model(inputs, layers.Dense(units, **options)(value))

    return build


def two_inputs(first: str = "x", second: str = "z") -> Callable[[], tf.keras.Model]:
    def build() -> tf.keras.Model:
        x = tf.keras.Input(shape=(2,), name=first)
        z = tf.keras.Input(shape=(1,), name=second)
        return tf.keras.Model([x, z], layers.Dense(3)(layers.concatenate([x, z])))

    return build


def compiled() -> tf.keras.Model:
    model = one_input()()
    model.compile("sgd", "mse")
    return model


def ends_in(layer: Callable[[], Any], units: int = 3) -> Callable[[], tf.keras.Model]:
    def build() -> tf.keras.Model:
        return tf.keras.Sequential([tf.keras.Input((2,)), layers.Dense(units), layer()])

    return build


class Subclassed(tf.keras.Model):
    def call(self, inputs: Any) -> Any:
        return inputs


@pytest.mark.parametrize(
    ("build", "features", "classes", "message"),
    [
        (lambda: "model", {"x": 2}, 3, "must return a tf.keras.Model, not <class 'str'>"),
        (lambda: None, {"x": 2}, 3, "must return a tf.keras.Model, not <class 'NoneType'>"),
        (compiled, {"x": 2}, 3, "must not be compiled"),
        (one_input(width=3), {"x": 2}, 3, r"takes x\[None, 3\], but data.features gives x\[None,"),
        (one_input(), {"x": 2, "z": 1}, 3, r"takes x\[None, 2\], but .* z\[None, 1\]"),
        (two_inputs(second="y"), {"x": 2, "z": 1}, 3, r"takes x\[None, 2\], y\[None, 1\], but"),
        (two_inputs(), {"x": 2}, 3, r"takes .*x\[None, 2\].*z\[None, 1\], but"),
        (one_input(units=4), {"x": 2}, 3, r"output is \(None, 4\), .*one logit for each of label "),
        (one_input(units=2), {"x": 2}, 2, r"wants \(None, 1\): one logit \(label classes=2\)"),
        (one_input(units=3), {"x": 2}, None, r"wants \(None, 1\): one value \(the label has no"),
        (one_input(activation="softmax"), {"x": 2}, 3, "has activation=softmax, but the loss want"),
        (one_input(units=1, activation="sigmoid"), {"x": 2}, 2, "has activation=sigmoid, but the"),
        (ends_in(lambda: layers.Activation("softmax")), {"x": 2}, 3, "activation=softmax"),
        (ends_in(layers.Softmax), {"x": 2}, 3, "has activation=softmax, but the loss wants logits"),
        (one_input(layers.BatchNormalization), {"x": 2}, 3, "is a BatchNormalization.*LayerNorm"),
        (
            one_input(lambda: tf.keras.Sequential([layers.BatchNormalization()])),
            {"x": 2},
            3,
            "is a BatchNormalization",
        ),
        (one_input(lambda: layers.Dropout(0.1, seed=3)), {"x": 2}, 3, "has seed=3: client after"),
        (one_input(lambda: layers.Dropout(0.1)), {"x": 2}, 3, None),
        (ends_in(layers.Flatten, units=3), {"x": 2}, 3, None),
        (one_input(trainable=False), {"x": 2}, 3, "has no trainable weights"),
        (one_input(kernel_regularizer="l2"), {"x": 2}, 3, "adds losses of its own"),
        (Subclassed, {"x": 2}, 3, "has no inputs yet.*tf.keras.Input"),
        (lambda: tf.keras.Sequential([layers.Dense(3)]), {"x": 2}, 3, "has no inputs yet"),
        (one_input(lambda: layers.Dense(4), layers.LayerNormalization), {"x": 2}, 3, None),
        (one_input(units=1), {"x": 2}, 2, None),
        (one_input(units=1, activation="sigmoid"), {"x": 2}, None, None),
        (two_inputs(), {"x": 2, "z": 1}, 3, None),
        (two_inputs(), {"z": 1, "x": 2}, 3, None),
    ],
)
def test_model_is_accepted_or_refused_with_what_to_change(
    schema_of: Any, build: Any, features: dict[str, int], classes: int | None, message: str | None
) -> None:
    schema = schema_of(features, classes)
    if message is None:
        assert isinstance(build_keras_model(build, schema, 0), tf.keras.Model)
        return
    with pytest.raises(ModelError, match=message):
        build_keras_model(build, schema, 0)


def quantized() -> tf.keras.Model:
    import tensorflow_model_optimization as tfmot

    return tfmot.quantization.keras.quantize_model(one_input()())


def pruned() -> tf.keras.Model:
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras.prune_low_magnitude(one_input()())


def clustered() -> tf.keras.Model:
    import tensorflow_model_optimization as tfmot

    start = tfmot.clustering.keras.CentroidInitialization.LINEAR
    return tfmot.clustering.keras.cluster_weights(one_input()(), 2, start)


def pruned_inside() -> tf.keras.Model:
    import tensorflow_model_optimization as tfmot

    inputs = tf.keras.Input((2,), name="x")
    inner = tf.keras.Sequential([tf.keras.Input((2,)), layers.Dense(4)])
    inner = tfmot.sparsity.keras.prune_low_magnitude(inner)
    return tf.keras.Model(inputs, layers.Dense(3)(inner(inputs)))


@pytest.mark.parametrize(
    ("build", "wrapper"),
    [
        (quantized, "Quantize"),
        (pruned, "PruneLowMagnitude"),
        (clustered, "ClusterWeights"),
        (pruned_inside, "PruneLowMagnitude"),
    ],
)
def test_wrappers_of_tfmot_are_refused_with_what_to_set(
    schema_of: Any, build: Any, wrapper: str
) -> None:
    message = rf"tensorflow_model_optimization's {wrapper}.*nothing has been trained.*plain model"
    with pytest.raises(ModelError, match=message) as error:
        build_keras_model(build, schema_of({"x": 2}, 3), 0)
    for setting in ("train.quantization_aware", "train.pruning", "compress.variants"):
        assert setting in str(error.value)


@pytest.fixture
def no_worker_left() -> Iterator[None]:
    """Ends the worker that TFF's default runtime starts, which would stay until pytest ends."""
    earlier = set(psutil.Process().children())
    yield
    for child in set(psutil.Process().children()) - earlier:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
            child.wait(10)


def test_ranges_of_tfmot_stay_where_they_were_made_in_federated_training(
    no_worker_left: None,
) -> None:
    """The reason why they are refused: TFF runs, and aggregates the trainable weights alone."""
    import tensorflow_federated as tff

    x = np.array([[0.5, 0.25], [0.1, -0.2]], np.float32)
    alone = quantized()
    made = [weight.numpy() for weight in alone.non_trainable_weights]
    alone(x, training=True)
    moved = zip(made, alone.non_trainable_weights, strict=True)
    assert sum((a != b.numpy()).any() for a, b in moved) >= 4  # what a step does outside of TFF

    data = tf.data.Dataset.from_tensors((x, np.array([[0.0], [1.0]])))
    process = tff.learning.algorithms.build_unweighted_fed_avg(
        lambda: tff.learning.models.from_keras_model(
            quantized(), tf.keras.losses.SparseCategoricalCrossentropy(True), data.element_spec
        ),
        tff.learning.optimizers.build_sgdm(0.1),
    )
    before = process.initialize()
    after = process.next(before, [data]).state
    old, new = (process.get_model_weights(state) for state in (before, after))
    assert any((a != b).any() for a, b in zip(old.trainable, new.trainable, strict=True))
    for a, b in zip(old.non_trainable, new.non_trainable, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("stored", "taken", "fits"),
    [
        ("uint8", "uint8", True),
        ("uint8", "float32", True),
        ("uint8", "int64", True),
        ("int64", "int64", True),
        ("int64", "float32", True),
        ("float32", "float16", True),
        ("float32", "uint8", False),
        ("float32", "int64", False),
        ("int64", "int32", False),
        ("int64", "uint8", False),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_input_that_would_cut_values_off_is_refused(
    schema_of: Any, stored: str, taken: str, fits: bool, several: bool
) -> None:
    def build() -> tf.keras.Model:
        x = tf.keras.Input((2, 3), name="x", dtype=taken)
        z = tf.keras.Input((1,), name="z")
        hidden = layers.Flatten()(layers.Rescaling(0.5)(x))
        if several:
            return tf.keras.Model([z, x], layers.Dense(3)(layers.concatenate([hidden, z])))
        return tf.keras.Model(x, layers.Dense(3)(hidden))

    feature = {"columns": "x", "dtype": stored, "shape": [2, 3]}
    schema = schema_of({"x": feature} | ({"z": 1} if several else {}), 3)
    if fits:
        check_exportable(build_keras_model(build, schema, 0))
        return
    with pytest.raises(ModelError, match=rf'x as {taken}, but .*x is {stored}, .*dtype="{stored}"'):
        build_keras_model(build, schema, 0)


def test_initial_weights_follow_the_seed(schema_of: Any) -> None:
    one, again, other = (
        build_keras_model(one_input(), schema_of({"x": 2}, 3), seed).get_weights()
        for seed in (1, 1, 2)
    )

    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])


def test_weights_are_put_back_in_keras_order(linear_model: Any) -> None:
    model = linear_model()
    assign_weights(model, [np.array([[1.0], [2.0]]), np.array([3.0])])

    assert model(np.array([[10.0, 100.0]])).numpy().item() == 213.0
    with pytest.raises(ValueError):
        assign_weights(model, [np.zeros((2, 1))])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(lambda: layers.LSTM(3), (8, 8)), (lambda: layers.GroupNormalization(4), (2, 4, 8))],
    ids=["lstm", "group"],
)
def test_model_that_tflite_cannot_run_is_refused_before_training(layer: Any, shape: Any) -> None:
    x = tf.keras.Input((64,), name="x")
    hidden = layers.Flatten()(layer()(layers.Reshape(shape)(x)))
    with pytest.raises(
        ModelError, match=r"cannot be exported to TFLite \(nothing has been trained"
    ):
        check_exportable(tf.keras.Model(x, layers.Dense(3)(hidden)))


def test_model_that_tflite_runs_is_accepted() -> None:
    x = tf.keras.Input((8,), name="x")
    check_exportable(tf.keras.Model(x, layers.Dense(3)(layers.LayerNormalization()(x))))


def test_model_is_tried_on_zeros_and_not_on_what_lies_in_memory() -> None:
    """An embedding looks up its input, so that any other number than 0 would be out of bounds."""
    word = tf.keras.Input((8,), name="word", dtype=tf.int64)
    embedded = layers.Flatten()(layers.Embedding(1, 4)(word))
    for _ in range(3):
        check_exportable(tf.keras.Model(word, layers.Dense(3)(embedded)))
