"""Reading rows out of CSV and Parquet files."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from privet.components.ingest import sources
from privet.components.shared.errors import DataError


def test_pattern_without_a_file_says_where_relative_paths_start(
    config_of: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").touch()
    config = config_of([f"{tmp_path}/a.csv", f"{tmp_path}/b*.csv"])

    with pytest.raises(DataError) as error:
        sources.find_files(config)
    assert str(error.value) == (
        f"no file matches data.files='{tmp_path}/b*.csv'. Check the path (a relative one starts "
        "at the configuration file's folder) and that the data have been written."
    )


def test_file_named_twice_is_read_once(config_of: Any, tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).touch()
    config = config_of([f"{tmp_path}/*.csv", f"{tmp_path}/a.csv"])

    assert sources.find_files(config) == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]


def test_format_is_configured_or_the_ending(config_of: Any) -> None:
    assert sources.file_format("a.csv", config_of("x")) == "csv"
    assert sources.file_format("a.parquet", config_of("x")) == "parquet"
    assert sources.file_format("a.csv", config_of("x", format="parquet")) == "parquet"
    with pytest.raises(DataError, match=r"format of a\.txt: set data.format to csv or parquet"):
        sources.file_format("a.txt", config_of("x"))


def test_missing_columns_are_named_with_their_role(
    config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    without = {k: v for k, v in row("ann").items() if k not in ("client", "label", "x_1")}
    path = str(write_csv(tmp_path / "a.csv", [without]))

    with pytest.raises(DataError) as error:
        sources.check_columns(path, config_of(path))
    assert str(error.value) == (
        f"{path} has no column client (the client id), x_1, label (the label). "
        "Its columns: split, x_0, count. Correct the names under data.client_id, data.features, "
        "data.label or data.split.column."
    )


def test_many_missing_columns_are_counted(config_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{i}" for i in range(20)) + "\n")
    config = config_of(str(path), features={"x": {"columns": "pixel_{0..63}"}})

    with pytest.raises(DataError, match=r"pixel_3 and 62 more. Its columns: c0, .*, c7, …\."):
        sources.check_columns(str(path), config)


def test_empty_file_has_no_column(config_of: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"has no column client \(the client id\)"):
        sources.check_columns(f"{tmp_path}/a.csv", config_of("x"))


def test_rows_are_numbered_from_one_after_the_header(config_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('client,x\nann,1\n"b,\nob",2\nshort\n')
    rows = list(sources.read_rows(str(path), config_of("x")))

    assert rows == [
        (1, {"client": "ann", "x": "1"}),
        (2, {"client": "b,\nob", "x": "2"}),
        (3, {"client": "short", "x": None}),
    ]


def test_byte_order_mark_is_not_part_of_the_first_column(config_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("client,x\nänn,1\n".encode("utf-8-sig"))

    assert list(sources.read_rows(str(path), config_of("x"))) == [(1, {"client": "änn", "x": "1"})]


@pytest.mark.parametrize("content", [b"client,x\n\xff\xfe,1\n", b"client,x\nann," + b"1" * 200_000])
def test_file_that_is_no_csv_is_refused_by_name(
    config_of: Any, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"a\.csv is not a CSV file in UTF-8"):
        list(sources.read_rows(str(path), config_of("x")))


def test_parquet_keeps_types_and_reads_only_what_is_wanted(
    config_of: Any, row: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.parquet")
    table = pa.Table.from_pylist([row("ann", other="x"), row("bob", x_0=None, other="y")])
    pyarrow.parquet.write_table(table, path)
    config = config_of(path)
    sources.check_columns(path, config)

    assert list(sources.read_rows(path, config)) == [(1, row("ann")), (2, row("bob", x_0=None))]


def test_parquet_is_read_batch_after_batch(config_of: Any, row: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    table = pa.Table.from_pylist([row(f"c{i}") for i in range(10_000)])
    pyarrow.parquet.write_table(table, path, row_group_size=3000)
    rows = list(sources.read_rows(path, config_of(path)))

    assert [number for number, _ in rows] == list(range(1, 10_001))
    assert rows[9999][1]["client"] == "c9999"


def test_file_that_is_no_parquet_is_refused_by_name(config_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("client,x\n")

    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file"):
        sources.check_columns(str(path), config_of("x"))
