"""The servers of the conformance suite.

The suite starts two of Privet's, with the SavedModel and with model.tflite. It also runs against
any other server that has the same model; with TF Serving's own, by Docker:

    python tests/serving/conformance/model.py /tmp/conformance
    docker run -d -p 8501:8501 -v /tmp/conformance:/models/m -e MODEL_NAME=m \\
        tensorflow/serving:2.14.1
    docker run -d -p 8601:8501 -v /tmp/conformance:/models/m -e MODEL_NAME=m \\
        tensorflow/serving:2.14.1 --prefer_tflite_model
    PRIVET_CONFORMANCE_URL=http://127.0.0.1:8501 \\
    PRIVET_CONFORMANCE_TFLITE_URL=http://127.0.0.1:8601 \\
        pytest tests/serving/conformance

Rows in which Privet differs on purpose are then skipped, each with what it differs in. The rows
are those of TF Serving's master; where 2.14.1 is known to answer otherwise, the row says so.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.model import export
from conformance.rows import Target


@pytest.fixture(scope="session")
def conformance_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the model's versions, of which there is one: 123."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    base_path = tmp_path_factory.mktemp("conformance")
    export(base_path / "123")
    return base_path


@pytest.fixture(scope="session")
def savedmodel(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server of the SavedModel."""
    with _target(request, "PRIVET_CONFORMANCE_URL", prefer_tflite_model=False) as target:
        yield target


@pytest.fixture(scope="session")
def tflite(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server of model.tflite."""
    with _target(request, "PRIVET_CONFORMANCE_TFLITE_URL", prefer_tflite_model=True) as target:
        yield target


@pytest.fixture(scope="session", params=["savedmodel", "tflite"])
def either(request: pytest.FixtureRequest) -> Target:
    """Both servers, one after the other."""
    target: Target = request.getfixturevalue(request.param)
    return target


@contextlib.contextmanager
def _target(
    request: pytest.FixtureRequest, variable: str, *, prefer_tflite_model: bool
) -> Iterator[Target]:
    """The server that the environment names, or else one of Privet's."""
    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    if os.environ.get(variable):
        yield Target(os.environ[variable], is_privet=False)
        return
    config = ServerConfig(
        model_base_path=request.getfixturevalue("conformance_model"),
        model_name="m",
        port=0,
        rest_api_port=free_port(),
        prefer_tflite_model=prefer_tflite_model,
        drain_seconds=5,
    )
    with RunningServer(config):
        yield Target(f"http://127.0.0.1:{config.rest_api_port}", is_privet=True)
