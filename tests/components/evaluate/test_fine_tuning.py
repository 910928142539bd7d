"""Fine-tuning on one client, against NumPy and for every kind of model."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.evaluate.config import PersonalizationConfig
from privet.components.evaluate.fine_tuning import load_personalize
from privet.components.evaluate.personalization import batches
from privet.components.shared import tasks
from privet.components.shared.predictors import load_keras
from privet.components.shared.storage import ClientData
from privet.components.validate.infra import sample_inputs

layers = tf.keras.layers


def saved(folder: Path, inputs: Any, outputs: Any, weights: list[Any] | None = None) -> str:
    model = tf.keras.Model(inputs, outputs)
    if weights is not None:
        model.set_weights([np.array(weight, np.float32) for weight in weights])
    model.save(folder, include_optimizer=False, save_format="tf")
    return str(folder)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> str:
    """y = 2 x + 1."""
    x = tf.keras.Input((1,), name="x")
    folder = tmp_path_factory.mktemp("line")
    return saved(folder, x, layers.Dense(1)(x), [[[2.0]], [1.0]])


def client(client_id: str, x: Any, y: Any, dtype: Any = np.float32) -> ClientData:
    return ClientData(client_id, {"x": np.array(x, np.float32)}, np.array(y, dtype))


def descend(
    adapting: ClientData, config: PersonalizationConfig, seed: int
) -> tuple[np.floating, np.floating]:
    """Slope and intercept after stochastic gradient descent with momentum on squared errors."""
    slope, intercept = np.float64(2), np.float64(1)
    speed = np.zeros(2)
    for batch in batches(adapting, config, seed):
        x, y = adapting.features["x"][batch, 0], adapting.labels[batch]
        error = slope * x + intercept - y
        gradient = np.array([(2 * error * x).mean(), (2 * error).mean()])
        speed = config.momentum * speed + gradient
        slope, intercept = np.array([slope, intercept]) - config.learning_rate * speed
    return slope, intercept


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_weights_after_some_steps_are_those_of_numpy(
    line: str, schema_of: Any, momentum: float
) -> None:
    config = PersonalizationConfig(epochs=2, batch_size=2, learning_rate=0.05, momentum=momentum)
    personalize = load_personalize(line, schema_of({"x": 1}, None), config, 7)
    for name, shift in (("ann", 3.0), ("bob", -2.0), ("ann", 3.0)):  # ann again: nothing is left
        x = np.array([[0.5], [1.0], [-1.0], [2.0], [0.0]])
        adapting = client(name, x, 3 * x[:, 0] + shift)
        before, after = personalize(adapting, client(name, [[0], [1]], [0, 0]))
        slope, intercept = descend(adapting, config, 7)

        np.testing.assert_allclose(before[:, 0], [1, 3], atol=1e-6)
        assert after is not None
        np.testing.assert_allclose(after[:, 0], [intercept, slope + intercept], atol=1e-5)
        assert abs(intercept - 1) > 0.1


def test_one_step_by_hand(line: str, schema_of: Any) -> None:
    config = PersonalizationConfig(batch_size=4, learning_rate=0.25)
    personalize = load_personalize(line, schema_of({"x": 1}, None), config, 0)
    # The errors at x = 0 and 2 are 1 - 3 = -2 and 5 - 1 = 4: gradients 8 (slope), 2 (intercept).
    before, after = personalize(client("a", [[0], [2]], [3, 1]), client("a", [[1]], [0]))

    assert after is not None
    assert (before.item(), after.item()) == pytest.approx((3.0, (2 - 2) + (1 - 0.5)))


def test_client_whose_numbers_run_away_has_no_personal_model(line: str, schema_of: Any) -> None:
    config = PersonalizationConfig(epochs=200, learning_rate=100.0)
    personalize = load_personalize(line, schema_of({"x": 1}, None), config, 0)
    measured = client("a", [[1]], [0])
    before, after = personalize(client("a", [[5], [9]], [3, 1]), measured)

    assert after is None
    assert before.item() == pytest.approx(3.0)
    again, _ = personalize(client("a", [[5], [9]], [3, 1]), measured)
    assert again.item() == pytest.approx(3.0)  # and leaves nothing behind for the next one


KINDS = ["convolutional", "embedding", "binary", "regression", "image", "text"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_learns_its_client(kinds: Any, trained: Any, kind: str) -> None:
    """A client whose every label is the same (that model's worst) is soon told by its model."""
    schema, config = kinds[kind].schema, PersonalizationConfig(epochs=20, learning_rate=0.05)
    inputs = {name: values[:12] for name, values in sample_inputs(schema, 12).items()}
    scores = load_keras(trained(kind), schema)(inputs)
    label = 2.0 if kind == "regression" else int(scores.mean(0).argmin())
    if kind == "binary":
        label = int(scores.mean() < 0.5)
    one = ClientData("a", inputs, np.full(12, label, schema.label.dtype))
    before, after = load_personalize(trained(kind), schema, config, 0)(one, one)

    assert after is not None
    np.testing.assert_allclose(before, scores, atol=1e-5)
    assert after.shape == before.shape
    loss = [tasks.mean_metrics(schema.task, each, one.labels)["loss"] for each in (before, after)]
    assert loss[1] < 0.7 * loss[0]


class Block(layers.Layer):
    """A layer of the user's own, with one of Keras' in it that TensorFlow fuses."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.inner, self.norm = layers.Dense(4), layers.LayerNormalization()

    def call(self, inputs: Any) -> Any:
        return self.norm(self.inner(inputs))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], str]:
    """A saved model with a layer in its middle."""

    def make(layer: Any) -> str:
        tf.keras.utils.set_random_seed(1)
        x = tf.keras.Input((2,), name="x")
        hidden = layer(layers.Dense(8, activation="tanh")(x))
        return saved(tmp_path_factory.mktemp("deep"), x, layers.Dense(1)(hidden))

    return make


X = np.random.default_rng(0).normal(size=(9, 2))


def tuned(personalize: Any, name: str = "ann") -> tuple[np.ndarray, np.ndarray]:
    one = client(name, X, X[:, 0])
    before, after = personalize(one, one)
    assert after is not None
    return before, after


def test_dropout_drops_in_fine_tuning_only_and_the_same_for_the_same_client(
    deep: Any, schema_of: Any
) -> None:
    config, schema = PersonalizationConfig(batch_size=3, epochs=2), schema_of({"x": 2}, None)
    folder = deep(layers.Dropout(0.5))
    personalize = load_personalize(folder, schema, config, 4)
    first, _, again = tuned(personalize), tuned(personalize, "bob"), tuned(personalize)
    anew, other = (tuned(load_personalize(folder, schema, config, seed)) for seed in (4, 5))

    np.testing.assert_array_equal(first[0], again[0])  # nothing drops when it is measured
    np.testing.assert_array_equal(first[0], other[0])
    scores = load_keras(folder, schema)({"x": X.astype(np.float32)})
    np.testing.assert_allclose(first[0], scores, atol=1e-6)
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_array_equal(first[1], anew[1])
    assert np.abs(first[1] - other[1]).max() > 1e-3
    # One step on all examples in one order: without Dropout, seeds would give the same weights.
    whole = PersonalizationConfig(batch_size=9)
    one, two = (tuned(load_personalize(folder, schema, whole, seed))[1] for seed in (4, 5))
    assert np.abs(one - two).max() > 1e-4


@pytest.mark.parametrize(
    "layer", [lambda: layers.Activation("tanh"), layers.LayerNormalization, Block]
)
def test_steps_are_those_of_keras(deep: Any, schema_of: Any, layer: Any) -> None:
    """Also where a fused operation or a layer of the user's own forbids a loop in TensorFlow."""
    config = PersonalizationConfig(batch_size=4, epochs=3, learning_rate=0.05, momentum=0.5)
    folder, one = deep(layer()), client("ann", X, X[:, 0])
    model = tf.keras.models.load_model(folder, compile=False)
    optimizer = tf.keras.optimizers.SGD(0.05, 0.5)
    for batch in batches(one, config, 6):
        with tf.GradientTape() as tape:
            error = model(one.features["x"][batch], training=True)[:, 0] - one.labels[batch]
            loss = tf.reduce_mean(tf.square(error))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    before, after = tuned(load_personalize(folder, schema_of({"x": 2}, None), config, 6))

    np.testing.assert_allclose(after, model(one.features["x"], training=False), atol=1e-5)
    assert np.abs(after - before).max() > 0.1


def test_frozen_layers_stay_as_they_are(tmp_path: Path, schema_of: Any) -> None:
    x = tf.keras.Input((1,), name="x")
    frozen = layers.Dense(1, use_bias=False, trainable=False)(x)
    folder = saved(tmp_path, x, layers.Dense(1, use_bias=False)(frozen), [[[1.0]], [[2.0]]])
    config = PersonalizationConfig(batch_size=1, learning_rate=0.25)
    personalize = load_personalize(folder, schema_of({"x": 1}, None), config, 0)
    # y = 2 * 1 * x at (1, 4): the gradient of the second weight alone, -4, makes it 3.
    _, after = personalize(client("a", [[1]], [4]), client("a", [[1]], [4]))

    assert after is not None
    assert after.item() == pytest.approx(3.0)


def test_threads_do_not_disturb_each_other(line: str, schema_of: Any) -> None:
    config = PersonalizationConfig(batch_size=1, learning_rate=0.01, epochs=3)
    personalize = load_personalize(line, schema_of({"x": 1}, None), config, 0)
    clients = [client(f"c{i}", [[0.5], [1.5]], [i, -i]) for i in range(6)]
    alone = [personalize(one, one)[1] for one in clients]
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        for _ in range(5):
            found[number] = personalize(clients[number], clients[number])[1]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, scores in found.items():
        np.testing.assert_array_equal(scores, alone[number])
