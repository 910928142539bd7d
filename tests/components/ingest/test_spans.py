"""Spans: what was read once is not read again, and the store is the same as if it were."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch

CONFIG: dict[str, Any] = {
    "client_id": "client",
    "features": {"x": {"columns": "x", "dtype": "int64", "minimum": 0}},
    "label": {"column": "label", "classes": 2},
    "split": {"eval": 0.4},
    "max_examples_per_client": 4,
    "max_reject_fraction": 0.2,
    "shards": 2,
}


def write_span(folder: Path, span: int, rows: int = 60) -> None:
    """Rows of thirty clients; one in twenty is refused."""
    lines = [
        json.dumps({"client": f"c{row % 30}", "x": -1 if row % 20 == 7 else row, "label": row % 2})
        for row in range(rows)
    ]
    (folder / f"span-{span}").mkdir()
    (folder / f"span-{span}" / "rows.jsonl").write_text("\n".join(lines))


@pytest.fixture
def config(tmp_path: Path) -> IngestConfig:
    for span in (1, 2):
        write_span(tmp_path, span)
    (tmp_path / "salt").write_bytes(bytes(32))
    files = f"{tmp_path}/span-{{SPAN}}/*.jsonl"
    return IngestConfig.from_mapping(
        {**CONFIG, "files": files, "spans": True, "salt_file": str(tmp_path / "salt")}
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sources that are read from now on."""
    names: list[str] = []
    original = dispatch.read

    def noting(portion: Any, *rest: Any) -> Any:
        names.append(portion.name)
        return original(portion, *rest)

    monkeypatch.setattr(dispatch, "read", noting)
    return names


def same_files(one: Any, other: Any) -> bool:
    def contents(directory: str) -> dict[str, bytes]:
        root = Path(directory)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("Split-*/*")}

    return contents(one.directory) == contents(other.directory)


def test_only_new_spans_are_read(
    config: IngestConfig, ingest: Any, read: list[str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    ingest(config, state)
    assert sorted(set(read)) == ["span-1/rows.jsonl", "span-2/rows.jsonl"]

    read.clear()
    write_span(tmp_path, 10)
    found = ingest(config, state)
    assert set(read) == {"span-10/rows.jsonl"}
    anew = ingest(config, tmp_path / "other")
    assert same_files(anew, found)
    assert anew.statistics == found.statistics
    assert anew.summary == found.summary
    assert anew.summary["refused"] == 9
    assert anew.rejects == found.rejects
    assert len(found.rejects) == 9


def test_changed_span_and_changed_settings_are_read_anew(
    config: IngestConfig, ingest: Any, read: list[str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    ingest(config, state)
    read.clear()
    path = tmp_path / "span-2" / "rows.jsonl"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    ingest(config, state)
    assert set(read) == {"span-2/rows.jsonl"}

    read.clear()
    changed = IngestConfig.from_mapping(
        {**json.loads(config.to_json()), "max_examples_per_client": 3}
    )
    ingest(changed, state)
    assert set(read) == {"span-1/rows.jsonl", "span-2/rows.jsonl"}
    assert len(list((state / "spans").iterdir())) == 1  # what other settings left is gone


def test_failed_run_keeps_no_span_half_read(
    config: IngestConfig, ingest: Any, read: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "span-2" / "rows.jsonl"
    good = path.read_bytes()
    path.write_bytes(good[:500] + b"\xff\xfe" + good[500:])
    with pytest.raises(Exception, match=r"span-2/rows\.jsonl"):
        ingest(config, tmp_path / "state")
    read.clear()
    path.write_bytes(good)
    ingest(config, tmp_path / "state")

    assert set(read) == {"span-1/rows.jsonl", "span-2/rows.jsonl"}


def spills(state: Path) -> list[Path]:
    return sorted(state.glob("spans/*/*/rows-*.arrow"))


def test_what_is_gone_from_the_source_is_gone_from_the_state(
    config: IngestConfig, ingest: Any, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    ingest(config, state)
    before = spills(state)
    path = tmp_path / "span-2" / "rows.jsonl"
    path.write_text(path.read_text().replace('"c29"', '"c28"').replace('"x": -1', '"x": 1'))
    found = ingest(config, state)
    assert len(spills(state)) == len(before) == 2
    assert len(set(spills(state)) & set(before)) == 1
    assert {line["source"] for line in found.rejects} == {f"{tmp_path}/span-1/rows.jsonl"}

    path.unlink()
    ingest(config, state)
    assert set(spills(state)) < set(before)


def test_row_that_arrives_while_its_span_is_read_is_read_next_time(
    config: IngestConfig, ingest: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "span-2" / "rows.jsonl"
    original = dispatch.read

    def read_then_append(portion: Any, *rest: Any) -> Any:
        yield from original(portion, *rest)
        if portion.name.startswith("span-2"):
            with path.open("a") as file:
                file.write('\n{"client": "late", "x": 1, "label": 1}')

    with monkeypatch.context() as patch:
        patch.setattr(dispatch, "read", read_then_append)
        first = ingest(config, tmp_path / "state")
    second = ingest(config, tmp_path / "state")

    assert second.summary["rows"] == first.summary["rows"] + 1


def test_state_may_move_with_its_work_directory(
    config: IngestConfig, ingest: Any, read: list[str], tmp_path: Path
) -> None:
    first = ingest(config, tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "moved")
    read.clear()

    assert same_files(ingest(config, tmp_path / "moved"), first)
    assert read == []
