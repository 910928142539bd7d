"""Tiny clients and a linear model that one can follow by hand."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import pytest
from scipy import optimize, stats

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


@pytest.fixture(scope="session")
def check_noise() -> Callable[[np.ndarray, float], None]:
    """Checks that numbers are independent Gaussian ones; wrong once in a million of good cases."""

    def check(values: np.ndarray, deviation: float) -> None:
        values = values.astype(np.float64).ravel() / deviation
        least, most = stats.chi2.ppf([5e-7, 1 - 5e-7], values.size)
        assert least < np.square(values).sum() < most

    return check


@pytest.fixture(scope="session")
def check_independent() -> Callable[[np.ndarray, np.ndarray], None]:
    """Checks that two draws of Gaussian noise are not correlated; as seldom wrong."""

    def check(one: np.ndarray, other: np.ndarray) -> None:
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < stats.norm.ppf(1 - 5e-7) / np.sqrt(one.size)

    return check


@pytest.fixture(scope="session")
def epsilon_by_hand() -> Callable[[float, float], float]:
    """Epsilon at delta of a Gaussian mechanism of sensitivity 1 (Balle, Wang, 2018, theorem 8)."""

    def epsilon(deviation: float, delta: float) -> float:
        def excess(epsilon: float) -> float:
            half, rest = 1 / (2 * deviation), epsilon * deviation
            far = np.exp(epsilon) * stats.norm.cdf(-half - rest)
            return float(stats.norm.cdf(half - rest) - far - delta)

        return float(optimize.brentq(excess, 0, 100))

    return epsilon


@pytest.fixture(scope="session")
def square_model() -> Callable[[], Any]:
    """Builds a linear model without bias: two tensors of 10,000 weights and one of 100, all 0."""

    def build() -> Any:
        import tensorflow as tf

        units = (100, 100, 1)
        layers = [tf.keras.layers.Dense(one, "linear", False, "zeros") for one in units]
        return tf.keras.Sequential([tf.keras.Input((100,)), *layers])

    return build


@pytest.fixture(scope="session")
def trained_privately(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[TrainConfig], Any]:
    """Runs a whole training on four clients of three examples, of three classes."""
    place = tmp_path_factory.mktemp("private")
    (place / "model.py").write_text(
        "import tensorflow as tf\n"
        "def build_model():\n"
        "    inputs = tf.keras.Input((2,))\n"
        "    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(inputs))\n"
    )
    points = [[4, 0], [0, 4], [-4, -4]]
    clients = [client(f"client {number}", [0, 1, 2], x=points) for number in range(5)]
    splits = {"train": clients[:4], "eval": clients[4:]}
    write_store(place / "examples", schema_of({"x": 2}, 3), splits)

    def run(config: TrainConfig) -> Any:
        from privet.components.train.run import run_training

        return run_training(
            str(place / "examples"),
            str(place / "model.py"),
            "build_model",
            config,
            0,
            lambda _: None,
        )

    return run
