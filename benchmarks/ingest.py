"""Ingestion: speed against a bare reader-writer loop, cohort reads against TFF, and memory.

    python benchmarks/ingest.py [--workload images|cohort|many|hot|handwriting] [--quick] [--json]

- images: 3,400 clients x 200 examples of 28x28 uint8 (534 MB) from Parquet, rows in random order,
  to the store. The bare loop reads the same file with pyarrow and writes the same bytes as
  TFRecords of 200 rows in the order in which they come: no check, no grouping, no index.
- cohort: 50 random clients x 100 examples of 28x28 out of 3,400, from the store and from TFF's
  SqlClientData, both to NumPy arrays; warm.
- many: 1,000,000 clients x 5 rows of 16 floats, and opening the index of the result.
- hot: one client with 2,000,000 rows among 1,000 of 100 rows.
- handwriting: the synthetic generator of examples/handwriting, images written as Parquet.

Peak memory is that of a process that does nothing else.
"""

import multiprocessing
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from _measure import figure, interleaved, parse_arguments, show
from _store import ingest

from privet.components.ingest.config import IngestConfig
from privet.components.shared.storage import ClientStore
from privet.components.shared.tfrecord import write_frame

PIXELS = 28 * 28
IMAGE = {"image": {"columns": "image", "dtype": "uint8", "shape": [28, 28]}}
FLOATS = {"x": {"columns": "x", "shape": [16]}}


def main() -> None:
    """Measures and prints."""
    workloads: dict[str, Callable[[Path, bool], list[dict[str, Any]]]] = {
        "images": images,
        "cohort": cohort,
        "many": many,
        "hot": hot,
        "handwriting": handwriting,
    }
    arguments = parse_arguments(__doc__.splitlines()[0], ["all", *workloads])
    chosen = workloads if arguments.workload == "all" else [arguments.workload]
    figures = []
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            figures += workloads[name](Path(folder), arguments.quick)
    show(figures, as_json=arguments.json)


def images(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Throughput and memory."""
    clients, repeats = (340, 1) if quick else (3400, 3)
    path = write_images(folder / "images.parquet", clients, 200)
    data = config(path, IMAGE, classes=62)
    megabytes = clients * 200 * PIXELS / 1e6

    def to_store() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        ingest(data, folder / "out")

    seconds = interleaved(
        {"ingest": to_store, "bare": lambda: copy_bare(path, folder / "bare.tfrecord")}, repeats
    )
    speed = megabytes / seconds["ingest"]
    peak = peak_memory(data, folder / "alone")
    name = f"{clients} clients x 200 images of 28x28 from Parquet"
    return [
        figure(name, speed, "MB/s", ratio=speed / 60, ratio_to="60 MB/s", bar=1.0),
        figure(
            name,
            speed,
            "MB/s",
            ratio=seconds["bare"] / seconds["ingest"],
            ratio_to="a bare reader-writer loop",
            bar=0.4,
        ),
        memory(name, peak, 2048),
    ]


def cohort(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Reading a random cohort."""
    from tensorflow_federated.python.simulation.datasets.sql_client_data import SqlClientData

    from privet.components.ingest.export.clients import export_clients

    clients = 340 if quick else 3400
    path = write_images(folder / "images.parquet", clients, 100)
    examples = ingest(config(path, IMAGE, classes=62), folder)
    database = str(folder / "clients.sqlite")
    export_clients(examples, ["train"], database, "tff_sqlite")
    store, peer = ClientStore(examples, "train"), tff_client_data(SqlClientData, database)
    generator = np.random.default_rng(0)

    def chosen() -> list[int]:
        return generator.choice(len(store), 50, replace=False).tolist()

    def read_store() -> int:
        read = store.read_many(store[position] for position in chosen())
        return sum(client.features["image"].nbytes for client in read)

    def read_peer() -> int:
        total = 0
        for position in chosen():
            dataset = peer.create_tf_dataset_for_client(peer.client_ids[position])
            for batch in dataset.batch(200).as_numpy_iterator():
                total += batch["image"].nbytes
        return total

    assert read_store() == 50 * 100 * PIXELS
    assert read_peer() % (50 * 100 * PIXELS) == 0
    seconds = interleaved({"store": read_store, "tff": read_peer}, 5 if quick else 21)
    milliseconds = 1000 * seconds["store"]
    name = "a cohort of 50 clients x 100 images of 28x28"
    return [
        figure(name, milliseconds, "ms", ratio=10 / milliseconds, ratio_to="10 ms", bar=1.0),
        figure(
            name,
            milliseconds,
            "ms",
            ratio=seconds["tff"] / seconds["store"],
            ratio_to="TFF's SqlClientData",
            bar=3.0,
        ),
    ]


def many(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Many small clients, in random order of rows."""
    clients = 50_000 if quick else 1_000_000
    owners = np.random.default_rng(0).permutation(np.repeat(np.arange(clients), 5))
    path = write_floats(folder / "many.parquet", owners)
    started = time.perf_counter()
    peak = peak_memory(config(path, FLOATS, classes=2), folder)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    store = ClientStore(str(folder / "store"), "train")
    assert store[len(store) // 2].examples == 5
    opening = time.perf_counter() - started
    name = f"{clients:,} clients x 5 rows of 16 floats"
    rate = clients / seconds
    return [
        figure(name, rate, "clients/s", ratio=rate / 5000, ratio_to="5,000 clients/s", bar=1.0),
        memory(name, peak, 4096),
        figure(
            f"opening the index of {len(store):,} clients",
            1000 * opening,
            "ms",
            ratio=1 / opening,
            ratio_to="1 s",
            bar=1.0,
        ),
    ]


def hot(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """One client that is nearly everywhere."""
    rows = 100_000 if quick else 2_000_000
    owners = np.concatenate([np.zeros(rows, int), np.repeat(np.arange(1, 1001), 100)])
    owners = np.random.default_rng(0).permutation(owners)
    path = write_floats(folder / "hot.parquet", owners)
    data = config(path, FLOATS, classes=2, max_examples_per_client=100)
    return [memory(f"a client of {rows:,} rows among 1,000", peak_memory(data, folder), 2048)]


def handwriting(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """The generator of the synthetic population."""
    import subprocess
    import sys

    script = Path(__file__).parents[1] / "examples" / "handwriting" / "make_data.py"
    writers = 100 if quick else 1000
    options = ["--writers", str(writers), "--held-out", "0", "--output", str(folder)]
    started = time.perf_counter()
    subprocess.run([sys.executable, str(script), *options], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    count = sum(pa.parquet.ParquetFile(one).metadata.num_rows for one in folder.glob("*.parquet"))
    rate = count / seconds
    name = "synthetic handwriting, start-up included"
    return [figure(name, rate, "images/s", ratio=rate / 10_000, ratio_to="10,000/s", bar=1.0)]


def config(path: Path, features: dict[str, Any], *, classes: int, **more: Any) -> IngestConfig:
    """Ingestion of one file."""
    label = {"column": "label", "classes": classes}
    values = {"files": str(path), "client_id": "client", "features": features, "label": label}
    return IngestConfig.from_mapping({**values, **more})


def write_images(path: Path, clients: int, examples: int) -> Path:
    """Images of random pixels, uncompressed; the clients' rows are mixed."""
    generator = np.random.default_rng(0)
    owners = generator.permutation(np.repeat(np.arange(clients), examples))

    def column(count: int) -> pa.Array:
        pixels = generator.integers(0, 256, (count, PIXELS), dtype=np.uint8)
        return pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(PIXELS), count, [None, pa.py_buffer(pixels)]
        )

    return write_rows(path, owners, "image", column, classes=62, group=10_000)


def write_floats(path: Path, owners: np.ndarray) -> Path:
    """Rows of 16 floats for the owners."""
    generator = np.random.default_rng(1)

    def column(count: int) -> pa.Array:
        values = pa.array(generator.normal(size=count * 16).astype(np.float32))
        return pa.FixedSizeListArray.from_arrays(values, 16)

    return write_rows(path, owners, "x", column, classes=2, group=100_000)


def write_rows(
    path: Path,
    owners: np.ndarray,
    name: str,
    column: Callable[[int], pa.Array],
    *,
    classes: int,
    group: int,
) -> Path:
    """Writes a Parquet file of client, a feature column and label, a row group at a time."""
    generator = np.random.default_rng(2)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(owners), group):
            part = owners[start : start + group]
            labels = generator.integers(0, classes, len(part))
            clients = [f"client-{owner}" for owner in part]
            yield pa.RecordBatch.from_pydict(
                {"client": clients, name: column(len(part)), "label": labels}
            )

    found = batches()
    first = next(found)
    with pa.parquet.ParquetWriter(path, first.schema, compression="none") as writer:
        writer.write_batch(first)
        for batch in found:
            writer.write_batch(batch)
    return path


def copy_bare(path: Path, output: Path) -> None:
    """Reads a Parquet file of images and writes their bytes as TFRecords of 200 rows."""
    with output.open("wb") as file:
        for batch in pa.parquet.ParquetFile(path).iter_batches(batch_size=200):
            write_frame(file, batch.column("image").buffers()[-1].to_pybytes())


def tff_client_data(client_data: type, database: str) -> Any:
    """TFF's view of an exported store."""
    import tensorflow as tf

    features = {
        "image": tf.io.FixedLenFeature([28, 28], tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    raw = client_data(database, "train")
    return raw.preprocess(
        lambda dataset: dataset.map(lambda one: tf.io.parse_single_example(one, features))
    )


def peak_memory(data: IngestConfig, folder: Path) -> float:
    """MiB that a new process needs for an ingestion."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_ingest_alone, args=(data, folder, sender))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"ingestion failed in a process of its own: exit {process.exitcode}")
    return receiver.recv() / 1024


def _ingest_alone(data: IngestConfig, folder: Path, sender: Any) -> None:
    ingest(data, folder)
    sender.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def memory(name: str, peak: float, limit: int) -> dict[str, Any]:
    """Peak memory against its limit."""
    return figure(
        f"peak memory, {name}",
        peak,
        "MiB",
        ratio=limit / peak,
        ratio_to=f"the limit of {limit} MiB",
        bar=1.0,
    )


if __name__ == "__main__":
    main()
