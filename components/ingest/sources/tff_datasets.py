"""The data sets of tff.simulation.datasets: one row per example.

TFF downloads a SQLite file of its SqlClientData on first use. It is read directly: through TFF's
own ClientData each client would cost a query that scans the file.
"""

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import DatasetConfig, IngestConfig
from privet.components.ingest.sources import tff_sqlite
from privet.components.ingest.sources.portions import Portion
from privet.components.shared.errors import DataError

_FILES = {
    "emnist": "emnist_all.sqlite",
    "shakespeare": "shakespeare.sqlite",
    "stackoverflow": "stackoverflow.sqlite",
}
"""What TFF calls its downloads (in the cache_dir of load_data)."""

_SPLITS = {
    ("emnist", "train"): "all_train",
    ("emnist", "test"): "all_test",
    ("stackoverflow", "held_out"): "heldout",
}
"""What the split_name of a part is, where it is not the part's own name."""

STALL_SECONDS = 60.0
"""How long a download may stand still before it is given up."""


def portions(source: None, config: IngestConfig) -> list[Portion]:
    """Ranges of rows of the downloaded file.

    Raises:
      DataError: it is not there and cannot be downloaded.
    """
    dataset = _dataset(config)
    return tff_sqlite.portions((str(_downloaded(dataset)), dataset.name), config)


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """client_id and the data set's own columns."""
    found = tff_sqlite.columns(portion, config)
    del found[tff_sqlite.SPLIT_NAME]
    return found


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows of a portion that belong to the configured part of the data set."""
    dataset = _dataset(config)
    split_name = _SPLITS.get((dataset.name, dataset.split), dataset.split)
    return tff_sqlite.read(portion, config, wanted, split_name)


def _dataset(config: IngestConfig) -> DatasetConfig:
    assert config.dataset is not None  # or another source would be asked
    return config.dataset


def _downloaded(dataset: DatasetConfig) -> Path:
    """The data set's file, downloaded if it is not there.

    TFF would write it in place, and take what an interrupted download left for the whole; so it
    downloads into a folder of its own.
    """
    folder = Path(dataset.cache_dir or "~/.tff").expanduser()
    path = folder / _FILES[dataset.name]
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
            _download(dataset.name, temporary)
            Path(temporary, path.name).replace(path)
    except Exception as error:  # of the network, the disk or the content
        raise DataError(
            f"cannot download {dataset.name} of tff.simulation.datasets: {type(error).__name__}: "
            f"{error}. It needs the network once. Without it, call tff.simulation.datasets."
            f"{dataset.name}.load_data(cache_dir=...) on a machine that has it, copy "
            f"{path.name} from there into a folder here and name that in data.dataset.cache_dir "
            f"(looked for now: {path}); or use data.files."
        ) from error
    return path


def _download(name: str, folder: str) -> None:
    import tensorflow_federated as tff

    datasets = tff.simulation.datasets
    with _stall_timeout(STALL_SECONDS):
        if name == "emnist":
            datasets.emnist.load_data(only_digits=False, cache_dir=folder)
        elif name == "shakespeare":
            datasets.shakespeare.load_data(cache_dir=folder)
        else:
            datasets.stackoverflow.load_data(cache_dir=folder)


@contextlib.contextmanager
def _stall_timeout(seconds: float) -> Iterator[None]:
    """TFF opens its connections without a timeout; this is the only place to set one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
