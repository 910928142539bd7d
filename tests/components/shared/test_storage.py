"""The client store: what goes in comes out, by id, in any order, and damage is noticed."""

import ast
import pickle
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privet.components.shared import storage
from privet.components.shared.errors import DataError, StoreError
from privet.components.shared.schema import Schema
from privet.components.shared.shard_index import build_index, load_index, read_count, write_index
from privet.components.shared.storage import ClientData, ClientStore, ShardWriter

SCHEMA = Schema.from_mapping(
    {
        "client_id": "client",
        "features": {
            "x": {"columns": ["x_0", "x_1"]},
            "count": {"columns": "count", "dtype": "int64"},
        },
        "label": {"column": "y"},
    }
)
client_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: not text.endswith("\0")
)


@st.composite
def clients(draw: Any) -> ClientData:
    examples = draw(st.integers(0, 5))

    def column(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        return draw(arrays.arrays(dtype, (examples, *shape)))

    features = {"x": column("float32", (2,)), "count": column("int64", (1,))}
    return ClientData(draw(client_ids), features, column("float32", ()))


def same(one: ClientData, other: ClientData) -> bool:
    """Equal to the last bit, NaN included."""
    return (
        one.client_id == other.client_id
        and one.labels.tobytes() == other.labels.tobytes()
        and one.features.keys() == other.features.keys()
        and all(
            one.features[name].tobytes() == other.features[name].tobytes()
            and one.features[name].shape == other.features[name].shape
            and one.features[name].dtype == other.features[name].dtype
            for name in one.features
        )
    )


def write_shard(directory: Any, records: Iterable[tuple[str, Any]]) -> int:
    """Writes the only shard of a split: client id, (number of examples, record)."""
    with ShardWriter(str(directory), 0, 1) as writer:
        for client_id, (examples, record) in records:
            writer.write(client_id, examples, record)
    return len(writer)


@given(clients())
def test_client_survives_encoding(client: ClientData) -> None:
    assert same(storage.decode_client(storage.encode_client(client), SCHEMA), client)


def test_big_endian_and_strided_arrays_are_stored_alike(client: Any) -> None:
    plain = client("a", [1, 2], dtype="float32", x=[[1, 2], [3, 4]], count=np.array([[5], [6]]))
    strange = ClientData(
        "a",
        {
            "x": np.asfortranarray(plain.features["x"]).astype(">f4"),
            "count": np.array([[5, 0], [6, 0]])[:, :1],
        },
        plain.labels[::-1][::-1],
    )

    assert storage.encode_client(strange) == storage.encode_client(plain)


def test_record_of_another_schema_is_refused(client: Any, schema_of: Any) -> None:
    record = storage.encode_client(client("ann", [0, 1], x=[[1, 2], [3, 4]]))

    with pytest.raises(StoreError, match=r"client 'ann' holds 4 values of 'x', wanted 2 .*\[3\]"):
        storage.decode_client(record, schema_of({"x": 3}, 2))
    with pytest.raises(StoreError, match=r"client 'ann' holds 0 values of 'z'"):
        storage.decode_client(record, schema_of({"z": 2}, 2))


@pytest.mark.parametrize("record", [b"", b"no record", b"\x0a\x00"])
def test_record_of_something_else_is_refused(record: bytes) -> None:
    with pytest.raises(StoreError, match="a record of the store is not a client's"):
        storage.decode_client(record, SCHEMA)


@settings(max_examples=30)
@given(st.dictionaries(client_ids, st.tuples(st.integers(0, 9), st.binary(max_size=50))))
def test_frames_and_index_survive(records: dict[str, tuple[int, bytes]]) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as directory:
        storage.write_schema(directory, SCHEMA)
        folder = storage.split_directory(directory, "train")
        written = write_shard(folder, records.items())
        store = ClientStore(directory, "train")
        assert written == len(store) == len(records)
        (path,) = Path(folder).glob("*.tfrecord")
        content = path.read_bytes()
        for reference in store.references():
            count, data = records[reference.client_id]
            start = reference.offset + 12
            assert content[start : start + reference.length] == data
            assert reference.examples == count
            assert store.find(reference.client_id) == reference
        read = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        assert list(read) == [data for _, data in records.values()]


@pytest.fixture(scope="module")
def many(client: Any) -> dict[str, ClientData]:
    """60 clients of odd names and sizes."""
    generator = np.random.default_rng(0)
    alphabet = ["a", "é", "漢字", "🙂", " ", "/", "\n", "a\0b", "-" * 300]
    return {
        name: client(
            name,
            generator.normal(size=n),
            dtype="float32",
            x=generator.normal(size=(n, 2)).astype(np.float32),
            count=generator.integers(-(2**62), 2**62, (n, 1)),
        )
        for index in range(60)
        for name, n in [(f"{alphabet[index % len(alphabet)]}{index}", 1 + index % 7)]
    }


@pytest.fixture(scope="module")
def directory(
    many: dict[str, ClientData], write_store: Any, tmp_path_factory: pytest.TempPathFactory
) -> str:
    return write_store(tmp_path_factory.mktemp("store"), SCHEMA, {"train": many.values()}, shards=4)


def test_clients_are_found_by_id_whatever_their_names(
    many: dict[str, ClientData], directory: str
) -> None:
    store = ClientStore(directory, "train")

    assert len(store) == 60
    assert {reference.client_id for reference in store.references()} == set(many)
    for name, wanted in many.items():
        assert same(store.read(store.find(name)), wanted)


def test_binary_search_finds_what_the_list_has(directory: str) -> None:
    store = ClientStore(directory, "train")

    assert [store.find(one.client_id) for one in store] == list(store)


@pytest.mark.parametrize("name", ["nobody", "a", "zzz", "a0 ", "-" * 1000])
def test_unknown_client_is_named(directory: str, name: str) -> None:
    with pytest.raises(StoreError, match="split 'train' has no client"):
        ClientStore(directory, "train").find(name)


def test_random_access_does_not_depend_on_the_order(
    many: dict[str, ClientData], directory: str
) -> None:
    store = ClientStore(directory, "train")
    references = list(store.references())
    order = np.random.default_rng(1).permutation(len(references))
    shuffled = [references[i] for i in [*order, order[0], order[0]]]

    for reference, client in zip(shuffled, store.read_many(shuffled), strict=True):
        assert same(client, many[reference.client_id])


def test_shards_together_hold_every_client_once(directory: str) -> None:
    store = ClientStore(directory, "train")
    by_shard = [list(store.references(shard)) for shard in store.shards]

    assert len(by_shard) == 4
    assert [reference for shard in by_shard for reference in shard] == list(store)


def test_shards_are_ordinary_tfrecords(many: dict[str, ClientData], directory: str) -> None:
    import tensorflow as tf

    paths = sorted(str(path) for path in Path(directory, "Split-train").glob("*.tfrecord"))
    records = list(tf.data.TFRecordDataset(paths).as_numpy_iterator())

    assert sorted(records) == sorted(storage.encode_client(client) for client in many.values())


def test_raw_column_decodes_in_tensorflow(many: dict[str, ClientData], directory: str) -> None:
    import tensorflow as tf

    record = storage.encode_client(many["a0"])
    parsed = tf.io.parse_single_example(record, {"column/x": tf.io.FixedLenFeature([], tf.string)})
    values = tf.reshape(tf.io.decode_raw(parsed["column/x"], tf.float32), [-1, 2])

    np.testing.assert_array_equal(values, many["a0"].features["x"])


def test_index_is_memory_mapped(directory: str) -> None:
    store = ClientStore(directory, "train")
    assert len(list(store.references())) == 60

    mapped = {mapping.path for mapping in psutil.Process().memory_maps()}
    assert set(store.shards) <= mapped


def test_every_damaged_byte_of_a_record_is_noticed(
    write_store: Any, client: Any, tmp_path: Path
) -> None:
    one = client("ann", [1.0], dtype="float32", x=[[1, 2]], count=np.array([[3]]))
    directory = write_store(tmp_path, SCHEMA, {"train": [one]}, shards=1)
    (path,) = (tmp_path / "Split-train").glob("*.tfrecord")
    intact = path.read_bytes()
    store = ClientStore(directory, "train")
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"record of client 'ann' at byte 0 of .* is damaged"):
            store.read(store.find("ann"))
    for length in (0, 5, len(intact) - 1):
        path.write_bytes(intact[:length])
        with pytest.raises(StoreError, match=r"client 'ann'.*damaged"):
            store.read(store.find("ann"))


def test_missing_part_of_the_store_is_noticed(
    many: dict[str, ClientData], write_store: Any, tmp_path: Path
) -> None:
    directory = write_store(tmp_path, SCHEMA, {"train": many.values()}, shards=3)
    store = ClientStore(directory, "train")
    (tmp_path / "Split-train" / "clients-00001-of-00003.tfrecord").unlink()
    with pytest.raises(StoreError, match=r"cannot read .*clients-00001-of-00003\.tfrecord"):
        list(store.read_many(store.references()))
    (tmp_path / "Split-train" / "clients-00001-of-00003.index").unlink()
    with pytest.raises(StoreError, match=r"holds 2 index files of \[3\] shards.*ingest the data"):
        ClientStore(directory, "train")


def test_missing_split_and_missing_store_are_named(directory: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no split 'test'"):
        ClientStore(directory, "test")
    with pytest.raises(StoreError, match=r"cannot read .*schema\.json"):
        ClientStore(str(tmp_path), "train")


def test_store_written_again_in_the_same_place_is_read_anew(
    write_store: Any, client: Any, tmp_path: Path
) -> None:
    def one(name: str, examples: int) -> ClientData:
        x, count = np.ones((examples, 2), np.float32), np.ones((examples, 1), np.int64)
        return client(name, [0.0] * examples, dtype="float32", x=x, count=count)

    directory = write_store(tmp_path, SCHEMA, {"train": [one("ann", 1)]}, shards=1)
    assert len(ClientStore(directory, "train")) == 1
    write_store(tmp_path, SCHEMA, {"train": [one("bob", 3), one("cy", 2)]}, shards=1)
    store = ClientStore(directory, "train")

    assert [reference.client_id for reference in store.references()] == ["bob", "cy"]
    assert [len(c) for c in store.read_many(store.references())] == [3, 2]


@pytest.mark.parametrize("name", ["", "a\0", "é" * 501])
def test_client_id_that_the_index_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"id of \d+ bytes: wanted 1 to 1000, and no NUL"):
        write_shard(tmp_path, {"ann": (1, b"record"), name: (1, b"record")}.items())
    assert list(tmp_path.iterdir()) == []


def test_shard_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path), 0, 1) as writer:
        writer.write("ann", 1, b"record")
        assert not any(path.suffix in (".tfrecord", ".index") for path in tmp_path.iterdir())
    names = {"clients-00000-of-00001.tfrecord", "clients-00000-of-00001.index"}
    assert {path.name for path in tmp_path.iterdir()} == names

    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="unpack"):
        write_shard(tmp_path, [("bob", (1, b"another record")), ("cy", ())])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_client_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="written to a shard twice"):
        write_shard(tmp_path, [(name, (1, b"record")) for name in ("ann", "bob", "ann")])
    assert list(tmp_path.iterdir()) == []


def test_index_of_other_bytes_is_refused(directory: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "store"))
    index = copy / "Split-train" / "clients-00001-of-00004.index"
    content = index.read_bytes()
    index.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=r"00001-of-00004\.index is no whole index"):
        list(ClientStore(str(copy), "train"))
    index.write_bytes(b"no index" * 100)
    with pytest.raises(StoreError, match=r"00001-of-00004\.index is no index"):
        ClientStore(str(copy), "train")


def test_store_is_a_sequence_of_references(directory: str) -> None:
    store = ClientStore(directory, "train")
    wanted = list(store.references())

    assert [store[position] for position in range(60)] == wanted
    assert store.example_counts().tolist() == [one.examples for one in wanted]
    assert [store[position] for position in np.arange(-60, 0)] == wanted
    assert store[5:50:7] == wanted[5:50:7]
    assert list(reversed(store)) == wanted[::-1]
    for position in (60, -61):
        with pytest.raises(IndexError, match=f"position {position} of the 60 clients in 'train'"):
            store[position]


def test_store_keeps_its_files_open_until_it_is_closed_and_no_longer(
    many: dict[str, ClientData], directory: str
) -> None:
    def opened() -> list[str]:
        return [file.path for file in psutil.Process().open_files() if directory in file.path]

    before = opened()
    with ClientStore(directory, "train") as store:
        for _ in range(3):
            assert len(list(store.read_many(store))) == 60
        assert len([path for path in opened() if path.endswith(".tfrecord")]) == 4
        client = store.read(store.find("a0"))
    assert opened() == before
    assert same(client, many["a0"])
    assert same(store.read(store.find("a0")), client)  # it opens them again
    del store
    assert opened() == before


def test_more_shards_than_files_that_stay_open(
    write_store: Any, many: dict[str, ClientData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_OPEN_FILES", 2)
    directory = write_store(tmp_path, SCHEMA, {"train": many.values()}, shards=5)
    with ClientStore(directory, "train") as store:
        shuffled = np.random.default_rng(0).permutation(60)
        for client in store.read_many(store[int(position)] for position in shuffled):
            assert same(client, many[client.client_id])
        found = [file.path for file in psutil.Process().open_files() if directory in file.path]
        assert len([path for path in found if path.endswith(".tfrecord")]) == 2


def test_store_is_pickled_as_where_it_is(many: dict[str, ClientData], directory: str) -> None:
    with ClientStore(directory, "train") as store:
        store.read(store[0])
        content = pickle.dumps(store)
    assert len(content) < 1000
    with pickle.loads(content) as copy:
        assert list(copy) == list(store)
        assert same(copy.read(copy.find("a0")), many["a0"])


def test_threads_share_a_store(many: dict[str, ClientData], directory: str) -> None:
    def read_all(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(60)
        read = store.read_many(store[int(position)] for position in order)
        return all(same(client, many[client.client_id]) for client in read)

    with ClientStore(directory, "train") as store, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read_all, range(16)))


def test_images_come_back_without_a_copy(write_store: Any, tmp_path: Path) -> None:
    schema = Schema.from_mapping(
        {
            "client_id": "client",
            "features": {"image": {"columns": "image", "dtype": "uint8", "shape": [4, 3, 2]}},
            "label": {"column": "y", "classes": 3},
        }
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 2), np.uint8)
    one = ClientData("ann", {"image": images}, np.arange(5) % 3)
    with ClientStore(write_store(tmp_path, schema, {"train": [one]}, shards=1), "train") as store:
        read = store.read(store[0])

    assert same(read, one)
    assert not read.features["image"].flags.owndata


def test_empty_shard_is_a_store_without_clients(tmp_path: Path, write_store: Any) -> None:
    store = ClientStore(write_store(tmp_path, SCHEMA, {"train": []}, shards=2), "train")

    assert len(store) == 0
    assert list(store.references()) == []
    with pytest.raises(StoreError, match="no client 'ann'"):
        store.find("ann")


def test_hash_is_the_same_forever() -> None:
    # Another value would move every client to another shard, split and order.
    assert storage.stable_hash("split", 0, "ann") == 15247923307478362467


def test_clients_spread_evenly_over_shards() -> None:
    counts = np.bincount([storage.shard_of(f"client-{i}", 8) for i in range(8000)], minlength=8)

    assert np.abs(counts - 1000).max() < 6 * np.sqrt(8000 / 8 * 7 / 8)


def test_index_is_read_without_pythons_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ast.parse fails now and then in one thread while another one, as TensorFlow's, is in it."""
    index = build_index([b"b", b"aa"], [0, 9], [9, 7], [1, 2])
    path = str(tmp_path / "a.index")
    write_index(path, index)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ast.parse was called")

    monkeypatch.setattr(ast, "parse", refuse)
    assert read_count(path) == 2
    assert load_index(path).tolist() == [(b"aa", 9, 7, 2), (b"b", 0, 9, 1)]
    np.testing.assert_array_equal(load_index(path), index)
