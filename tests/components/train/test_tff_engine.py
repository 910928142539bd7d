"""The TFF engine against federated averaging written in NumPy, and its traps."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dp_accounting
import numpy as np
import psutil
import pytest

from privet.components.train.aggregation import build_query
from privet.components.train.cohort import training_order
from privet.components.train.engines import build_engine

pytestmark = pytest.mark.usefixtures("no_worker_left")
CLIENT_RATE, SERVER_RATE, BATCH, EPOCHS, SEED = 0.05, 0.5, 2, 3, 4


def numpy_round(weights: list[np.ndarray], clients: list[Any], number: int) -> list[np.ndarray]:
    """One round of unweighted federated averaging of a linear model under squared error."""
    deltas = []
    for client in clients:
        kernel, bias = (part.astype(np.float64) for part in weights)
        order = training_order(client, seed=SEED, round_number=number, epochs=EPOCHS)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            x, y = client.features["x"][chosen], client.labels[chosen, None]
            error = 2 * (x @ kernel + bias - y) / len(chosen)
            kernel, bias = kernel - CLIENT_RATE * x.T @ error, bias - CLIENT_RATE * error.sum(0)
        deltas.append((kernel - weights[0], bias - weights[1]))
    return [
        weights[part] + SERVER_RATE * np.mean([delta[part] for delta in deltas], axis=0)
        for part in (0, 1)
    ]


@pytest.fixture(scope="module")
def config(train_config: Any) -> Any:
    return train_config(
        local_epochs=EPOCHS,
        batch_size=BATCH,
        client_optimizer={"learning_rate": CLIENT_RATE},
        server_optimizer={"learning_rate": SERVER_RATE},
    )


def make_engine(config: Any, model: Any, schema: Any, query: Any = None) -> Any:
    return build_engine(config, model=model, schema=schema, query=query, seed=SEED)


@pytest.fixture
def engine(config: Any, linear_model: Any, schema_of: Any) -> Iterator[Any]:
    engine = make_engine(config, linear_model(), schema_of({"x": 2}, None))
    yield engine
    engine.close()


def test_rounds_equal_federated_averaging_in_numpy(
    engine: Any, linear_model: Any, two_clients: list[Any]
) -> None:
    wanted = linear_model().get_weights()
    state = engine.initialize()
    for part, value in zip(engine.weights(state), wanted, strict=True):
        np.testing.assert_array_equal(part, value)
    for number in (1, 2):
        state = engine.next(state, two_clients, number)
        wanted = numpy_round(wanted, two_clients, number)
        for part, value in zip(engine.weights(state), wanted, strict=True):
            np.testing.assert_allclose(part, value, atol=1e-5)
    assert engine.event(state) == dp_accounting.NonPrivateDpEvent()


def test_same_seed_gives_equal_weights_to_the_last_bit(
    config: Any, linear_model: Any, schema_of: Any, two_clients: list[Any]
) -> None:
    runs = []
    for _ in range(2):
        engine = make_engine(config, linear_model(), schema_of({"x": 2}, None))
        state = engine.initialize()
        for number in (1, 2, 3):
            state = engine.next(state, two_clients, number)
        runs.append(b"".join(part.tobytes() for part in engine.weights(state)))
        engine.close()
    assert runs[0] == runs[1]


def test_model_works_after_the_engine_was_built(
    config: Any, linear_model: Any, schema_of: Any, tmp_path: Any
) -> None:
    # TFF clones the model inside a graph, which switches Keras' classes to their TF1 bases.
    model = linear_model()
    engine = make_engine(config, model, schema_of({"x": 2}, None))
    engine.close()

    assert model(np.array([[2.0, 4.0]])).numpy().item() == pytest.approx(0.1)
    model.trainable_variables[1].assign([1.0])
    model.save(tmp_path / "saved", include_optimizer=False, save_format="tf")
    assert linear_model()(np.array([[2.0, 4.0]])).numpy().item() == pytest.approx(0.1)


def test_closed_engine_leaves_no_worker_process(engine: Any, two_clients: list[Any]) -> None:
    engine.next(engine.initialize(), two_clients, 1)
    assert any("worker_binary" in c.name() for c in psutil.Process().children(recursive=True))
    engine.close()

    left = [c for c in psutil.Process().children(recursive=True) if "worker_binary" in c.name()]
    assert left == []
    engine.close()  # closing twice is harmless


def test_private_round_clips_ignores_what_is_not_finite_and_takes_an_empty_cohort(
    config: Any, linear_model: Any, schema_of: Any, client: Any
) -> None:
    noise = 1e-4  # so little that the clipped update can be seen
    query = build_query(clip_norm=0.5, noise_multiplier=noise, denominator=4.0)
    engine = make_engine(config, linear_model(), schema_of({"x": 2}, None), query)
    try:
        initial = engine.initialize()
        broken = client("broken", [1.0], dtype="float32", x=[[np.nan, np.inf]])
        far = client("far", [1000.0], dtype="float32", x=[[1, 2]])

        def change(cohort: list[Any]) -> np.ndarray:
            state = engine.next(initial, cohort, 1)
            assert engine.event(state).noise_multiplier == pytest.approx(noise)
            assert isinstance(engine.event(state), dp_accounting.GaussianDpEvent)
            pairs = zip(engine.weights(state), engine.weights(initial), strict=True)
            return np.concatenate([(after - before).ravel() for after, before in pairs])

        clipped = 0.5 / 4.0 * SERVER_RATE
        tiny = 10 * 0.5 * noise / 4.0
        assert np.linalg.norm(change([far])) == pytest.approx(clipped, abs=tiny)
        assert np.linalg.norm(change([far, broken])) == pytest.approx(clipped, abs=tiny)
        assert np.linalg.norm(change([broken])) < tiny
        nobody = change([])
        assert 0 < np.linalg.norm(nobody) < tiny
        assert not np.array_equal(nobody, change([]))  # fresh noise though nothing else changed
    finally:
        engine.close()


@pytest.mark.parametrize("classes", [2, 3])
def test_model_of_several_features_trains(
    train_config: Any, schema_of: Any, client: Any, classes: int
) -> None:
    import tensorflow as tf

    x = tf.keras.Input(shape=(2,), name="x")
    word = tf.keras.Input(shape=(1,), name="word", dtype=tf.int64)
    embedded = tf.keras.layers.Flatten()(tf.keras.layers.Embedding(5, 2)(word))
    units = 1 if classes == 2 else 3
    output = tf.keras.layers.Dense(units)(tf.keras.layers.concatenate([x, embedded]))
    model = tf.keras.Model([x, word], output)
    schema = schema_of({"x": 2, "word": {"columns": "word", "dtype": "int64"}}, classes)
    one = client("a", [0, 1], x=[[1, 2], [3, 4]], word=np.array([[4], [0]]))
    engine = make_engine(train_config(), model, schema)
    try:
        state = engine.initialize()
        before = engine.weights(state)
        after = engine.weights(engine.next(state, [one], 1))
    finally:
        engine.close()
    assert [part.shape for part in after] == [(5, 2), (4, units), (units,)]
    moved = np.abs(after[0] - before[0]).sum(axis=1) > 0
    assert moved.tolist() == [True, False, False, False, True]  # the words that the client has


def test_engine_closes_although_interrupts_are_ignored() -> None:
    """As in a background job of a script: the worker inherits the ignored SIGINT."""
    code = """
import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)
import tensorflow as tf
from privet.components.shared.schema import Schema
from privet.components.train.config import TrainConfig
from privet.components.train.engines import build_engine
schema = Schema.from_mapping(
    {"client_id": "c", "features": {"x": {"columns": "x"}}, "label": {"column": "y"}}
)
x = tf.keras.Input((1,))
engine = build_engine(
    TrainConfig.from_mapping({"privacy": {"mechanism": "none"}}),
    model=tf.keras.Model(x, tf.keras.layers.Dense(1)(x)), schema=schema, query=None, seed=0,
)
engine.initialize()
engine.close()
print("closed")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout == "closed\n", done.stderr
