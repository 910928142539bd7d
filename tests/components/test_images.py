"""Images of bytes through every step: from the store to the served answer."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from privet.components.shared import files
from privet.components.shared.storage import ClientStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODEL = """
import tensorflow as tf


def build_model():
    layers = tf.keras.layers
    inputs = tf.keras.Input((28, 28), dtype="uint8")
    value = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 255)(inputs))
    value = layers.Conv2D(4, 3, strides=3, activation="relu")(value)
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(value)))
"""


@pytest.fixture(scope="module")
def place(
    write_store: Any, kinds: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Six clients with noisy images; the class says which third is bright."""
    generator = np.random.default_rng(0)

    def one(name: str) -> Any:
        labels = generator.integers(0, 3, 12)
        images = generator.integers(0, 100, (12, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[9 * label : 9 * label + 9] += 150
        return client(name, labels, image=images)

    place = tmp_path_factory.mktemp("images")
    (place / "model.py").write_text(MODEL)
    splits = {"train": [one(f"t{i}") for i in range(4)], "eval": [one("e0"), one("e1")]}
    write_store(place / "examples", kinds["image"].schema, splits)
    return place


@pytest.fixture(scope="module")
def trained(place: Path) -> str:
    """A model that learned to tell the bright thirds apart."""
    from privet.components.train.config import (
        TrainConfig,
    )
    from privet.components.train.run import run_training

    values = {"rounds": 6, "local_epochs": 2, "batch_size": 4, "privacy": {"mechanism": "none"}}
    values["client_optimizer"] = {"learning_rate": 0.05}
    result = run_training(
        str(place / "examples"),
        str(place / "model.py"),
        "build_model",
        TrainConfig.from_mapping(values),
        0,
        lambda _: None,
    )
    assert result.history["rounds"][-1]["eval"]["accuracy"] > 0.8
    result.model.save(place / "trained", include_optimizer=False, save_format="tf")
    return str(place / "trained")


@pytest.fixture(scope="module")
def servable(place: Path, trained: str, kinds: Any, export_keras: Any) -> Path:
    return export_keras(trained, kinds["image"].schema, "float32", place / "servable")


@contextlib.contextmanager
def served(servable: Path, base: Path, *, tflite: bool) -> Iterator[Any]:
    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    shutil.copytree(servable, base / "1")
    config = ServerConfig(
        model_base_path=base,
        port=free_port(),
        rest_api_port=free_port(),
        prefer_tflite_model=tflite,
        drain_seconds=5,
    )
    with RunningServer(config) as running:
        yield config, running.grpc_address


@pytest.mark.parametrize("tflite", [False, True])
def test_served_answers_on_stored_images_are_those_of_the_keras_model(
    place: Path, trained: str, servable: Path, tmp_path: Path, tflite: bool
) -> None:
    import tensorflow as tf

    from privet.serving.client import GrpcClient, RestClient

    with ClientStore(str(place / "examples"), "eval") as store:
        images = np.concatenate([client.features["image"] for client in store.read_many(store)])
    model = tf.keras.models.load_model(trained, compile=False)
    wanted = tf.nn.softmax(model(images)).numpy()

    assert images.dtype == model.inputs[0].dtype.as_numpy_dtype == np.uint8
    with served(servable, tmp_path, tflite=tflite) as (config, address):
        rest = RestClient("127.0.0.1", config.rest_api_port)
        rest.wait_until_available("default", timeout_seconds=60)
        rows = [{"image": image.tolist()} for image in images]
        by_rest = np.asarray(rest.predict("default", instances=rows))
        with GrpcClient(address) as grpc:
            by_grpc = grpc.predict("default", {"image": images}).outputs["scores"]
    np.testing.assert_allclose(by_rest, wanted, atol=1e-5)
    np.testing.assert_allclose(by_grpc, wanted, atol=1e-5)
    assert len({tuple(row) for row in wanted.round(3).tolist()}) > 3  # answers that differ


def test_evaluation_reads_images(
    place: Path, trained: str, servable: Path, beam_options: list[str]
) -> None:
    from privet.components.evaluate.job import Job
    from privet.components.evaluate.run import evaluate_to

    job = Job(str(place / "examples"), "eval", trained, {"compressed": str(servable)})
    output = str(place / "evaluation")
    evaluate_to(job, output, lambda: beam.Pipeline(options=PipelineOptions(beam_options)))
    found = files.read_json(files.join(output, "evaluation.json"))["models"]

    assert found["float"]["overall"]["accuracy"] > 0.8
    assert found["float"]["overall"] == pytest.approx(found["compressed"]["overall"], abs=1e-4)
