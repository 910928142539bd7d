"""SQLite files of TFF's SqlClientData: what TFF writes is read, in ranges, and damage is told."""

import collections
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import tff_sqlite
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.examples import NO_EXAMPLE
from privet.components.ingest.sources.portions import Portion
from privet.components.shared import files
from privet.components.shared.errors import DataError

CONFIG = IngestConfig.from_mapping(
    {"files": "x.sqlite", "client_id": "client_id", "label": {"column": "label", "classes": 9}}
)
WANTED = ("client_id", "split_name", "x", "label")


def write(path: Path, rows: list[tuple[Any, Any, Any]], table: str = "") -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            table
            or "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
            "serialized_example_proto BLOB NOT NULL)"
        )
        connection.executemany(
            "INSERT INTO examples (split_name, client_id, serialized_example_proto) "
            "VALUES (?, ?, ?)",
            rows,
        )
    return str(path)


def read_all(path: str, drained, *names: str, wanted: tuple[str, ...] = WANTED):
    def batches():
        for portion in tff_sqlite.portions((path, "name"), CONFIG):
            yield from tff_sqlite.read(portion, CONFIG, wanted)

    return drained(batches(), *names)


@pytest.fixture
def rows(example_of):
    """Twenty examples of two clients."""
    return [
        (
            "train" if i % 2 else "test",
            "ann" if i % 3 else "bob",
            example_of({"x": [i + 0.5, -1.0], "label": i % 9}),
        )
        for i in range(20)
    ]


EXPECTED = [
    ("ann" if i % 3 else "bob", "train" if i % 2 else "test", [i + 0.5, -1.0], i % 9)
    for i in range(20)
]


def test_rows_are_the_examples_with_client_and_split(tmp_path, rows, drained):
    found = read_all(write(tmp_path / "a.sqlite", rows), drained, *WANTED)
    assert found.error is None
    assert found.numbers == list(range(1, 21))
    assert found.rows == EXPECTED


def test_what_tff_writes_is_read(tmp_path, drained):
    import tensorflow as tf
    import tensorflow_federated as tff

    clients = {"ann": 3, "bob's": 1, "eve": 2}
    path = str(tmp_path / "made" / "a.sqlite")
    tff.simulation.datasets.save_to_sql_client_data(
        list(clients),
        lambda client: tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(
                pixels=np.full((clients[client], 2, 2), 0.25, np.float32),
                label=np.arange(clients[client], dtype=np.int32),
                text=np.array([client] * clients[client]),
            )
        ),
        path,
        split_names_by_client_id={"ann": "train", "bob's": "test", "eve": "train"},
    )
    wanted = ("client_id", "split_name", "pixels", "label", "text")
    found = read_all(path, drained, *wanted, wanted=wanted)
    assert found.error is None
    assert sorted(found.rows) == sorted(
        (client, "test" if client == "bob's" else "train", [0.25] * 4, i, client.encode())
        for client, count in clients.items()
        for i in range(count)
    )


def test_columns_have_types(tmp_path, rows):
    (portion,) = tff_sqlite.portions((write(tmp_path / "a.sqlite", rows), "a"), CONFIG)
    assert tff_sqlite.columns(portion, CONFIG) == {
        "client_id": pa.string(),
        "split_name": pa.string(),
        "x": pa.list_(pa.float32(), 2),
        "label": pa.int64(),
    }


def test_a_large_file_is_cut_by_rowid_and_nothing_is_lost(tmp_path, rows, drained, monkeypatch):
    path = write(tmp_path / "a.sqlite", rows)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM examples WHERE rowid IN (1, 7)")
    monkeypatch.setattr(tff_sqlite, "PORTION_BYTES", Path(path).stat().st_size // 3)
    portions = tff_sqlite.portions((path, "a"), CONFIG)
    assert [portion.part for portion in portions] == ["2-5", "6-10", "11-15", "16-20"]
    assert [portion.first_row for portion in portions] == [1, 5, 10, 15]
    found = read_all(path, drained, *WANTED)
    assert found.numbers == [*range(2, 7), *range(8, 21)]
    assert found.rows == [EXPECTED[number - 1] for number in found.numbers]


@pytest.mark.parametrize("kind", ["view", "no rowid"])
def test_examples_without_rowids_are_counted(tmp_path, rows, drained, kind):
    if kind == "view":
        table = "CREATE TABLE kept (split_name, client_id, serialized_example_proto)"
        path = write(tmp_path / "a.sqlite", rows, table.replace("kept", "examples"))
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("ALTER TABLE examples RENAME TO kept")
            connection.execute("CREATE VIEW examples AS SELECT * FROM kept")
    else:
        path = write(
            tmp_path / "a.sqlite",
            rows,
            "CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto "
            "BLOB PRIMARY KEY) WITHOUT ROWID",
        )
    found = read_all(path, drained, *WANTED)
    assert found.numbers == list(range(1, 21))
    assert sorted(found.rows) == sorted(EXPECTED)


def test_an_empty_table_has_no_rows(tmp_path, drained):
    found = read_all(write(tmp_path / "a.sqlite", []), drained, "x")
    assert (found.rows, found.error) == ([], None)


def test_values_of_other_types_refuse_their_row_only(tmp_path, rows, drained):
    table = "CREATE TABLE examples (split_name, client_id, serialized_example_proto)"
    odd = [("train", "ann", None), ("train", "ann", "text"), ("train", "ann", b"\xff")]
    path = write(tmp_path / "a.sqlite", [rows[0], *odd, ("test", 7, rows[1][2])], table)
    found = read_all(path, drained, "client_id", "label")
    assert found.rows == [("bob", 0), (7, 1)]
    assert found.numbers == [1, 5]
    assert found.malformed == {
        2: "serialized_example_proto holds no bytes",
        3: "serialized_example_proto holds no bytes",
        4: NO_EXAMPLE,
    }


def test_a_client_id_that_is_no_text_is_given_as_bytes(tmp_path, rows, drained):
    path = write(tmp_path / "a.sqlite", rows[:1])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE examples SET client_id = CAST(x'ff41' AS TEXT)")
    assert read_all(path, drained, "client_id").rows == [(b"\xffA",)]


def test_only_a_split_is_read_when_asked(tmp_path, rows, drained):
    (portion,) = tff_sqlite.portions((write(tmp_path / "a.sqlite", rows), "a"), CONFIG)
    found = drained(tff_sqlite.read(portion, CONFIG, WANTED, split_name="train"), *WANTED)
    assert found.rows == EXPECTED[1::2]
    assert found.numbers == list(range(2, 21, 2))


def test_another_layout_is_told(tmp_path):
    path = write(
        tmp_path / "a.sqlite",
        [],
        "CREATE TABLE examples (split_name, client_id TEXT, serialized_example_proto)",
    )
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE examples RENAME COLUMN client_id TO user")
    with pytest.raises(DataError, match=r"missing: client_id.*data\.sql"):
        tff_sqlite.portions((path, "a"), CONFIG)


def test_a_file_that_is_no_database_is_told_when_it_is_read(tmp_path, drained):
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"client_id,secret\n" * 100)
    found = read_all(str(path), drained)
    assert isinstance(found.error, CorruptFileError)
    assert "SQLITE_NOTADB" in str(found.error)
    assert "secret" not in str(found.error)


def test_a_missing_file_is_told_and_not_made(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        tff_sqlite.portions((str(tmp_path / "absent.sqlite"), "a"), CONFIG)
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_busy_database_is_not_taken_for_a_damaged_one(tmp_path, rows, monkeypatch):
    path = write(tmp_path / "a.sqlite", rows)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, timeout=0.1))
    with contextlib.closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DataError, match="SQLITE_BUSY") as caught:
            tff_sqlite.portions((path, "a"), CONFIG)
    assert not isinstance(caught.value, CorruptFileError)


def test_a_file_on_another_filesystem_is_copied_to_be_read(tmp_path, rows, drained, monkeypatch):
    path = write(tmp_path / "a.sqlite", rows)
    monkeypatch.setattr(files, "is_local", lambda path: "://" not in path)
    open_read = files.open_read
    monkeypatch.setattr(files, "open_read", lambda p: open_read(p.removeprefix("memory://")))
    portions = tff_sqlite.portions((f"memory://{path}", "a"), CONFIG)
    assert portions == [Portion("a", 0, f"memory://{path}")]
    assert read_all(f"memory://{path}", drained, *WANTED).rows == EXPECTED


def test_a_truncated_file_gives_the_rows_before(tmp_path, example_of, drained):
    rows = [("train", "ann", example_of({"x": [float(i)] * 900})) for i in range(60)]
    path = Path(write(tmp_path / "a.sqlite", rows))
    content = bytearray(path.read_bytes())
    middle = len(content) // 4096 * 2 // 3 * 4096
    content[middle : middle + 3 * 4096] = bytes(3 * 4096)
    path.write_bytes(content)
    found = read_all(str(path), drained, "x", wanted=("x",))
    assert isinstance(found.error, CorruptFileError)
    assert 10 < len(found.numbers) < 60
    assert found.numbers == list(range(1, len(found.numbers) + 1))
    path.write_bytes(content[:middle])
    found = read_all(str(path), drained, "x", wanted=("x",))
    assert isinstance(found.error, CorruptFileError)


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_give_rows_or_an_error_that_names_the_file(
    tmp_path_factory, data, example_of, drained
):
    path = tmp_path_factory.mktemp("fuzz") / "a.sqlite"
    kind = data.draw(st.sampled_from(["random", "cut", "flips", "header"]))
    write(path, [("train", f"c{i}", example_of({"x": [0.5] * 90})) for i in range(40)])
    content = bytearray(path.read_bytes())
    if kind == "random":
        content = bytearray(data.draw(st.binary(max_size=300)))
    elif kind == "cut":
        del content[data.draw(st.integers(0, len(content))) :]
    else:
        highest = 200 if kind == "header" else len(content) - 1
        for place in data.draw(st.lists(st.integers(0, highest), min_size=1, max_size=8)):
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    found = read_all(str(path), drained, *WANTED)
    assert found.error is None or str(path) in str(found.error)
    numbers = [*found.numbers, *found.malformed]
    assert len(set(numbers)) == len(numbers)
    with contextlib.suppress(DataError):
        tff_sqlite.columns(Portion("a", 0, str(path)), CONFIG)
