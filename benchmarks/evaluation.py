"""Evaluation: every held-out client under two models, against nothing but their inference.

    python benchmarks/evaluation.py [--quick] [--json]

3,400 clients with 100 images of 28x28 each, on a CNN of 108,422 weights in float (TensorFlow) and
int8 (TensorFlow Lite), with weights as they are drawn: neither speed depends on them.

- evaluation: the step as `privet run` does it, on Beam's runner in one process: read the store, run
  both models, all metrics overall and of every client, intervals by 200 replicates of the
  bootstrap, evaluation.json and per_client/.
- bare inference: one model after the other on the same images, which are in memory already, in the
  batches that are quickest for each: TensorFlow on 512 at a time on all cores, TensorFlow Lite on
  256 at a time on one thread, its default. (The evaluation runs them side by side.)

Both run in turns; the ratio is bare inference over evaluation, which holds at 1 / 1.3.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
from pathlib import Path
from typing import Any

import _cnn
import numpy as np
import tensorflow as tf
from _measure import figure, interleaved, parse_arguments, show

from privet.components.compress.convert import convert_float
from privet.components.compress.export import KerasPredictor, export_servable
from privet.components.compress.quantize import rounded
from privet.components.evaluate.job import Job
from privet.components.evaluate.run import evaluate_to
from privet.components.ingest.transforms import pipeline_of
from privet.components.shared import storage
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig

CLIENTS, IMAGES, SHARDS = 3400, 100, 8
FLOAT_BATCH, INT8_BATCH = 512, 256
SLOWER = 1.3

SCHEMA = Schema.from_mapping(
    {
        "client_id": "client",
        "features": {"image": {"columns": "image", "dtype": "uint8", "shape": [28, 28]}},
        "label": {"column": "class", "classes": 62},
    }
)


def main() -> None:
    """Measures and prints."""
    arguments = parse_arguments(__doc__.splitlines()[0], ["all"])
    clients, repeats = (340, 3) if arguments.quick else (CLIENTS, 3)
    with tempfile.TemporaryDirectory() as folder:
        images = write_store(f"{folder}/examples", clients)
        job = build_models(folder)
        bare = bare_inference(job, images)
        runs = [0]

        def evaluation() -> None:
            runs[0] += 1
            evaluate_to(
                job,
                f"{folder}/evaluation-{runs[0]}",
                lambda: pipeline_of(beam_arguments(BeamConfig())),
            )

        seconds = interleaved({"bare": bare, "evaluation": evaluation}, repeats)
    ratio = seconds["bare"] / seconds["evaluation"]
    item = figure(
        f"evaluation of {clients} clients x {IMAGES} images, float and int8",
        seconds["evaluation"],
        "s",
        ratio=ratio,
        ratio_to="bare inference",
        bar=round(1 / SLOWER, 4),
    )
    show([{**item, "times_bare_inference": round(1 / ratio, 3)}], as_json=arguments.json)


def write_store(folder: str, clients: int) -> np.ndarray:
    """Clients of random images and labels, in shards; all images."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (clients * IMAGES, 28, 28), np.uint8)
    labels = generator.integers(0, 62, clients * IMAGES)
    storage.write_schema(folder, SCHEMA)
    shards: list[list[ClientData]] = [[] for _ in range(SHARDS)]
    for number in range(clients):
        part, name = slice(number * IMAGES, (number + 1) * IMAGES), f"client-{number:05d}"
        client = ClientData(name, {"image": images[part]}, labels[part])
        shards[storage.shard_of(name, SHARDS)].append(client)
    for number, members in enumerate(shards):
        directory = storage.split_directory(folder, "eval")
        with storage.ShardWriter(directory, number, SHARDS) as writer:
            for client in members:
                writer.write(client.client_id, len(client), storage.encode_client(client))
    return images


def build_models(folder: str) -> Job:
    """The trained model and its int8 servable, and what is to be evaluated."""
    trained, servable = Path(folder, "trained"), Path(folder, "int8")
    model = _cnn.small()
    model.save(trained, include_optimizer=False, save_format="tf")
    small = rounded(model, "int8_weights")
    content = convert_float(small, SCHEMA, "int8_weights")
    export_servable(KerasPredictor(small, SCHEMA), content, SCHEMA, str(servable))
    return Job(f"{folder}/examples", "eval", str(trained), {"int8": str(servable)})


def bare_inference(job: Job, images: np.ndarray) -> Any:
    """A function that runs both models on all images, and nothing else."""
    model = tf.keras.models.load_model(job.trained, compile=False)
    image = tf.TensorSpec((None, 28, 28), tf.uint8)
    forward = tf.function(lambda batch: model(batch, training=False), input_signature=[image])
    content = Path(job.servables["int8"], "model.tflite").read_bytes()
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner("serving_default")

    def run() -> None:
        for start in range(0, len(images), FLOAT_BATCH):
            forward(images[start : start + FLOAT_BATCH]).numpy()
        for start in range(0, len(images), INT8_BATCH):
            signature(image=images[start : start + INT8_BATCH])

    return run


if __name__ == "__main__":
    main()
