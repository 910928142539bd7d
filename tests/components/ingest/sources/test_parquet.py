"""Parquet: types pass as they are, files are cut at row groups, batches are bounded."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import parquet
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.shared.errors import DataError

CONFIG = IngestConfig.from_mapping(
    {"client_id": "a", "label": {"column": "b"}, "files": "x.parquet"}
)


def write(path: Path, table: pa.Table, **options: Any) -> tuple[str, str]:
    pyarrow.parquet.write_table(table, path, **options)
    return str(path), path.name


def read(source: tuple[str, str], *wanted: str) -> list[Any]:
    portions = parquet.portions(source, CONFIG)
    return [batch for portion in portions for batch in parquet.read(portion, CONFIG, wanted)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], None, [3]], pa.list_(pa.int16())),
        pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.uint8(), 2)),
        pa.array([[[1, 2]], [], [[3], [4]]], pa.list_(pa.list_(pa.float32()))),
        pa.array([b"\xff\0", None, b""], pa.binary()),
        pa.array([b"ab", b"cd", None], pa.binary(2)),
        pa.array(["a", None, "a"]).dictionary_encode(),
        pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")], pa.decimal128(5, 2)),
        pa.array([datetime.datetime(2024, 2, 29), None, None], pa.timestamp("us", "UTC")),
        pa.array(["a", None, "ü"], pa.large_string()),
        pa.array([True, None, False]),
        pa.array([1.5, float("nan"), None], pa.float16()),
    ],
    ids=lambda column: str(column.type),
)
def test_types_pass_as_they_are(tmp_path: Path, column: pa.Array) -> None:
    source = write(tmp_path / "a.parquet", pa.table({"a": column, "b": [0, 1, 2]}))
    (batch,) = read(source, "a")

    assert batch.columns["a"].type == column.type
    assert str(batch.columns["a"].to_pylist()) == str(column.to_pylist())  # nan is not itself
    (portion,) = parquet.portions(source, CONFIG)
    assert parquet.columns(portion, CONFIG) == {"a": column.type, "b": pa.int64()}


def test_missing_value_among_fixed_size_lists_is_no_damage(tmp_path: Path) -> None:
    """pyarrow 25 cannot read it; when it can, this test says so."""
    column = pa.array([[1, 2], None], pa.list_(pa.uint8(), 2))
    source = write(tmp_path / "a.parquet", pa.table({"a": column}))
    with pytest.raises(DataError, match="a missing value in a column of fixed-size lists") as error:
        read(source, "a")
    assert not isinstance(error.value, CorruptFileError)


def test_large_file_is_cut_at_row_groups_whose_rows_are_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_PORTION", 3000)
    table = pa.table({"a": np.arange(1, 1001), "b": np.random.default_rng(0).random(1000)})
    source = write(tmp_path / "a.parquet", table, row_group_size=100, use_dictionary=False)
    portions = parquet.portions(source, CONFIG)

    assert [(portion.part, portion.first_row) for portion in portions] == [
        ("0-1", 0),
        ("2-3", 200),
        ("4-5", 400),
        ("6-7", 600),
        ("8-9", 800),
    ]
    for batch in read(source, "a"):
        assert batch.columns["a"].to_pylist() == batch.numbers.tolist()
    assert sum(map(len, read(source, "a"))) == 1000


def test_batches_stay_small_where_encoding_hides_how_large_rows_are(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(["x" * (1 << 20)] * 500), "b": [0] * 500})
    path, name = write(tmp_path / "a.parquet", table)
    assert Path(path).stat().st_size < 1 << 20  # one dictionary entry
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()

    peaks = []
    for batch in read_one_by_one((path, name)):
        peaks.append(pool.bytes_allocated() - before)
        assert len(batch) <= 16
    assert max(peaks) < 100 << 20


def read_one_by_one(source: tuple[str, str]) -> Any:
    (portion,) = parquet.portions(source, CONFIG)
    return parquet.read(portion, CONFIG, ("a",))


def test_strings_that_are_not_utf8_are_refused_when_read(tmp_path: Path) -> None:
    for kind in (lambda strings: strings, lambda strings: strings.dictionary_encode()):
        strings = kind(pa.array([b"ok", b"\xff\xfe"]).view(pa.string()))
        source = write(tmp_path / "a.parquet", pa.table({"a": strings}))
        with pytest.raises(CorruptFileError, match="it is not text in UTF-8"):
            read(source, "a")


def test_column_names_with_dots_are_no_paths(tmp_path: Path) -> None:
    table = pa.table({"a.b": [1], "a": pa.array([{"b": 2}])})
    (batch,) = read(write(tmp_path / "a.parquet", table), "a.b")
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {"a.b": [1]}


def test_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(DataError, match=r"a\.parquet has more than one column a"):
        read(write(tmp_path / "a.parquet", table), "a")


def test_row_groups_before_a_damaged_one_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": np.random.default_rng(0).random(30_000)})
    path, name = write(
        tmp_path / "a.parquet", table, row_group_size=10_000, write_page_checksum=True
    )
    content = bytearray(Path(path).read_bytes())
    content[len(content) * 8 // 10] ^= 1  # within the third row group
    Path(path).write_bytes(content)

    found: list[Any] = []
    with pytest.raises(CorruptFileError, match="its data are damaged"):
        found.extend(read_one_by_one((path, name)))
    assert sum(map(len, found)) >= 16_384


@pytest.mark.parametrize("content", [b"", b"PAR1", b"client,x\n", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_file_that_is_no_parquet_is_a_portion_and_refused_when_read(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    (portion,) = parquet.portions((f"{tmp_path}/a.parquet", "a.parquet"), CONFIG)
    for action in (parquet.columns, lambda *given: list(parquet.read(*given, ("a",)))):
        with pytest.raises(CorruptFileError, match=r"a\.parquet cannot be read: it is "):
            action(portion, CONFIG)


def test_file_without_rows_has_none(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", pa.table({"a": pa.array([], pa.int64())}))
    assert read(source, "a") == []
