"""Damaged files: the rows before the damage, then an error that names the file; nothing else."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch
from privet.components.shared.errors import DataError

WANTED = ("client", "x", "pixels", "label")
ROWS = 300


def csv_content() -> bytes:
    rows = (f'"client {row % 7}",{row / 4},"{"1 2 " * 5}\nü",{row % 3}\n' for row in range(ROWS))
    return ("client,x,pixels,label\n" + "".join(rows)).encode()


def jsonl_content() -> bytes:
    rows = (
        f'{{"client": "c{row % 7}", "x": {row / 4}, "pixels": [1, 2, 3], "label": {row % 3}}}\n'
        for row in range(ROWS)
    )
    return "".join(rows).encode()


def parquet_content() -> bytes:
    table = pa.table(
        {
            "client": pa.array([f"c{row % 7}" for row in range(ROWS)]).dictionary_encode(),
            "x": [row / 4 if row % 5 else None for row in range(ROWS)],
            "pixels": pa.array([[row % 250] * 9 for row in range(ROWS)], pa.list_(pa.uint8(), 9)),
            "label": [row % 3 for row in range(ROWS)],
        }
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, row_group_size=100, write_page_checksum=True)
    return file.getvalue()


def avro_content(codec: str = "deflate") -> bytes:
    import fastavro

    kinds: dict[str, Any] = {
        "client": "string",
        "x": ["null", "double"],
        "pixels": {"type": "array", "items": "int"},
        "label": {"type": "enum", "name": "Label", "symbols": ["a", "b", "c"]},
    }
    schema: Any = {
        "type": "record",
        "name": "Row",
        "fields": [{"name": name, "type": kind} for name, kind in kinds.items()],
    }
    rows = (
        {"client": f"c{row % 7}", "x": row / 4, "pixels": [1, row], "label": "abc"[row % 3]}
        for row in range(ROWS)
    )
    file = io.BytesIO()
    fastavro.writer(file, schema, rows, codec, sync_interval=500)
    return file.getvalue()


CONTENTS: dict[str, Callable[[], bytes]] = {
    ".csv": csv_content,
    ".csv.gz": lambda: gzip.compress(csv_content()),
    ".csv.zst": lambda: pa.compress(csv_content(), "zstd", asbytes=True),
    ".jsonl": jsonl_content,
    ".jsonl.gz": lambda: gzip.compress(jsonl_content()),
    ".parquet": parquet_content,
    ".avro": avro_content,
    "-plain.avro": lambda: avro_content("null"),
    ".avro.gz": lambda: gzip.compress(avro_content("null")),
}
DETECTED = (".csv.gz", ".jsonl.gz", ".avro", ".avro.gz", "-plain.avro", ".parquet")
"""A missing end always shows in these; in plain text it cannot between two lines."""


@pytest.fixture(params=CONTENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def content_of(kind: str) -> bytes:
    if kind not in _CONTENT:
        _CONTENT[kind] = CONTENTS[kind]()
    return _CONTENT[kind]


_CONTENT: dict[str, bytes] = {}


def outcome(folder: Path, kind: str, content: bytes) -> tuple[int, DataError | None]:
    """How many rows were read, good and malformed, and the error after them."""
    path = folder / f"a{kind}"
    path.write_bytes(content)
    config = IngestConfig.from_mapping(
        {"client_id": "client", "label": {"column": "label"}, "files": str(path)}
    )
    numbers: list[int] = []
    error: DataError | None = None
    try:
        for portion in dispatch.find_portions(config):
            for batch in dispatch.read(portion, config, WANTED):
                numbers += batch.numbers.tolist() + [row.number for row in batch.malformed]
                for column in batch.columns.values():
                    values = column.to_pylist() if isinstance(column, pa.Array) else column
                    assert len(values) == len(batch)
            dispatch.check_columns(portion, config, WANTED)
    except DataError as failure:
        error = failure
    assert error is None or str(path) in str(error)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    return len(numbers), error


def test_whole_file_is_read(kind: str, folder: Path) -> None:
    assert outcome(folder, kind, content_of(kind)) == (ROWS, None)


FUZZED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZED
@given(part=st.floats(0, 1, exclude_max=True))
def test_cut_file_gives_its_first_rows_then_an_error(kind: str, folder: Path, part: float) -> None:
    content = content_of(kind)
    cut = content[: int(part * len(content))]
    rows, error = outcome(folder, kind, cut)

    assert rows <= ROWS
    if kind in DETECTED and cut and error is None:
        assert kind.endswith(".avro"), "only an Avro file may end early: after any block"
        assert rows < ROWS


@FUZZED
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1))
def test_flipped_bits_give_rows_or_an_error(
    kind: str, folder: Path, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(content_of(kind))
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    outcome(folder, kind, bytes(content))


@FUZZED
@given(content=st.binary(max_size=2000))
@example(b"")
@example(b"\n")
@example(b"\0" * 100)
@example(b"\xff\xfec\0l\0i\0e\0n\0t\0\n\0")
@example(b'"' * 101)
def test_any_bytes_give_rows_or_an_error(kind: str, folder: Path, content: bytes) -> None:
    outcome(folder, kind, content)
    outcome(folder, kind, content_of(kind)[:400] + content)
