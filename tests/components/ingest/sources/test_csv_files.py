"""CSV: what a row is, which number it has, and which files are refused."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from privet.components.ingest.batches import Malformed, RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import csv_files
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.shared.errors import DataError


def make_config(**changes: Any) -> IngestConfig:
    settings = {"client_id": "a", "label": {"column": "b"}, "files": "x"}
    return IngestConfig.from_mapping(settings | changes)


def read(path: Path, content: bytes, *wanted: str, **changes: Any) -> list[RowBatch]:
    path.write_bytes(content)
    portion = Portion(path.name, 0, str(path))
    return list(csv_files.read(portion, make_config(**changes), wanted or ("a", "b")))


def rows(found: list[RowBatch]) -> list[tuple[Any, ...]]:
    """(number, value of each column) of every good row."""
    return [
        row
        for batch in found
        for row in zip(
            batch.numbers.tolist(),
            *(column.to_pylist() for column in batch.columns.values()),
            strict=True,
        )
    ]


def malformed(found: list[RowBatch]) -> list[Malformed]:
    return [row for batch in found for row in batch.malformed]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n3,4\n", [(1, "1", "2"), (2, "3", "4")]),
        (b"a,b\n1,2\n3,4", [(1, "1", "2"), (2, "3", "4")]),
        (b"a,b\r\n1,2\r\n3,4\r\n", [(1, "1", "2"), (2, "3", "4")]),
        (b"a,b\r1,2\r3,4\r", [(1, "1", "2"), (2, "3", "4")]),
        (b"\xef\xbb\xbfa,b\n1,2\n", [(1, "1", "2")]),
        (b"\n\na,b\n\n1,2\n\n\n3,4\n\n", [(1, "1", "2"), (2, "3", "4")]),
        (b'a,b\n"1\n,""x""",2\n3,4\n', [(1, '1\n,"x"', "2"), (2, "3", "4")]),
        (b'"a","b"\n,2\n"",4\n', [(1, None, "2"), (2, None, "4")]),
        (b"a,b\n", []),
        (b"a,b", []),
    ],
    ids=str,
)
def test_rows(tmp_path: Path, content: bytes, expected: list[Any]) -> None:
    found = read(tmp_path / "a.csv", content)
    assert rows(found) == expected
    assert malformed(found) == []


def test_row_of_another_length_is_malformed_and_keeps_its_number(tmp_path: Path) -> None:
    content = b"a,b\n1,2\n3\n\n5,6\n7,8,9\n10,11\n12\n"
    found = read(tmp_path / "a.csv", content)

    assert rows(found) == [(1, "1", "2"), (3, "5", "6"), (5, "10", "11")]
    assert malformed(found) == [
        Malformed(2, "the row has 1 fields, wanted 2"),
        Malformed(4, "the row has 3 fields, wanted 2"),
        Malformed(6, "the row has 1 fields, wanted 2"),
    ]


def test_malformed_rows_keep_their_text_only_if_asked(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", b"a,b\n7,8,9\n", keep_rejected_rows=True)
    assert malformed(found) == [Malformed(1, "the row has 3 fields, wanted 2", "7,8,9")]


def test_malformed_rows_across_blocks_keep_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK", 64)
    kinds = [number % 3 == 0 or 100 < number < 200 for number in range(1, 401)]
    content = b"a,b\n" + b"".join(
        b"%d\n" % number if bad else b"%d,x\n" % number for number, bad in enumerate(kinds, 1)
    )
    found = read(tmp_path / "a.csv", content)

    assert rows(found) == [
        (number, str(number), "x") for number, bad in enumerate(kinds, 1) if not bad
    ]
    assert [row.number for row in malformed(found)] == [n for n, bad in enumerate(kinds, 1) if bad]
    assert len(found) > 5


def test_character_on_the_border_of_two_blocks_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in range(24, 40):
        monkeypatch.setattr(csv_files, "_BLOCK", block)
        found = read(tmp_path / "a.csv", b"a,b\n" + "ä€😀,ß\n".encode() * 20)
        assert rows(found) == [(number, "ä€😀", "ß") for number in range(1, 21)]


def test_rows_before_bytes_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n3,4\n5,\xff\n7,8\n")
    assert rows(read_until_error(path)) == [(1, "1", "2"), (2, "3", "4")]


def read_until_error(path: Path) -> list[RowBatch]:
    found: list[RowBatch] = []
    reader = csv_files.read(Portion("a", 0, str(path)), make_config(), ("a", "b"))
    with pytest.raises(CorruptFileError):
        found.extend(reader)  # keeps what came before the error
    return found


@pytest.mark.parametrize("left", range(1, 30))
def test_row_that_was_cut_is_not_taken_for_a_whole_one(tmp_path: Path, left: int) -> None:
    """Of a file whose compressed data end early: 12345 must not become 123."""
    content = b'a,b\n111,"x\ny"\n222,12345\n'
    whole = gzip.compress(content[:left], mtime=0)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[:-8])  # all the data, but neither checksum nor length
    if left <= 4:  # only the header, or a part of it
        with pytest.raises(CorruptFileError):
            csv_files.columns(Portion("a", 0, str(path)), make_config())
    expected = [(1, "111", "x\ny")] * (left >= 14) + [(2, "222", "12345")] * (left >= 24)
    assert rows(read_until_error(path)) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty, but a CSV file starts with a header"),
        (b"\n\n", "it is empty, but a CSV file starts with a header"),
        (b'a,b\n1,"2\n3,4\n', "it ends within a quoted field"),
        (b'a,"b\n1,2\n', "its header is not a row of CSV"),
        (b"\xff\xfea\0,\0b\0\n\0", "it is not text in UTF-8"),
        (b"a,b\n1,2\xc3", "it is not text in UTF-8"),
    ],
)
def test_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(CorruptFileError) as error:
        read(tmp_path / "a.csv", content)
    assert str(error.value) == (
        f"{tmp_path}/a.csv cannot be read: {reason}. Write or copy the file again, correct "
        "data.format, or set data.corrupt_files to skip what cannot be read."
    )


def test_rows_before_one_that_is_too_long_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK", 100)
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 100 + b"3," + b"x" * 1000 + b"\n4,5\n")
    found = read_until_error(path)
    assert 50 < len(rows(found)) <= 100
    assert {row[1:] for row in rows(found)} == {("1", "2")}


def test_file_of_malformed_rows_only_is_given_up_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_MALFORMED", 1000)
    with pytest.raises(CorruptFileError, match="rows do not have the fields that its header names"):
        read(tmp_path / "a.csv", b"a,b\n" + b"secret\n" * 5000)


def test_column_that_occurs_twice_is_refused_only_if_wanted(tmp_path: Path) -> None:
    content = b"a,b,note,note\n1,2,x,y\n"
    assert rows(read(tmp_path / "a.csv", content)) == [(1, "1", "2")]
    with pytest.raises(DataError, match=r"a\.csv has more than one column note: rename or drop"):
        read(tmp_path / "a.csv", content, "a", "note")


def test_column_that_is_not_there_is_absent(tmp_path: Path) -> None:
    (batch,) = read(tmp_path / "a.csv", b"a,b\n1,2\n", "c")
    assert (len(batch), dict(batch.columns)) == (1, {})
