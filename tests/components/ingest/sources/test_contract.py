"""What every source must keep to, whatever its format: same rows in, same rows out.

A new source adds its writer to CASES.
"""

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from privet.components.ingest import batches
from privet.components.ingest.batches import BATCH_ROWS
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch
from privet.components.shared.errors import DataError

Row = dict[str, Any]
WANTED = ("client", "x", "n", "text")
ROWS: list[Row] = [
    {"client": "ann", "x": 1.5, "n": 1, "text": "plain", "other": 0},
    {"client": "bob", "x": -2.25, "n": -7, "text": "comma, and", "other": 0},
    {"client": "änn", "x": 0.0, "n": 2**40, "text": 'quote " in it', "other": 0},
    {"client": "李", "x": 1e10, "n": 0, "text": "two\nlines", "other": 0},
    {"client": "eve", "x": None, "n": None, "text": None, "other": 0},
    {"client": "eve", "x": 3.5, "n": 3, "text": "\N{GRINNING FACE}", "other": 0},
]
NUMBERS: dict[str, Callable[[Any], Any]] = {"x": float, "n": int}


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def write_parquet(path: Path, rows: list[Row]) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3000)


def write_avro(path: Path, rows: list[Row]) -> None:
    import fastavro

    kinds = {"client": "string", "x": "double", "n": "long", "text": "string", "other": "int"}
    fields = [{"name": name, "type": ["null", kinds[name]]} for name in rows[0]]
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "Row", "fields": fields}, rows, "deflate")


def write_tfrecord(path: Path, rows: list[Row], example_of: Callable[[Row], bytes]) -> None:
    from privet.components.shared import tfrecord

    with path.open("wb") as file:
        for row in rows:
            tfrecord.write_frame(file, example_of(row))


def write_sequence_tfrecord(
    path: Path, rows: list[Row], example_of: Callable[[Row], bytes]
) -> None:
    """One record for each run of rows of the same client, which is the record's context."""
    import tensorflow as tf

    from privet.components.shared import tfrecord

    def features_of(row: Row) -> Any:
        return tf.train.Example.FromString(example_of(row)).features

    with path.open("wb") as file:
        for client, steps in itertools.groupby(rows, key=lambda row: row.get("client")):
            example = tf.train.SequenceExample(context=features_of({"client": client}))
            for row in steps:
                features = features_of(row).feature
                for name in sorted(row.keys() - {"client"}):
                    example.feature_lists.feature_list[name].feature.append(features[name])
            tfrecord.write_frame(file, example.SerializeToString())


def write_tff_sqlite(path: Path, rows: list[Row], example_of: Callable[[Row], bytes]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)"
        )
        values = [("train", row.get("client"), example_of(row)) for row in rows]
        connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", values)


def write_sql(path: Path, rows: list[Row]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE rows ({', '.join(rows[0])})")
        values = [tuple(row.values()) for row in rows]
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO rows VALUES ({marks})", values)


def write_python(path: Path, rows: list[Row]) -> None:
    path.with_suffix(".json").write_text(json.dumps(rows))
    path.write_text(
        "import json, pathlib\n\ndef examples():\n"
        "    yield from json.loads(pathlib.Path(__file__).with_suffix('.json').read_text())\n"
    )


FILE_CASES: list[tuple[str, Callable[..., None]]] = [
    (".csv", write_csv),
    (".jsonl", write_jsonl),
    (".ndjson", write_jsonl),
    (".parquet", write_parquet),
    (".avro", write_avro),
    (".tfrecord", write_tfrecord),
    (".sequence.tfrecord", write_sequence_tfrecord),
    (".sqlite", write_tff_sqlite),
]
CASES = [*FILE_CASES, (".sql", write_sql), (".py", write_python)]
STREAMED = [case for case in FILE_CASES if case[0] not in (".parquet", ".ndjson", ".sqlite")]
COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def case(request: pytest.FixtureRequest, example_of: Any) -> tuple[str, Callable[..., None]]:
    return _bound(request.param, example_of)


@pytest.fixture(params=FILE_CASES, ids=lambda case: case[0])
def file_case(request: pytest.FixtureRequest, example_of: Any) -> tuple[str, Callable[..., None]]:
    return _bound(request.param, example_of)


@pytest.fixture(params=STREAMED, ids=lambda case: case[0])
def streamed(request: pytest.FixtureRequest, example_of: Any) -> tuple[str, Callable[..., None]]:
    return _bound(request.param, example_of)


def _bound(case: tuple[str, Callable[..., None]], example_of: Any) -> Any:
    ending, write = case
    if write not in (write_tfrecord, write_sequence_tfrecord, write_tff_sqlite):
        return case
    return ending, lambda path, rows: write(path, rows, example_of)


def make_config(files: str | list[str], **changes: Any) -> IngestConfig:
    settings: dict[str, Any] = {"client_id": "client", "label": {"column": "n"}}
    first = files if isinstance(files, str) else files[0]
    if first.endswith(".sql"):
        settings["sql"] = {
            "url": f"sqlite:///{first}",
            "query": "SELECT * FROM rows ORDER BY rowid",
        }
    elif first.endswith(".py"):
        settings["python"] = {"module_file": first}
    else:
        settings["files"] = files
    if ".sequence." in first:
        settings["format"] = "sequence_tfrecord"
    return IngestConfig.from_mapping(settings | changes)


def read_all(config: IngestConfig, wanted: tuple[str, ...] = WANTED) -> list[batches.RowBatch]:
    portions = dispatch.find_portions(config)
    return [batch for portion in portions for batch in dispatch.read(portion, config, wanted)]


def normal(value: Any, name: str) -> Any:
    """What a value means, in a format without types too."""
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode()
    return NUMBERS.get(name, str)(value)


def rows_of(found: list[batches.RowBatch], values_of: Any) -> list[tuple[Any, ...]]:
    return [
        tuple(normal(value, name) for name, value in zip(WANTED, row, strict=True))
        for batch in found
        for row in zip(*(values_of(batch, name) for name in WANTED), strict=True)
    ]


def expected(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in WANTED) for row in rows]


def test_rows_come_out_as_they_went_in(case: Any, tmp_path: Path, values_of: Any) -> None:
    ending, write = case
    path = tmp_path / f"a{ending}"
    write(path, ROWS)
    found = read_all(make_config(str(path)))

    assert rows_of(found, values_of) == expected(ROWS)
    assert [number for batch in found for number in batch.numbers] == [1, 2, 3, 4, 5, 6]
    assert not any(batch.malformed for batch in found)


def test_only_wanted_columns_are_read(case: Any, tmp_path: Path, values_of: Any) -> None:
    ending, write = case
    path = tmp_path / f"a{ending}"
    write(path, ROWS)
    (batch,) = read_all(make_config(str(path)), ("n", "client"))

    assert set(batch.columns) == {"n", "client"}
    assert [normal(value, "n") for value in values_of(batch, "n")] == [row["n"] for row in ROWS]


def test_batches_are_bounded_and_numbered_through(
    case: Any, tmp_path: Path, values_of: Any
) -> None:
    ending, write = case
    path = tmp_path / f"a{ending}"
    rows = [{**ROWS[0], "n": number} for number in range(1, 2 * BATCH_ROWS + 11)]
    write(path, rows)
    found = read_all(make_config(str(path)))

    assert max(map(len, found)) <= BATCH_ROWS
    assert [number for batch in found for number in batch.numbers] == [row["n"] for row in rows]
    assert [n for *_, n, _ in rows_of(found, values_of)] == [row["n"] for row in rows]


def test_large_rows_make_small_batches(case: Any, tmp_path: Path, values_of: Any) -> None:
    ending, write = case
    path = tmp_path / f"a{ending}"
    rows = [{**ROWS[0], "text": f"{number}" * (1 << 20)} for number in range(10)] * 6
    write(path, rows)
    found = read_all(make_config(str(path)))

    assert max(map(len, found)) <= 17
    assert rows_of(found, values_of) == expected(rows)


def test_columns_are_told(case: Any, tmp_path: Path) -> None:
    ending, write = case
    path = tmp_path / f"a{ending}"
    write(path, ROWS)
    config = make_config(str(path))
    (portion,) = dispatch.find_portions(config)
    found = dispatch.columns(portion, config)

    assert set(found) - {"client_id", "split_name"} == {*WANTED, "other"}
    typed = ending not in (".csv", ".jsonl", ".ndjson")
    assert (found["n"] == pa.int64()) is typed


def test_missing_column_is_named_with_its_role(case: Any, tmp_path: Path) -> None:
    ending, write = case
    path = tmp_path / f"a{ending}"
    write(path, [{"x": 1.5, "text": "a"}])
    config = make_config(str(path))
    (portion,) = dispatch.find_portions(config)

    with pytest.raises(DataError) as error:
        dispatch.check_columns(portion, config, ("client", "x", "n"))
    assert f"{path} has no column client (the client id), n (the label). Its columns: " in str(
        error.value
    )


def test_several_files_and_globs_are_read_in_the_order_of_names(
    file_case: Any, tmp_path: Path, values_of: Any
) -> None:
    ending, write = file_case
    for name, client in (("b", "2"), ("a", "1"), ("c/d", "3")):
        path = tmp_path / f"{name}{ending}"
        path.parent.mkdir(exist_ok=True)
        write(path, [{**ROWS[0], "client": client}])
    config = make_config([f"{tmp_path}/*{ending}", f"{tmp_path}/**/d{ending}"])

    assert [p.name for p in dispatch.find_portions(config)] == [
        f"a{ending}",
        f"b{ending}",
        f"c/d{ending}",
    ]
    assert [row[0] for row in rows_of(read_all(config), values_of)] == ["1", "2", "3"]


@pytest.mark.parametrize("compression", COMPRESS)
def test_compressed_file_is_read_as_the_plain_one(
    streamed: Any, compression: str, tmp_path: Path, values_of: Any
) -> None:
    ending, write = streamed
    plain = tmp_path / f"a{ending}"
    write(plain, ROWS)
    path = tmp_path / f"a{ending}{compression}"
    path.write_bytes(COMPRESS[compression](plain.read_bytes()))

    assert rows_of(read_all(make_config(str(path))), values_of) == expected(ROWS)


def test_other_filesystems_of_beam_are_read(
    file_case: Any, tmp_path: Path, values_of: Any, memory_files: dict[str, bytes]
) -> None:
    ending, write = file_case
    write(tmp_path / f"a{ending}", ROWS)
    memory_files[f"memory://data/a{ending}"] = (tmp_path / f"a{ending}").read_bytes()
    config = make_config(f"memory://data/*{ending}")

    (portion,) = dispatch.find_portions(config)
    assert (portion.name, portion.source) == (f"a{ending}", f"memory://data/a{ending}")
    assert rows_of(read_all(config), values_of) == expected(ROWS)


def test_failing_filesystem_is_not_taken_for_a_damaged_file(
    file_case: Any, tmp_path: Path, memory_files: dict[str, bytes]
) -> None:
    ending, write = file_case
    write(tmp_path / f"a{ending}", [ROWS[0]] * 20_000)
    content = (tmp_path / f"a{ending}").read_bytes()
    memory_files[f"memory://failing/a{ending}"] = content
    config = make_config(f"memory://failing/*{ending}")

    with pytest.raises(DataError, match=r"reading memory://failing/a\S+ failed: ConnectionError"):
        read_all(config)


@pytest.fixture(scope="session")
def memory_files() -> Iterator[dict[str, bytes]]:
    """Files of memory://, a filesystem made here, of which only Beam knows.

    Those under memory://failing/ lose the connection after the first 100 bytes.
    """
    from apache_beam.io.filesystem import FileMetadata, FileSystem

    content: dict[str, bytes] = {}

    class FailingFile(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 100:
                raise ConnectionError("reset by peer")
            return super().read(100 if size is None or size < 0 else min(size, 100))

    class MemoryFileSystem(FileSystem):
        @classmethod
        def scheme(cls) -> str:
            return "memory"

        def has_dirs(self) -> bool:
            return False

        def _list(self, prefix: str) -> Any:
            return [self.metadata(path) for path in sorted(content) if path.startswith(prefix)]

        def metadata(self, path: str) -> Any:
            return FileMetadata(path, len(content[path]), 1.0)

        def open(self, path: str, *_: Any, **__: Any) -> Any:
            kind = FailingFile if path.startswith("memory://failing/") else io.BytesIO
            return kind(content[path])

        def exists(self, path: str) -> bool:
            return path in content

        def _unused(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        join = split = mkdirs = create = copy = rename = delete = _unused
        size = last_updated = checksum = _unused

    yield content  # meanwhile the class is alive: Beam finds it among the subclasses
    content.clear()
