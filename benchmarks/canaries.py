"""Canaries: what 200 of them, half included, add to the time of a round, and take from accuracy.

    python benchmarks/canaries.py [--workload cnn|dense|accuracy] [--quick] [--json]

- cnn: 28x28 images, a CNN of 1.2 M parameters, cohort 20 of 100 examples each, clipped and noised.
- dense: the same images, an MLP 784-64-62, cohort 100.
- accuracy: the digits example at epsilon 4, delta 1e-5, with and without canaries; seeds 0, 1, 2.

The clients' part of a round is the same program with canaries and without. So what canaries add is
measured on the server's part, with them and without, in turns, and set beside the time of a whole
round without. Whole rounds are compared too, in turns as well; one percent of them is less than a
shared machine varies by.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import functools
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from _measure import figure, interleaved, run_workloads
from _store import ingest, write_clients
from training import PRIVACY, Rounds, cnn, images, mlp
from utility import DIGITS, EVALUATED_ONCE, SEEDS, train

from privet.components.shared.schema import Schema
from privet.components.train.sampling import AllClients
from privet.pipeline.config import load_config

COUNT = 200
SCHEMA = {
    "client_id": "client",
    "features": {"image": {"columns": "image", "shape": [28, 28, 1]}},
    "label": {"column": "label", "classes": 62},
}

_LIMIT = 0.01  # of a round, that canaries may add


def main() -> None:
    """Measures and prints."""
    run_workloads(
        __doc__.splitlines()[0],
        {
            "cnn": convolutions,
            "dense": dense,
            "accuracy": accuracy,
        },
    )


def convolutions(folder: str, quick: bool) -> list[dict[str, Any]]:
    """The model of training.py, workload B."""
    return rounds("CNN of 1.2 M", cnn, 20, folder, quick, xla="off")


def dense(folder: str, quick: bool) -> list[dict[str, Any]]:
    """The model of training.py, workload C."""
    build = functools.partial(mlp, (28, 28, 1), 64, 62)
    return rounds("MLP 784-64-62", build, 100, folder, quick, xla="on")


def rounds(
    label: str,
    build: Callable[[], tf.keras.Model],
    cohort: int,
    folder: str,
    quick: bool,
    *,
    xla: str,
) -> list[dict[str, Any]]:
    """The time that canaries add to rounds of all clients, which is to be at most 1%."""
    store = write_clients(images(cohort), Schema.from_mapping(SCHEMA), folder)
    everyone = np.arange(cohort)
    settings: dict[str, Any] = {"batch_size": 20, "privacy": PRIVACY, "xla": xla}
    without = Rounds(store, build(), lambda _: everyone, **settings)
    draws = AllClients(cohort).draws
    with_canaries = Rounds(
        store,
        build(),
        lambda _: everyone,
        beam={"draws": draws},
        canaries={"count": COUNT},
        **settings,
    )
    whole = interleaved(
        {"without": lambda: without.run(1), "with": lambda: with_canaries.run(1)},
        3 if quick else 15,
    )
    ends = interleaved(
        {"without": end_of(without.engine), "with": end_of(with_canaries.engine)},
        20 if quick else 100,
    )
    added = ends["with"] - ends["without"]
    name = f"{label}, cohort {cohort}: {COUNT} canaries, about half of them included"
    return [
        figure(
            f"{name}, what they add to a round",
            1000 * added,
            "ms/round",
            ratio=_LIMIT * whole["without"] / added,
            ratio_to=f"{_LIMIT:.0%} of a round (it is {100 * added / whole['without']:.2f} %)",
            bar=1.0,
        ),
        figure(
            f"{name}, whole rounds",
            1000 * whole["with"],
            "ms/round",
            ratio=whole["without"] / whole["with"],
            ratio_to="the speed without",
            bar=0.8,
        ),
    ]


def end_of(engine: Any) -> Callable[[], Any]:
    """The server's part of a round, once the sum of the clients is there."""
    state = engine.initialize()
    partial, everyone = engine._programs.nothing, np.arange(len(engine._store))
    if engine._canaries is None:
        return lambda: engine._programs.finish(engine._update, state, partial, everyone)
    return lambda: engine._next_with(engine._canaries, state, partial, everyone)


def accuracy(folder: str, quick: bool) -> list[dict[str, Any]]:
    """The digits with canaries, and without. `quick`: one seed."""
    privacy = ["train.privacy.epsilon=4", "train.privacy.delta=1e-5"]
    examples = ingest(load_config(DIGITS).data, folder)
    values = {}
    for name, added in {"without": [], "with": [f"train.canaries={{count: {COUNT}}}"]}.items():
        config = load_config(DIGITS, [*EVALUATED_ONCE, *privacy, *added])
        results = [train(config, examples, seed) for seed in (SEEDS[:1] if quick else SEEDS)]
        values[name] = [result.history["rounds"][-1]["eval"]["accuracy"] for result in results]
    means = {name: statistics.mean(each) for name, each in values.items()}
    return [
        {
            **figure(
                f"digits at epsilon 4, accuracy with {COUNT} canaries",
                means["with"],
                "of 1",
                ratio=means["with"] / means["without"],
                ratio_to=f"the accuracy without ({means['without']:.4f})",
                bar=0.97,
            ),
            "values": [round(value, 4) for value in values["with"]],
            "values_without": [round(value, 4) for value in values["without"]],
        }
    ]


if __name__ == "__main__":
    main()
