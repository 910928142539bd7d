"""Compression: size, accuracy on held-out clients, speed and memory of every variant.

    python benchmarks/compression.py [--workload small|large|private|step] [--quick] [--json]

On the synthetic handwriting of examples/handwriting: 3,400 writers train, 600 are held out.

- small: a CNN of 108,422 weights, trained without privacy; every variant of it. Pruned to 80% in
  training against pruned in one shot.
- large: a CNN of 1,206,590 weights, dense and pruned to 80% in training, as long as each other.
- private: the small CNN at epsilon 8, delta 1e-4: dense, pruned to 80%, and a small dense one with
  as many weights as the pruned one has left. No bar: the table is what it is.
- step: the whole compress step on the large CNN with six variants, as `privet run` does it.

Every figure of a model has its `table`: a row for each variant with `bytes`, `bytes_gzip`,
`ratio_gzip` (float32 of the same model over it), `accuracy` and its `change` from float32,
`latency_us` at batch 1 and 32 on one thread, `load_ms` (a new process' first interpreter, ready to
run) and `memory_mib` (what loading and running both batches leaves resident, beside the file).
Ranges of activations are `public` where they are measured on other writers, of another seed and
with other alphabets.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import _cnn
import numpy as np
from _measure import figure, parse_arguments, show
from utility import Target, check_ledger, population, public_population

from privet.components.compress import run as compress_run
from privet.components.compress.config import CompressConfig
from privet.components.ingest.transforms import pipeline_of
from privet.components.shared import files, layout, predictors, tasks
from privet.components.shared.storage import ClientStore
from privet.components.train.config import TrainConfig
from privet.components.train.pruning_config import PruningConfig
from privet.components.train.run import TrainingResult, run_training
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig
from privet.pipeline.dense_small import number_of_weights, widest_within
from privet.pipeline.grid import DenseSmallConfig

CNN = Path(__file__).with_name("_cnn.py")
SPARSITY = 0.8
EPSILON, DELTA = 8.0, 1e-4

VARIANTS: tuple[dict[str, Any], ...] = (
    {"quantization": "float16"},
    {"quantization": "dynamic_range"},
    {"quantization": "int8_weights"},
    {"quantization": "int8", "ranges": "synthetic", "name": "int8_synthetic"},
    {"quantization": "int8", "ranges": "public", "name": "int8_public"},
    {"clusters": 32},
    {"clusters": 16},
    {"clusters": 16, "quantization": "int8_weights"},
)
ONE_SHOT = {"sparsity": SPARSITY, "quantization": "int8_weights", "name": "one_shot_sparse80_int8"}


@dataclasses.dataclass(frozen=True)
class Data:
    """Folders of the writers: those who train and are held out, and public ones."""

    examples: str
    public: str


def main() -> None:
    """Measures and prints."""
    workloads: dict[str, Callable[[Data, str, bool], list[dict[str, Any]]]] = {
        "small": small,
        "large": large,
        "private": private,
        "step": step,
    }
    arguments = parse_arguments(__doc__.splitlines()[0], ["all", *workloads])
    chosen = workloads if arguments.workload == "all" else [arguments.workload]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        data = Data(population(folder), public_population(folder))
        for name in chosen:
            with tempfile.TemporaryDirectory() as own:
                figures += workloads[name](data, own, arguments.quick)
    show(figures, as_json=arguments.json)


def small(data: Data, folder: str, quick: bool) -> list[dict[str, Any]]:
    """Every variant of a small model, and pruning in one shot against pruning in training."""
    rounds = 20 if quick else 150
    dense = train(data, "small", rounds)
    table = tabled(dense, data, f"{folder}/dense", [*VARIANTS, ONE_SHOT])
    pruned = train(data, "small", rounds, pruning={"sparsity": SPARSITY})
    sparse = tabled(pruned, data, f"{folder}/pruned", [{"quantization": "int8_weights"}])
    name = "small CNN, no privacy"
    of_one_shot, of_pruned = table["one_shot_sparse80_int8"], sparse["int8_weights"]
    gain = of_pruned["accuracy"] - of_one_shot["accuracy"]
    return [
        *bars(name, table, "int8_public", size=4.6, loss=0.005),
        *bars(name, table, "k16_int8_weights", size=5.5, loss=0.03),
        with_table(accuracy(name, table["float32"]), table),
        with_table(accuracy(f"{name}, pruned to 80% in training", of_pruned), sparse),
        figure(
            f"{name}, pruned to 80% in training against in one shot",
            100 * gain,
            "points",
            ratio=gain / 0.15,
            ratio_to="15 points",
            bar=1.0,
        ),
    ]


def large(data: Data, folder: str, quick: bool) -> list[dict[str, Any]]:
    """A large model pruned in training, against the dense one."""
    rounds = 10 if quick else 150
    wanted: list[Mapping[str, Any]] = [
        {"quantization": "int8_weights"},
        {"quantization": "int8", "ranges": "public", "name": "int8_public"},
    ]
    dense = tabled(train(data, "large", rounds), data, f"{folder}/dense", wanted)
    result = train(data, "large", rounds, pruning={"sparsity": SPARSITY})
    sparse = tabled(result, data, f"{folder}/pruned", wanted)
    name = "large CNN pruned to 80% in training, int8_weights, no privacy"
    row = sparse["int8_weights"]
    ratio = dense["float32"]["bytes_gzip"] / row["bytes_gzip"]
    return [
        with_table(accuracy("large CNN, no privacy", dense["float32"]), dense),
        with_table(
            figure(
                f"{name}, smaller",
                row["bytes_gzip"],
                "bytes gzipped",
                ratio=ratio,
                ratio_to="the dense float32 model",
                bar=11,
            ),
            sparse,
        ),
        kept(name, row["accuracy"], dense["float32"]["accuracy"], loss=0.02),
    ]


def private(data: Data, folder: str, quick: bool) -> list[dict[str, Any]]:
    """The same under privacy, with a dense model of as many weights beside the pruned one."""
    rounds = 5 if quick else 60
    privacy = {"mechanism": "gaussian", "epsilon": EPSILON, "delta": DELTA, "clip_norm": 1.0}
    models: dict[str, dict[str, Any]] = {
        "dense": {},
        "pruned to 80% in training": {"pruning": {"sparsity": SPARSITY}},
        "dense small": {"arguments": {"units": units_left(SPARSITY)}},
    }
    figures = []
    for name, changes in models.items():
        result = train(data, "small", rounds, privacy=privacy, **changes)
        check_ledger(result.ledger, Target(0.0, epsilon=EPSILON, delta=DELTA))
        variants = [*VARIANTS, ONE_SHOT] if name == "dense" else VARIANTS
        table = tabled(result, data, f"{folder}/{name}", variants)
        label = f"small CNN at epsilon {EPSILON:g}, delta {DELTA:g}, {name}"
        item = with_table(accuracy(label, table["float32"]), table)
        figures.append({**item, "epsilon": result.ledger["epsilon"], "weights": left(result)})
    return figures


def step(data: Data, folder: str, quick: bool) -> list[dict[str, Any]]:
    """The compress step, as long as a user waits for it."""
    result = train(data, "large", 1)
    started = time.perf_counter()
    six = [*VARIANTS[:3], *VARIANTS[4:5], *VARIANTS[6:]]
    table = compressed(result, data, f"{folder}/step", six)
    seconds = time.perf_counter() - started
    name = f"the compress step, large CNN, {len(table)} variants"
    return [figure(name, seconds, "s", ratio=90 / seconds, ratio_to="90 s", bar=1.0)]


def bars(
    name: str, table: Mapping[str, Mapping[str, Any]], variant: str, *, size: float, loss: float
) -> list[dict[str, Any]]:
    """Whether a variant is so many times smaller, and loses no more than this."""
    row = table[variant]
    smaller = figure(
        f"{name}, {variant}, smaller",
        row["bytes_gzip"],
        "bytes gzipped",
        ratio=row["ratio_gzip"],
        ratio_to="float32",
        bar=size,
    )
    return [
        smaller,
        kept(f"{name}, {variant}", row["accuracy"], row["accuracy"] - row["change"], loss),
    ]


def kept(name: str, value: float, of: float, loss: float) -> dict[str, Any]:
    """Whether an accuracy is at most so much below another."""
    return figure(
        f"{name}, accuracy",
        value,
        "of 1",
        ratio=value / (of - loss),
        ratio_to=f"{of:.4f} less {100 * loss:g} points",
        bar=1.0,
    )


def accuracy(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The accuracy of a model as it was trained; there is no bar for it."""
    value = row["accuracy"]
    return figure(f"{name}, accuracy", value, "of 1", ratio=value, ratio_to="all right", bar=0)


def with_table(item: dict[str, Any], table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A figure with its table."""
    return {**item, "table": [{"variant": name, **row} for name, row in table.items()]}


def units_left(sparsity: float) -> int:
    """Units of the small model that leave a dense one as many weights as a pruned one has."""

    def weights(units: int, pruning: PruningConfig | None = None) -> int:
        shapes = [tuple(variable.shape) for variable in _cnn.small(units).trainable_variables]
        return number_of_weights(shapes, pruning)

    wanted = weights(120, PruningConfig(sparsity=sparsity))
    return widest_within(weights, wanted, DenseSmallConfig(argument="units"))


def left(result: TrainingResult) -> int:
    """Weights that are not zero."""
    return sum(int(np.count_nonzero(v.numpy())) for v in result.model.trainable_variables)


def train(
    data: Data,
    function: str,
    rounds: int,
    *,
    privacy: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    **changes: Any,
) -> TrainingResult:
    """Federated averaging; cohorts of 50, or of 300 by Poisson with privacy."""
    kind = {"kind": "poisson", "cohort_size": 300}
    config = TrainConfig.from_mapping(
        {
            "privacy": privacy or {"mechanism": "none"},
            "sampling": kind if privacy else {"kind": "fixed_size", "cohort_size": 50},
            "rounds": rounds,
            "batch_size": 20,
            "client_optimizer": {"name": "sgd", "learning_rate": 0.1},
            "server_optimizer": {"name": "sgd", "learning_rate": 1.0, "momentum": 0.9},
            "evaluate_every": 1000,
            **changes,
        }
    )
    return run_training(
        data.examples,
        str(CNN),
        function,
        config,
        0,
        lambda _: None,
        model_arguments=dict(arguments or {}),
    )


def compressed(
    result: TrainingResult, data: Data, folder: str, variants: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The report's entry of every variant, which are built in `folder`/variants."""
    model, ledger, report = (f"{folder}/{name}" for name in ("model", "ledger", "report"))
    result.model.save(model, include_optimizer=False, save_format="tf")
    files.write_json(f"{ledger}/{layout.LEDGER}", result.ledger)
    compress_run.compress(
        CompressConfig.from_mapping({"variants": list(variants)}),
        model=model,
        ledger=ledger,
        examples=data.examples,
        public=data.public,
        seed=0,
        directory=f"{folder}/variants",
        report=report,
        make_pipeline=lambda: pipeline_of(beam_arguments(BeamConfig())),
    )
    rows = files.read_json(f"{report}/{layout.COMPRESSION}")["variants"]
    return {row["name"]: row for row in rows}


def tabled(
    result: TrainingResult, data: Data, folder: str, variants: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """A row for every variant, with what is measured on held-out clients and in processes."""
    table = {}
    images, labels = held_out(data.examples)
    for name, row in compressed(result, data, folder, variants).items():
        place = f"{folder}/variants/{name}"
        predict = predictors.load_servable(place)
        scores = np.concatenate([predict({"image": part}) for part in np.array_split(images, 64)])
        table[name] = {
            "bytes": row["bytes"],
            "bytes_gzip": row["bytes_gzip"],
            "ratio_gzip": row["ratio_gzip"],
            "accuracy": tasks.mean_metrics("multiclass", scores, labels)["accuracy"],
            "servable": row["not_servable_because"] is None,
            "latency_us": row["latency_us"],
            **loading(f"{place}/model.tflite"),
        }
    for row in table.values():
        row["change"] = round(row["accuracy"] - table["float32"]["accuracy"], 4)
        row["accuracy"] = round(row["accuracy"], 4)
    return table


def held_out(examples: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of all held-out clients."""
    with ClientStore(examples, "eval") as store:
        clients = list(store.read_many(store))
    images = np.concatenate([client.features["image"] for client in clients])
    return images, np.concatenate([client.labels for client in clients])


def loading(path: str) -> dict[str, float]:
    """Of a new interpreter: milliseconds until it is ready, and memory with two batches run."""
    milliseconds, mebibytes = zip(
        *(
            json.loads(subprocess.check_output([sys.executable, "-c", _LOADING, path]))
            for _ in range(3)
        ),
        strict=True,
    )
    return {
        "load_ms": round(statistics.median(milliseconds), 2),
        "memory_mib": round(statistics.median(mebibytes), 1),
    }


_LOADING = """
import json, sys, time
import numpy as np
import psutil
from tensorflow import lite
content = open(sys.argv[1], "rb").read()
memory = psutil.Process().memory_info
before = memory().rss
started = time.perf_counter()
interpreter = lite.Interpreter(model_content=content, num_threads=1)
interpreter.allocate_tensors()
seconds = time.perf_counter() - started
(details,) = interpreter.get_input_details()
for batch in (1, 32):
    interpreter.resize_tensor_input(details["index"], (batch, *details["shape"][1:]))
    interpreter.allocate_tensors()
    interpreter.set_tensor(details["index"], np.zeros((batch, *details["shape"][1:]), "uint8"))
    interpreter.invoke()
print(json.dumps([1000 * seconds, (memory().rss - before) / 2**20]))
"""


if __name__ == "__main__":
    main()
