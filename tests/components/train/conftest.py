"""Tiny clients and a linear model that one can follow by hand."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import pytest

from privet.components.ingest.transforms import pipeline_of
from privet.components.shared.storage import ClientStore
from privet.components.train.config import TrainConfig
from privet.components.train.engines import build_engine
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig

WEIGHTS = [np.array([[0.5], [-0.25]], np.float32), np.array([0.1], np.float32)]


def make_config(**changes: Any) -> TrainConfig:
    return TrainConfig.from_mapping({"privacy": {"mechanism": "none"}, "rounds": 1, **changes})


@pytest.fixture(scope="session")
def train_config() -> Callable[..., TrainConfig]:
    return make_config


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[[], Any]:
    """A pipeline of Beam's in-process runner."""
    return lambda: pipeline_of(beam_arguments(BeamConfig()))


@pytest.fixture(scope="session")
def make_engine(
    tmp_path_factory: pytest.TempPathFactory, make_pipeline: Callable[[], Any]
) -> Callable[..., Any]:
    """Builds an engine, each with a folder of its own."""
    return lambda config, **parts: build_engine(
        config,
        make_pipeline=make_pipeline,
        folder=str(tmp_path_factory.mktemp("rounds")),
        **parts,
    )


@pytest.fixture(scope="session")
def linear_model() -> Callable[[], Any]:
    """Builds y = 0.5 a - 0.25 b + 0.1."""

    def build() -> Any:
        import tensorflow as tf

        inputs = tf.keras.Input(shape=(2,), name="x")
        model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(inputs))
        model.set_weights(WEIGHTS)
        return model

    return build


@pytest.fixture(scope="module")
def two_clients(client: Any) -> list[Any]:
    """Clients of one and of three examples."""
    return [
        client("ann", [1.0], dtype="float32", x=[[1, 2]]),
        client("bob", [0.0, 2.0, -1.0], dtype="float32", x=[[1, 0], [0, 1], [2, 2]]),
    ]


@pytest.fixture(scope="session")
def store_of(
    write_store: Any, schema_of: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ClientStore]:
    """A store of clients; by default they have what the linear model takes."""

    def make(clients: Sequence[Any], schema: Any = None) -> ClientStore:
        folder = tmp_path_factory.mktemp("store")
        schema = schema or schema_of({"x": 2}, None)
        return ClientStore(write_store(folder, schema, {"train": clients}), "train")

    return make


@pytest.fixture
def no_worker_left() -> Iterator[None]:
    """Checks that a test ends every TFF worker that it starts."""
    before = set(workers())
    yield
    assert set(workers()) == before


@pytest.fixture
def own_workers() -> Callable[[], set[int]]:
    """TFF workers that a test has started; others of this process are not its own."""
    before = set(workers())
    return lambda: set(workers()) - before


def workers() -> list[int]:
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if "worker_binary" in child.name() and child.status() != psutil.STATUS_ZOMBIE
    ]
