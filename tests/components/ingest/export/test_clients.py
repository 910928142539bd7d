"""Exporting: what is chosen and refused, failures that leave nothing, memory that stays flat."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privet.components.ingest.export import clients
from privet.components.ingest.export.clients import Counts, export_clients, format_of
from privet.components.ingest.formats import FORMATS
from privet.components.shared.errors import DataError, StoreError


def test_counts_are_told_by_split(sample: Any, tmp_path: Path) -> None:
    done = export_clients(sample.directory, None, str(tmp_path / "out.csv"), "csv")

    assert done.splits == {"train": Counts(5, 17), "eval": Counts(2, 7), "test": Counts(0, 0)}
    assert done.left_out == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.schema.json"]


def test_chosen_splits_alone_are_written(sample: Any, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    done = export_clients(sample.directory, ["eval", "eval"], str(path), "csv")

    assert done.splits == {"eval": Counts(2, 7)}
    assert len(path.read_text().splitlines()) == 1 + 7


def test_adaptation_splits_are_left_out_unless_asked_for(
    sample: Any, write_store: Any, tmp_path: Path
) -> None:
    from privet.components.shared.storage import read_schema

    splits = {**sample.splits, "eval_adapt": sample.splits["eval"]}
    directory = write_store(tmp_path / "store", read_schema(sample.directory), splits)

    done = export_clients(directory, None, str(tmp_path / "all.csv"), "csv")
    assert done.left_out == ("eval_adapt",)
    assert "eval_adapt" not in done.splits
    done = export_clients(directory, ["eval_adapt"], str(tmp_path / "adapt.csv"), "csv")
    assert done.splits == {"eval_adapt": Counts(2, 7)}
    assert "eval_adapt" in (tmp_path / "adapt.csv").read_text()


@pytest.mark.parametrize("existing", ["out.csv", "out.csv.schema.json"])
def test_existing_file_is_never_overwritten(sample: Any, tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")

    with pytest.raises(DataError, match=rf"{existing} exists already"):
        export_clients(sample.directory, None, str(tmp_path / "out.csv"), "csv")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_damaged_store_leaves_no_file(
    sample: Any, write_store: Any, tmp_path: Path, file_format: Any
) -> None:
    from privet.components.shared.storage import read_schema

    store = tmp_path / "store"
    directory = write_store(store, read_schema(sample.directory), sample.splits, shards=1)
    (path,) = store.glob("Split-eval/*.tfrecord")
    content = bytearray(path.read_bytes())
    content[-10] ^= 1  # the last client of the last split with clients
    path.write_bytes(content)

    with pytest.raises(StoreError, match="is damaged"):
        export_clients(directory, None, str(tmp_path / "out" / "file"), file_format)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("file_format", ["csv", "parquet", "tff_sqlite"])
def test_unwritable_place_is_told(sample: Any, tmp_path: Path, file_format: Any) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(StoreError, match=r"cannot write .*Check the folder"):
        export_clients(sample.directory, None, str(tmp_path / "file" / "out"), file_format)


def test_missing_split_and_missing_store_are_told(sample: Any, tmp_path: Path) -> None:
    out = str(tmp_path / "out.csv")
    with pytest.raises(StoreError, match="has no split 'test_adapt'"):
        export_clients(sample.directory, ["test_adapt"], out, "csv")
    with pytest.raises(StoreError, match=r"cannot read .*schema\.json"):
        export_clients(str(tmp_path), None, out, "csv")
    assert not list(tmp_path.iterdir())


def test_sqlite_is_written_to_a_local_disk_only(sample: Any) -> None:
    from privet.components.ingest.export.tff_sqlite_file import write_tff_sqlite

    with pytest.raises(DataError, match="local disk only, not to gs://"):
        write_tff_sqlite("gs://bucket/out.sqlite", None, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("a.csv", "csv"),
        ("a.jsonl", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.avro", "avro"),
        ("a.tfrecord", "tfrecord"),
        ("a.sqlite", "tff_sqlite"),
    ],
)
def test_format_is_what_the_ending_says(name: str, file_format: str) -> None:
    assert format_of(name) == file_format


def test_unknown_and_compressed_endings_are_refused(sample: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot tell the format of out\.txt.*--format \(csv"):
        format_of("out.txt")
    with pytest.raises(DataError, match="would not be compressed"):
        export_clients(sample.directory, None, str(tmp_path / "out.csv.gz"), "csv")


def test_every_format_that_can_be_read_can_be_written() -> None:
    assert set(clients.WRITERS) == set(FORMATS)


_EXPORT = """
import resource, sys
import pyarrow.parquet
from privet.components.ingest.export.clients import export_clients
from privet.components.shared import files
files.exists("x")  # imports what is slow and large
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export_clients(sys.argv[1], None, sys.argv[2], "parquet")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_store(
    write_store: Any, client: Any, schema_of: Any, tmp_path: Path
) -> None:
    import numpy as np

    x = np.random.default_rng(0).normal(size=(2000, 128)).astype(np.float32)  # 1 MB
    population = (client(f"c{i}", np.zeros(2000), x=x) for i in range(256))
    schema = schema_of({"x": {"columns": "x", "shape": [128]}}, 2)
    directory = write_store(tmp_path / "store", schema, {"train": population})

    command = [sys.executable, "-c", _EXPORT, directory, str(tmp_path / "out.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert (tmp_path / "out.parquet").stat().st_size > 200 << 20
    assert int(done.stdout) < 128 << 10, "KiB"  # half of what was exported
