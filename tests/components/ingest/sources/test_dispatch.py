"""Which reader reads what, missing columns, and the digest for the cache."""

import os
from pathlib import Path
from typing import Any

import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.shared.errors import DataError

FEATURES = {"x": {"columns": "x_{0..63}"}}


def make_config(files: str | list[str] = (), **changes: Any) -> IngestConfig:
    settings: dict[str, Any] = {"client_id": "client", "label": {"column": "label"}}
    return IngestConfig.from_mapping(settings | {"files": files} | changes)


def check(path: Path, wanted: tuple[str, ...], **changes: Any) -> None:
    config = make_config(str(path), **changes)
    for portion in dispatch.find_portions(config):
        dispatch.check_columns(portion, config, wanted)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv", "csv"),
        ("a.csv.gz", "csv"),
        ("a.jsonl.zst", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.tfrecords.bz2", "tfrecord"),
        ("a.parquet", "parquet"),
        ("a.avro", "avro"),
        ("a.sqlite", "tff_sqlite"),
        ("gs://bucket/a.db", "tff_sqlite"),
    ],
)
def test_format_is_the_ending(path: str, expected: str) -> None:
    assert dispatch.file_format(path, make_config("x")) == expected


def test_configured_format_wins() -> None:
    config = make_config("x", format="sequence_tfrecord")
    assert dispatch.file_format("a.tfrecord.gz", config) == "sequence_tfrecord"


def test_unknown_ending_and_compressed_random_access_are_refused() -> None:
    with pytest.raises(DataError, match=r"format of a\.txt by its ending: set data.format to one"):
        dispatch.file_format("a.txt", make_config("x"))
    with pytest.raises(DataError, match=r"a\.parquet\.gz is a compressed file of format parquet"):
        dispatch.file_format("a.parquet.gz", make_config("x"))


def test_portions_are_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "a.jsonl"):
        (tmp_path / name).write_bytes(b"")
    portions = dispatch.find_portions(make_config([f"{tmp_path}/b*", f"{tmp_path}/a*"]))
    assert [portion.name for portion in portions] == ["a.jsonl", "b.csv"]


def test_spans_are_found_by_number(tmp_path: Path) -> None:
    for name in ("2/b.csv", "2/a.csv", "10/a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    spans = dispatch.find_spans(make_config(f"{tmp_path}/{{SPAN}}/*.csv", spans=True))
    assert list(spans) == [2, 10]
    assert [portion.name for portion in spans[2]] == ["2/a.csv", "2/b.csv"]


def test_missing_columns_are_named_with_their_role(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x_0,count\n")
    with pytest.raises(DataError) as error:
        check(
            tmp_path / "a.csv",
            ("client", "x_0", "x_1", "label", "part"),
            split={"column": "part"},
        )
    assert str(error.value) == (
        f"{tmp_path}/a.csv has no column client (the client id), x_1, label (the label), part "
        "(the split). Its columns: x_0, count. Correct the names under data.client_id, "
        "data.features, data.label, data.partition or data.split.column."
    )


def test_missing_partition_column_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\n")
    with pytest.raises(DataError, match=r"has no column city \(the partition\)\. Its"):
        check(
            tmp_path / "a.csv",
            ("city", "x", "label"),
            client_id=None,
            partition={"kind": "by_feature", "column": "city"},
        )


def test_many_missing_columns_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(f"c{i}" for i in range(20)) + "\n")
    wanted = tuple(f"x_{i}" for i in range(64))
    with pytest.raises(DataError, match=r"x_4 and 59 more\. Its columns: c0, .*, c7, …\."):
        check(tmp_path / "a.csv", wanted)


def test_column_that_may_be_missing_may_be_absent_from_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"client": "ann", "label": 1}\n')
    features = {"x": {"columns": "x", "fill_missing": 0}, "y": {"columns": "y"}}
    check(path, ("client", "x", "label"), features=features)
    with pytest.raises(DataError, match="has no column y"):
        check(path, ("client", "x", "y", "label"), features=features)
    (tmp_path / "a.csv").write_text("client,label\nann,1\n")
    with pytest.raises(DataError, match="has no column x"):
        check(tmp_path / "a.csv", ("client", "x", "label"), features=features)


def test_empty_json_lines_lack_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    check(tmp_path / "a.jsonl", ("client",))


def test_damaged_file_passes_the_check_only_if_it_is_to_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    check(tmp_path / "a.parquet", ("client",), corrupt_files="skip")
    with pytest.raises(CorruptFileError):
        check(tmp_path / "a.parquet", ("client",))


def test_error_tells_after_which_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"client\nann\nbob\n\xff\n")
    config = make_config(str(tmp_path / "a.csv"))
    (portion,) = dispatch.find_portions(config)
    with pytest.raises(CorruptFileError) as error:
        list(dispatch.read(portion, config, ("client",)))
    assert error.value.row == 2
    assert "a.csv cannot be read after row 2: it is not text in UTF-8." in str(error.value)


def test_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("client,x\n1,2\n")
    os.utime(path, ns=(0, 0))
    config = make_config(str(path))
    before = dispatch.fingerprint(config)
    os.utime(path, ns=(5, 5))
    assert dispatch.fingerprint(config) == before
    path.write_text("client,x\n1,3\n")
    os.utime(path, ns=(0, 0))
    assert dispatch.fingerprint(config) != before


def test_fingerprint_of_spans_changes_with_files_and_their_times(tmp_path: Path) -> None:
    path = tmp_path / "1.csv"
    path.touch()
    config = make_config(f"{tmp_path}/{{SPAN}}.csv", spans=True)
    found = [dispatch.fingerprint(config), dispatch.fingerprint(config)]
    os.utime(path, ns=(5, 5))
    found.append(dispatch.fingerprint(config))
    (tmp_path / "2.csv").touch()
    found.append(dispatch.fingerprint(config))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_fingerprint_of_other_sources(tmp_path: Path) -> None:
    module = tmp_path / "rows.py"
    module.write_text("def examples(): return []\n")
    python = make_config(python={"module_file": str(module)})
    before = dispatch.fingerprint(python)
    (tmp_path / "neighbour.py").touch()
    assert dispatch.fingerprint(python) == before
    module.write_text("def examples(): yield {}\n")
    assert dispatch.fingerprint(python) != before

    sql = make_config(sql={"url": "sqlite:///x", "query": "select 1"})
    assert dispatch.fingerprint(sql) != dispatch.fingerprint(sql)  # read anew in each run

    def dataset(name: str) -> str:
        return dispatch.fingerprint(make_config(client_id=None, dataset={"name": name}))

    assert dataset("emnist") == dataset("emnist") != dataset("shakespeare")
