"""TFF's data sets: a cached download is read as TFF reads it; one that is impossible is told."""

import collections
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import tff_datasets
from privet.components.shared.errors import DataError

SPLITS = {"a": "all_train", "b": "all_train", "c": "digits_only_train", "d": "all_test"}


def config_of(name: str, cache_dir: Path, split: str = "train") -> IngestConfig:
    return IngestConfig.from_mapping(
        {
            "dataset": {"name": name, "cache_dir": str(cache_dir), "split": split},
            "label": {"column": "label", "classes": 62},
        }
    )


def save(path: Path, splits: dict[str, str], dataset_of) -> None:
    """Writes what a download would have left, by TFF's own writer."""
    import tensorflow_federated as tff

    tff.simulation.datasets.save_to_sql_client_data(
        list(splits), dataset_of, str(path), split_names_by_client_id=splits
    )


@pytest.fixture(scope="module")
def emnist_cache(tmp_path_factory):
    import tensorflow as tf

    def dataset_of(client: str):
        random = np.random.default_rng(ord(client))
        images = random.random((3, 28, 28), np.float32)
        labels = random.integers(0, 62, 3, np.int32)
        return tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(label=labels, pixels=images)
        )

    folder = tmp_path_factory.mktemp("cache")
    save(folder / "emnist_all.sqlite", SPLITS, dataset_of)
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_are_those_of_tff(emnist_cache, drained, split):
    import tensorflow_federated as tff

    config = config_of("emnist", emnist_cache, split)
    wanted = ("client_id", "label", "pixels")
    (portion,) = tff_datasets.portions(None, config)
    found = drained(tff_datasets.read(portion, config, wanted), *wanted)
    assert found.error is None
    loaded = tff.simulation.datasets.emnist.load_data(
        only_digits=False, cache_dir=str(emnist_cache)
    )
    clients = loaded[("train", "test").index(split)]
    assert clients.client_ids == (["a", "b"] if split == "train" else ["d"])
    assert sorted(found.rows) == sorted(
        (client, int(example["label"]), example["pixels"].reshape(-1).tolist())
        for client in clients.client_ids
        for example in clients.create_tf_dataset_for_client(client).as_numpy_iterator()
    )


def test_columns_are_the_client_and_the_data_sets_own(emnist_cache):
    config = config_of("emnist", emnist_cache)
    (portion,) = tff_datasets.portions(None, config)
    assert tff_datasets.columns(portion, config) == {
        "client_id": pa.string(),
        "label": pa.int64(),
        "pixels": pa.list_(pa.float32(), 784),
    }


@pytest.mark.parametrize(
    ("name", "split", "split_name"),
    [
        ("shakespeare", "train", "train"),
        ("shakespeare", "test", "test"),
        ("stackoverflow", "held_out", "heldout"),
    ],
)
def test_the_other_data_sets_are_read_by_split(tmp_path, drained, name, split, split_name):
    import tensorflow as tf

    def dataset_of(client: str):
        return tf.data.Dataset.from_tensor_slices(collections.OrderedDict(snippets=[client] * 2))

    splits = {"one": "train", "two": "test", "three": "heldout"}
    save(tmp_path / f"{name}.sqlite", splits, dataset_of)
    config = config_of(name, tmp_path, split)
    (portion,) = tff_datasets.portions(None, config)
    found = drained(
        tff_datasets.read(portion, config, ("client_id", "snippets")), "client_id", "snippets"
    )
    (client,) = (client for client in splits if splits[client] == split_name)
    assert found.rows == [(client, client.encode())] * 2


@pytest.mark.parametrize("name", ["emnist", "shakespeare", "stackoverflow"])
def test_an_impossible_download_is_told_soon_and_leaves_nothing(tmp_path, name, monkeypatch):
    with socket.socket() as closed:  # a proxy at which nobody listens, once it is closed
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, proxy)
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    cache = tmp_path / "cache"
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        tff_datasets.portions(None, config_of(name, cache))
    assert time.monotonic() - start < 60
    message = str(caught.value)
    assert f"cannot download {name} of tff.simulation.datasets: URLError" in message
    assert "Connection refused" in message
    assert "needs the network once" in message
    assert "data.dataset.cache_dir" in message
    assert f"{name}.load_data(cache_dir=...)" in message
    assert list(cache.iterdir()) == []
    assert socket.getdefaulttimeout() is None


def test_an_interrupted_download_is_not_taken_for_the_data_set(tmp_path, monkeypatch):
    import tensorflow_federated as tff

    def interrupted(cache_dir: str):
        Path(cache_dir, "shakespeare.sqlite").write_bytes(b"the first half")
        raise TimeoutError("timed out")

    monkeypatch.setattr(tff.simulation.datasets.shakespeare, "load_data", interrupted)
    for _ in range(2):
        with pytest.raises(DataError, match="TimeoutError: timed out"):
            tff_datasets.portions(None, config_of("shakespeare", tmp_path))
    assert list(tmp_path.iterdir()) == []
