"""Avro: types, unions, and files that are not whole."""

import datetime
import decimal
import io
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import avro
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.shared.errors import DataError

CONFIG = IngestConfig.from_mapping({"client_id": "a", "label": {"column": "b"}, "files": "x.avro"})
ENUM = {"type": "enum", "name": "Color", "symbols": ["red", "green"]}


def portion_of(path: Path, fields: dict[str, Any], rows: list[Any], **options: Any) -> Portion:
    schema: Any = {
        "type": "record",
        "name": "Row",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }
    file = io.BytesIO()
    fastavro.writer(file, schema, rows, **options)
    path.write_bytes(file.getvalue())
    return Portion(path.name, 0, str(path))


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("long", [1, -(2**63)], pa.int64()),
        (["null", "double"], [None, 1.5], pa.float64()),
        ("bytes", [b"\xff\0", b""], pa.binary()),
        ({"type": "fixed", "name": "Two", "size": 2}, [b"ab", b"\xff\0"], pa.binary(2)),
        (ENUM, ["red", "green"], pa.string()),
        ({"type": "array", "items": ["null", "int"]}, [[1, None], []], pa.list_(pa.int32())),
        (
            {"type": "array", "items": {"type": "array", "items": "float"}},
            [[[1.5]], []],
            pa.list_(pa.list_(pa.float32())),
        ),
        (["string", "long"], ["a", 1], None),
        ({"type": "map", "values": "int"}, [{"a": 1}, {}], None),
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            [datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.UTC)],
            pa.timestamp("us", "UTC"),
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
            [decimal.Decimal("12.50"), decimal.Decimal("-1.00")],
            pa.decimal256(6, 2),
        ),
    ],
    ids=str,
)
def test_values_and_types(tmp_path: Path, kind: Any, values: list[Any], told: Any) -> None:
    fields = {"a": kind, "b": "int"}
    rows = [{"a": value, "b": 0} for value in values]
    portion = portion_of(tmp_path / "a.avro", fields, rows)
    (batch,) = avro.read(portion, CONFIG, ("a",))

    assert batch.columns == {"a": values}
    assert avro.columns(portion, CONFIG) == {"a": told, "b": pa.int32()}


def test_type_that_an_unwanted_column_defines_can_be_referred_to(tmp_path: Path) -> None:
    fields = {"first": ENUM, "second": ["null", "Color"]}
    portion = portion_of(tmp_path / "a", fields, [{"first": "red", "second": "green"}])
    (batch,) = avro.read(portion, CONFIG, ("second",))
    assert batch.columns == {"second": ["green"]}


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_rows_before_a_damaged_block_are_read(tmp_path: Path, codec: str) -> None:
    rows = [{"a": f"{row}", "b": row} for row in range(1000)]
    portion = portion_of(
        tmp_path / "a", {"a": "string", "b": "int"}, rows, codec=codec, sync_interval=500
    )
    content = Path(portion.source).read_bytes()
    Path(portion.source).write_bytes(content[: len(content) * 2 // 3])

    found: list[Any] = []
    with pytest.raises(CorruptFileError, match=r"a block is damaged or incomplete \("):
        found.extend(avro.read(portion, CONFIG, ("b",)))
    values = [value for batch in found for value in batch.columns["b"]]
    assert 400 < len(values) < 800
    assert values == list(range(len(values)))


def test_last_block_that_is_cut_within_its_count_is_missed(tmp_path: Path) -> None:
    fields = {"b": "int"}
    portion = portion_of(tmp_path / "a", fields, [{"b": row} for row in range(100)])
    whole = Path(portion.source).read_bytes()
    Path(portion.source).write_bytes(whole + b"\xc8")  # the first of the two bytes of 100
    with pytest.raises(CorruptFileError, match="a block is damaged or incomplete"):
        list(avro.read(portion, CONFIG, ("b",)))


def test_block_with_more_data_than_its_count_says_is_refused(tmp_path: Path) -> None:
    portion = portion_of(tmp_path / "a", {"b": "int"}, [{"b": 1}] * 5, codec="null")
    content = Path(portion.source).read_bytes()
    assert content.count(b"\x0a\x0a" + b"\x02" * 5) == 1  # 5 records in 5 bytes
    Path(portion.source).write_bytes(content.replace(b"\x0a\x0a\x02", b"\x08\x0a\x02"))
    with pytest.raises(CorruptFileError, match="a block holds more than its records"):
        list(avro.read(portion, CONFIG, ("b",)))


def test_compression_whose_library_is_missing_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portion = portion_of(tmp_path / "a", {"b": "int"}, [{"b": 1}])
    content = Path(portion.source).read_bytes()
    Path(portion.source).write_bytes(content.replace(b"\x08null", b"\x06lz4"))
    with pytest.raises(DataError, match="compressed with lz4, for which a library is missing") as e:
        list(avro.read(portion, CONFIG, ("b",)))
    assert not isinstance(e.value, CorruptFileError)


@pytest.mark.parametrize("content", [b"", b"Obj", b"Obj\x01", b"client,x\n1,2\n"])
def test_file_that_is_no_avro_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.avro").write_bytes(content)
    portion = Portion("a", 0, f"{tmp_path}/a.avro")
    for action in (avro.columns, lambda *given: list(avro.read(*given, ("a",)))):
        with pytest.raises(CorruptFileError, match=r"a\.avro cannot be read: it does not start as"):
            action(portion, CONFIG)


def test_file_of_other_than_records_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    fastavro.writer(file, "string", ["a"])
    (tmp_path / "a").write_bytes(file.getvalue())
    with pytest.raises(CorruptFileError, match="its schema is not a record"):
        avro.columns(Portion("a", 0, f"{tmp_path}/a"), CONFIG)
