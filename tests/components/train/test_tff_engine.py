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
