"""JSON lines: which lines are rows, and which are malformed."""

import math
from pathlib import Path
from typing import Any

import pytest

from privet.components.ingest.batches import Malformed
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import json_lines
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion


def make_config(**changes: Any) -> IngestConfig:
    settings = {"client_id": "a", "label": {"column": "b"}, "files": "x"}
    return IngestConfig.from_mapping(settings | changes)


def portion_of(path: Path, content: bytes) -> Portion:
    path.write_bytes(content)
    return Portion(path.name, 0, str(path))


def test_blank_lines_do_not_count_and_absent_keys_are_missing(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": [1, 2], "c": 0}\n{"a": null}'
    portion = portion_of(tmp_path / "a.jsonl", content)
    (batch,) = json_lines.read(portion, make_config(), ("a", "b"))

    assert batch.numbers.tolist() == [1, 2, 3]
    assert batch.columns == {"a": [1, None, None], "b": [None, [1, 2], None]}
    assert json_lines.columns(portion, make_config()) == {"a": None, "b": None, "c": None}


def test_numbers_that_json_does_not_have_are_read(tmp_path: Path) -> None:
    content = b'{"a": NaN}\n{"a": -Infinity}\n{"a": "NaN"}\n'
    (batch,) = json_lines.read(portion_of(tmp_path / "a", content), make_config(), ("a",))
    nan, infinity, text = batch.columns["a"]
    assert math.isnan(nan)
    assert (infinity, text) == (-math.inf, "NaN")


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"null",
        b'"x"',
        b"{",
        b'{"a": 1} {"a": 2}',
        b'{"a": Infinit}',
        b'{"a": NaN, "b": "\\ud800"}',
        b"[" * 100_000 + b"NaN",
    ],
)
def test_line_that_is_no_object_is_malformed(tmp_path: Path, line: bytes) -> None:
    content = b'{"a": 1}\n' + line + b'\n{"a": 2}\n'
    portion = portion_of(tmp_path / "a.jsonl", content)
    (batch,) = json_lines.read(portion, make_config(keep_rejected_rows=True), ("a",))

    assert batch.numbers.tolist() == [1, 3]
    assert batch.columns == {"a": [1, 2]}
    reason = "the line is not a JSON object"
    assert batch.malformed == (Malformed(2, reason, line.decode()),)
    (batch,) = json_lines.read(portion, make_config(), ("a",))
    assert batch.malformed == (Malformed(2, reason),)


def test_rows_before_bytes_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    content = b'{"a": 1}\n{"a": "\xff"}\n{"a": 2}\n'
    reader = json_lines.read(portion_of(tmp_path / "a", content), make_config(), ("a",))
    assert next(reader).columns == {"a": [1]}
    with pytest.raises(CorruptFileError, match="it is not text in UTF-8"):
        next(reader)


def test_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "_BLOCK", 1000)
    monkeypatch.setattr(json_lines, "_LONGEST", 5000)
    content = b'{"a": 1}\n' + b"x" * 100_000
    reader = json_lines.read(portion_of(tmp_path / "a", content), make_config(), ("a",))
    assert next(reader).columns == {"a": [1]}
    with pytest.raises(CorruptFileError, match="a line is longer than"):
        next(reader)


def test_empty_file_has_no_rows(tmp_path: Path) -> None:
    portion = portion_of(tmp_path / "a.jsonl", b"")
    assert list(json_lines.read(portion, make_config(), ("a",))) == []
    assert json_lines.columns(portion, make_config()) == {}
