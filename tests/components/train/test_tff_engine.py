"""The TFF engine's process and its traps; what every engine must do is in test_engines.py."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from privet.components.train.engines import build_engine

pytestmark = pytest.mark.usefixtures("no_worker_left")


@pytest.fixture
def engine(
    own_workers: Any, train_config: Any, linear_model: Any, store_of: Any, two_clients: Any
) -> Iterator[Any]:
    engine = build_engine(
        train_config(engine="tff"),
        model=linear_model(),
        store=store_of(two_clients),
        query=None,
        seed=4,
    )
    yield engine
    engine.close()


@pytest.mark.parametrize("how", ["compiled", "tff"])
def test_model_works_after_the_engine_was_built(
    how: str,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
    tmp_path: Any,
) -> None:
    # TFF clones the model inside a graph, which switches Keras' classes to their TF1 bases.
    model = linear_model()
    store = store_of(two_clients)
    build_engine(train_config(engine=how), model=model, store=store, query=None, seed=0).close()

    assert model(np.array([[2.0, 4.0]])).numpy().item() == pytest.approx(0.1)
    model.trainable_variables[1].assign([1.0])
    model.save(tmp_path / "saved", include_optimizer=False, save_format="tf")
    assert linear_model()(np.array([[2.0, 4.0]])).numpy().item() == pytest.approx(0.1)


def test_closed_engine_leaves_no_worker_process(own_workers: Any, engine: Any) -> None:
    engine.next(engine.initialize(), engine.read(np.arange(2), 1))
    assert own_workers()
    engine.close()

    assert not own_workers()
    engine.close()  # closing twice is harmless


def test_engine_closes_although_interrupts_are_ignored(store_of: Any, two_clients: Any) -> None:
    """As in a background job of a script: the worker inherits the ignored SIGINT."""
    folder = store_of(two_clients).directory
    code = """
import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)
import tensorflow as tf
from privet.components.shared.storage import ClientStore
from privet.components.train.config import TrainConfig
from privet.components.train.engines import build_engine
x = tf.keras.Input((2,))
engine = build_engine(
    TrainConfig.from_mapping({"privacy": {"mechanism": "none"}, "engine": "tff"}),
    model=tf.keras.Model(x, tf.keras.layers.Dense(1)(x)),
    store=ClientStore(sys.argv[1], "train"), query=None, seed=0,
)
engine.initialize()
engine.close()
print("closed")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout == "closed\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("weight_by", ["client", "examples"])
def test_tff_quantizes_as_the_other_engines_do(
    weight_by: str, make_engine: Any, train_config: Any, store_of: Any, schema_of: Any, client: Any
) -> None:
    """Not to the bit, since TFF's encoder draws by itself: to the levels, and in the mean."""
    import tensorflow as tf

    draws, bits = 200, 4
    generator = np.random.default_rng(3)
    clients = [
        client(
            name,
            generator.normal(size=size).astype(np.float32),
            dtype="float32",
            x=generator.normal(size=(size, 30)).astype(np.float32),
        )
        for name, size in (("a", 2), ("b", 6))
    ]
    store = store_of(clients, schema_of({"x": 30}, None))

    def change(cohort: list[int], **how: Any) -> np.ndarray:
        """Of the kernel in the first round."""
        model = tf.keras.Sequential(
            [tf.keras.Input((30,)), tf.keras.layers.Dense(1, kernel_initializer="zeros")]
        )
        config = train_config(weight_by=weight_by, **how)
        engine = make_engine(config, model=model, store=store, query=None, seed=4)
        try:
            after, _ = engine.next(engine.initialize(), engine.read(np.array(cohort), 1))
            return engine.weights(after)[0].ravel()
        finally:
            engine.close()

    exact = [change([place], engine="compiled") for place in (0, 1)]
    levels = [np.ptp(one) / (2**bits - 1) for one in exact]
    one = change([1], engine="tff", update_bits=bits)
    steps = (one - exact[1].min()) / levels[1]

    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert 0.1 * levels[1] < np.abs(one - exact[1]).max() <= 1.001 * levels[1]
    assert (one.min(), one.max()) == pytest.approx((exact[1].min(), exact[1].max()))

    weights = store.example_counts() if weight_by == "examples" else np.ones(2)
    wanted = np.average(exact, axis=0, weights=weights)
    got = change([0, 1] * draws, engine="tff", update_bits=bits)  # each draws anew
    assert np.abs(got - wanted).max() < 6 * (max(levels) / 2) / np.sqrt(draws)
