"""Training: rounds of the engines against each other and against bare loops, interleaved.

    python benchmarks/training.py [--workload A|B|C|D|loop] [--quick] [--json]

- A: digits, 100 clients (Dirichlet 0.3), MLP 64-32-10, cohort 50, batch 16, clipped, noised.
  The `compiled` engine against the `tff` engine, and against the bare program: the same blocks,
  read and packed before, through the same compiled functions, and nothing else.
- B: 28x28 images, a CNN of 1.2 M parameters, 100 examples per client, cohort 20, batch 20. Against
  the `tff` engine and a bare TensorFlow loop: one compiled function per client, the mean of the
  updates and a step of the server in NumPy, data in memory.
- C: synthetic handwriting, MLP 784-64-62, cohort 300 by Poisson of 3,400: a round with differential
  privacy against one without.
- D: A with 2,000 synthetic clients of its kind, all in the cohort. The `beam` engine on two worker
  processes against `compiled`. What a round costs beside the training (job, weights, sums) is the
  time of a round of two clients; the rest of a round of all is the training.
- loop: what the training loop (sampling, accounting, evaluation) adds to the engine's rounds on A.

A round is reading the cohort, training, clipping, aggregation, noise and the server's step. The
next cohort is read while one trains, as in a run. Clients that were read once are kept in memory.
"""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from _measure import figure, interleaved, run_workloads
from _peers import pfl_rounds
from _store import ingest, write_clients

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.transforms import pipeline_of
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData, ClientStore
from privet.components.train import loop
from privet.components.train.accounting import Accountant
from privet.components.train.aggregation import build_query
from privet.components.train.checkpoint import Checkpoints
from privet.components.train.config import TrainConfig
from privet.components.train.engines import Engine, build_engine
from privet.components.train.mechanism import gaussian
from privet.components.train.participation import build_participation
from privet.components.train.sampling import AllClients, PoissonSampler
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig, load_config
from privet.pipeline.workers.processes import PROCESSES

EXAMPLES = Path(__file__).parents[1] / "examples"
PRIVACY = {"mechanism": "gaussian", "noise_multiplier": 1.0, "delta": 1e-5, "clip_norm": 0.5}


def main() -> None:
    """Measures and prints."""
    run_workloads(
        __doc__.splitlines()[0],
        {
            "A": small_model,
            "B": convolutions,
            "C": privacy,
            "D": workers,
            "loop": whole_loop,
        },
    )


class Rounds:
    """An engine that runs rounds on cohorts, each one read while the one before trains."""

    def __init__(
        self,
        store: ClientStore,
        model: tf.keras.Model,
        draw: Callable[[int], Any],
        *,
        beam: Mapping[str, Any] | None = None,
        **settings: Any,
    ):
        privacy = settings.pop("privacy", PRIVACY)
        noise = privacy.get("noise_multiplier")
        if settings.get("engine") == "tff":  # refused with privacy; the query clips all the same
            privacy = {"mechanism": "none"}
        config = TrainConfig.from_mapping({"privacy": privacy, **settings})
        self._draw, self._number = draw, 0
        self.engine: Engine = build_engine(
            config,
            model=model,
            store=store,
            query=build_query(
                0.5, noise, float(len(draw(1))), rounded=privacy.get("rounded_noise", False)
            )
            if noise
            else None,
            seed=0,
            **(beam or {}),
        )
        self._state = self.engine.initialize()
        self._reading = self._read()

    def run(self, rounds: int) -> None:
        """Goes on for so many rounds."""
        for _ in range(rounds):
            cohort, self._reading = self._reading, self._read()
            self._state, _ = self.engine.next(self._state, cohort)

    def _read(self) -> Any:
        self._number += 1
        return self.engine.read(self._draw(self._number), self._number)


def small_model(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Workload A."""
    store, cohort = digits(folder), 50
    settings = {"batch_size": 16}
    compiled = Rounds(store, mlp(64, 32, 10), uniform(store, cohort), **settings)
    tff = Rounds(store, mlp(64, 32, 10), uniform(store, cohort), engine="tff", **settings)
    rounds, repeats = (50, 3) if quick else (100, 7)
    engine: Any = compiled.engine
    compiled.run(2)
    readings = [engine.read(uniform(store, cohort)(number), number) for number in range(rounds)]
    cohorts = [(reading.positions, list(reading.blocks)) for reading in readings]

    def bare() -> None:
        programs, state = engine._programs, engine.initialize()
        for positions, blocks in cohorts:
            (total,) = (engine._work(programs.prepare(state), block) for block in blocks)
            state, *_ = programs.finish(engine._update, state, total, positions)

    variants: dict[str, Callable[[], Any]] = {
        "compiled": lambda: compiled.run(rounds),
        "tff": lambda: tff.run(2),
        "bare": bare,
    }
    clients = list(store.read_many(store))
    with pfl_rounds(clients, "mlp", cohort=cohort, batch=16, threads=1) as pfl:
        if pfl:
            variants["pfl"] = lambda: pfl(5)
        seconds = interleaved(variants, repeats)
    peak = peak_memory()
    tff.engine.close()
    speed = cohort * rounds / seconds["compiled"]
    name = "A: digits MLP, cohort 50"
    return [
        figure(name, speed, "clients/s", ratio=speed / 12_000, ratio_to="12,000/s", bar=1.0),
        figure(
            name,
            speed,
            "clients/s",
            ratio=speed * seconds["tff"] / (2 * cohort),
            ratio_to="the tff engine",
            bar=40.0,
        ),
        figure(
            name,
            speed,
            "clients/s",
            ratio=seconds["bare"] / seconds["compiled"],
            ratio_to="the bare compiled program (0.7 is the aim)",
            bar=0.5,
        ),
        *ahead_of_pfl(name, speed, 5 * cohort, seconds),
        memory(name, peak),
    ]


def convolutions(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Workload B."""
    cohort, batch, repeats = 20, 20, 1 if quick else 5
    clients = images(cohort)
    schema = Schema.from_mapping(
        {
            "client_id": "client",
            "features": {"image": {"columns": "image", "shape": [28, 28, 1]}},
            "label": {"column": "label", "classes": 62},
        }
    )
    store = write_clients(clients, schema, folder)
    everyone = np.arange(cohort)
    settings = {"batch_size": batch, "privacy": {"mechanism": "none"}}
    compiled = Rounds(store, cnn(), lambda _: everyone, **settings)
    tff = Rounds(store, cnn(), lambda _: everyone, engine="tff", **settings)
    bare = bare_tensorflow(cnn(), clients, batch)
    variants: dict[str, Callable[[], Any]] = {
        "compiled": lambda: compiled.run(1),
        "tff": lambda: tff.run(1),
        "bare": bare,
    }
    with pfl_rounds(clients, "cnn", cohort=cohort, batch=batch, threads=2) as pfl:
        if pfl:
            variants["pfl"] = lambda: pfl(1)
        seconds = interleaved(variants, repeats)
    peak = peak_memory()
    tff.engine.close()
    speed = cohort / seconds["compiled"]
    name = "B: 28x28 CNN of 1.2 M parameters, cohort 20"
    return [
        figure(
            name,
            speed,
            "clients/s",
            ratio=seconds["bare"] / seconds["compiled"],
            ratio_to="a bare TensorFlow loop",
            bar=0.95,
        ),
        figure(
            name,
            speed,
            "clients/s",
            ratio=seconds["tff"] / seconds["compiled"],
            ratio_to="the tff engine",
            bar=1.2,
        ),
        *ahead_of_pfl(name, speed, cohort, seconds),
        memory(name, peak),
    ]


def privacy(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Workload C."""
    writers, cohort, rounds = (340, 30, 3) if quick else (3400, 300, 5)
    script = EXAMPLES / "handwriting" / "make_data.py"
    options = ["--writers", str(writers), "--held-out", "20", "--output", folder]
    subprocess.run([sys.executable, str(script), *options], check=True, capture_output=True)
    data = load_config(EXAMPLES / "handwriting" / "config.yaml").data.to_json()
    config = IngestConfig.from_mapping({**json.loads(data), "files": f"{folder}/*.parquet"})
    store = ClientStore(ingest(config, folder), "train")
    sampler = PoissonSampler(len(store), cohort, seed=0)
    private = Rounds(store, mlp((28, 28), 64, 62), sampler.draw, batch_size=20)
    plain = Rounds(
        store, mlp((28, 28), 64, 62), sampler.draw, batch_size=20, privacy={"mechanism": "none"}
    )
    rounded = Rounds(
        store,
        mlp((28, 28), 64, 62),
        sampler.draw,
        batch_size=20,
        privacy={**PRIVACY, "rounded_noise": True},
    )
    seconds = interleaved(
        {
            "plain": lambda: plain.run(rounds),
            "private": lambda: private.run(rounds),
            "rounded": lambda: rounded.run(rounds),
        },
        2 if quick else 7,
    )
    name = "C: handwriting MLP, Poisson cohort of 300, with privacy"
    return [
        figure(
            name,
            1000 * seconds["private"] / rounds,
            "ms/round",
            ratio=seconds["plain"] / seconds["private"],
            ratio_to="the speed without privacy",
            bar=1 / 1.1,
        ),
        figure(
            f"{name}, rounded_noise",
            1000 * seconds["rounded"] / rounds,
            "ms/round",
            ratio=seconds["private"] / seconds["rounded"],
            ratio_to="the speed with float32 noise",
            bar=0.6,
        ),
        memory(name, peak_memory()),
    ]


def workers(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Workload D."""
    cohort, few, repeats = 2000, 2, 10 if quick else 80
    known = digits(f"{folder}/digits")
    store = write_clients(like(known, cohort), known.schema, f"{folder}/more")
    arguments = beam_arguments(BeamConfig(workers=2))
    beam = {"make_pipeline": lambda: pipeline_of(arguments), "folder": f"{folder}/rounds"}

    def variant(engine: str, cohort: int) -> Callable[[], None]:
        draw = uniform(store, cohort)
        made = Rounds(store, mlp(64, 32, 10), draw, beam=beam, engine=engine, batch_size=16)
        made.run(3)  # reads and compiles
        return lambda: made.run(1)

    try:
        seconds = interleaved(
            {
                "compiled": variant("compiled", cohort),
                "beam": variant("beam", cohort),
                "fixed": variant("beam", few),
            },
            repeats,
        )
    finally:
        PROCESSES.close()
    compiled, whole, fixed = (seconds[name] for name in ("compiled", "beam", "fixed"))
    name = "D: digits MLP, cohort 2,000, beam on 2 worker processes"
    return [
        figure(f"{name}, fixed cost", fixed, "s", ratio=1.5 / fixed, ratio_to="1.5 s", bar=1.0),
        figure(
            f"{name}, beside the fixed cost",
            cohort / (whole - fixed),
            "clients/s",
            ratio=compiled / (whole - fixed),
            ratio_to="the compiled engine",
            bar=0.7,
        ),
        figure(
            f"{name}, whole rounds",
            cohort / whole,
            "clients/s",
            ratio=compiled / whole,
            ratio_to="the compiled engine (0.04 is what the two bars above come to)",
            bar=0.04,
        ),
        memory(name, peak_memory()),
        memory(f"{name}, a worker", peak_memory(resource.RUSAGE_CHILDREN)),
    ]


def whole_loop(folder: str, quick: bool) -> list[dict[str, Any]]:
    """What sampling, accounting and the checks of the loop cost."""
    store, rounds = digits(folder), 100 if quick else 500
    sampler = AllClients(len(store))
    settings: dict[str, Any] = {"batch_size": 16, "rounds": rounds, "evaluate_every": 0}
    settings["privacy"] = {**PRIVACY, "noise_multiplier": 20}  # of an epsilon that one would use
    config = TrainConfig.from_mapping(settings)
    bare = Rounds(store, mlp(64, 32, 10), sampler.draw, **settings)

    def privet(checkpoints: Checkpoints | None) -> None:
        loop.train(
            bare.engine,
            sampler,
            build_participation(config, sampler, seed=0),
            config,
            accountant=Accountant(gaussian(sampler.draws, 20.0), 1e-5),
            evaluate=lambda _: {},
            progress=lambda _: None,
            example_counts=store.example_counts(),
            checkpoints=checkpoints,
        )

    def kept() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as state:
            privet(Checkpoints(state, "f" * 32, private=True))

    seconds = interleaved(
        {"bare": lambda: bare.run(rounds), "loop": lambda: privet(None), "kept": kept}, 3
    )
    name = "the training loop, 100 digits clients per round"
    return [
        figure(
            label,
            1000 * seconds[which] / rounds,
            "ms/round",
            ratio=seconds["bare"] / seconds[which],
            ratio_to="the engine's rounds alone",
            bar=bar,
        )
        for label, which, bar in (
            (name, "loop", 0.3),
            (f"{name}, a checkpoint and a journal entry in each", "kept", 0.05),
        )
    ]


def ahead_of_pfl(
    name: str, speed: float, clients: int, seconds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The figure beside pfl-research, if it ran: it trained so many clients in its turn."""
    if "pfl" not in seconds:
        return []
    ratio = speed * seconds["pfl"] / clients
    return [figure(name, speed, "clients/s", ratio=ratio, ratio_to="pfl-research", bar=1.0)]


def digits(folder: str) -> ClientStore:
    """100 clients of the digits, or as good as."""
    given = json.loads(load_config(EXAMPLES / "digits" / "config.yaml").data.to_json())
    del given["client_id"]
    given["split"] = {"eval": 0.05, "seed": 1}
    given["partition"] = {"kind": "dirichlet", "clients": 105, "alpha": 0.3}
    return ClientStore(ingest(IngestConfig.from_mapping(given), folder), "train")


def like(store: ClientStore, clients: int) -> list[ClientData]:
    """More clients of a kind: those of a store over and over, each time with other noise."""
    generator = np.random.default_rng(0)
    known = list(store.read_many(store))
    return [
        ClientData(
            f"client-{number:05d}",
            {
                name: values + generator.normal(0, 0.05, values.shape).astype(values.dtype)
                for name, values in known[number % len(known)].features.items()
            },
            known[number % len(known)].labels,
        )
        for number in range(clients)
    ]


def uniform(store: ClientStore, cohort: int) -> Callable[[int], np.ndarray]:
    """Cohorts of a fixed size."""
    return lambda number: np.random.default_rng(number).permutation(len(store))[:cohort]


def images(clients: int) -> list[ClientData]:
    """Clients of 100 random images."""
    generator = np.random.default_rng(0)
    return [
        ClientData(
            f"client-{number}",
            {"image": generator.random((100, 28, 28, 1), np.float32)},
            generator.integers(0, 62, 100),
        )
        for number in range(clients)
    ]


def bare_tensorflow(
    model: tf.keras.Model, clients: list[ClientData], batch: int
) -> Callable[[], None]:
    """Federated averaging as one would write it by hand, without any of our code."""
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    data = [
        (tf.constant(one.features["image"]), tf.constant(one.labels[:, None])) for one in clients
    ]

    @tf.function
    def train(images: tf.Tensor, labels: tf.Tensor) -> None:
        for start in tf.range(0, tf.shape(labels)[0], batch):
            with tf.GradientTape() as tape:
                outputs = model(images[start : start + batch], training=True)
                value = loss(labels[start : start + batch], outputs)
            gradients = tape.gradient(value, model.trainable_variables)
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                variable.assign_sub(0.1 * gradient)

    def round_() -> None:
        start = [variable.numpy() for variable in model.trainable_variables]
        total = [np.zeros_like(value) for value in start]
        for features, labels in data:
            for variable, value in zip(model.trainable_variables, start, strict=True):
                variable.assign(value)
            train(features, labels)
            for part, variable, value in zip(total, model.trainable_variables, start, strict=True):
                part += value - variable.numpy()
        for variable, value, part in zip(model.trainable_variables, start, total, strict=True):
            variable.assign(value - part / len(data))

    return round_


def mlp(inputs: int | tuple[int, ...], hidden: int, outputs: int) -> tf.keras.Model:
    """A dense model with one hidden layer."""
    layers = tf.keras.layers
    shape = (inputs,) if isinstance(inputs, int) else inputs
    return tf.keras.Sequential(
        [
            tf.keras.Input(shape),
            layers.Flatten(),
            layers.Dense(hidden, "relu"),
            layers.Dense(outputs),
        ]
    )


def cnn() -> tf.keras.Model:
    """Two convolutions and two dense layers: 1,206,590 parameters."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(128, "relu"),
            layers.Dense(62),
        ]
    )


def memory(name: str, peak: float) -> dict[str, Any]:
    """Peak memory of a process so far, against a limit that no workload should come near."""
    return figure(f"peak memory, {name}", peak, "MiB", ratio=8192 / peak, ratio_to="8 GiB", bar=1.0)


def peak_memory(whose: int = resource.RUSAGE_SELF) -> float:
    """MiB; of this process, or of the largest one that it has started and ended."""
    return resource.getrusage(whose).ru_maxrss / 1024


if __name__ == "__main__":
    main()
