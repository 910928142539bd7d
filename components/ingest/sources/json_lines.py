"""Reading JSON lines: one JSON object per line, whose keys are the columns.

Blank lines do not count. NaN, Infinity and -Infinity are read, as Python writes them. A key that
is absent or null is a missing value.
"""

import codecs
import itertools
import json
import operator
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa

from privet.components.ingest.batches import BATCH_ROWS, Malformed, RowBatch, batch_of_rows
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources.batching import in_batches
from privet.components.ingest.sources.errors import NOT_UTF8, CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import SourceStream

_BLOCK = 1 << 20  # bytes read at a time
_LONGEST = 64 << 20  # bytes of a line
_OBJECT_SIZE = 4  # Python's objects take some four times the memory of their text


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """One portion: a row's number is only known by reading all lines before it."""
    path, name = source
    return [Portion(name=name, first_row=0, source=path)]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The keys of the first rows, in order of appearance; none has a type.

    Raises:
      DataError: the file cannot be read.
    """
    with SourceStream(portion.source) as stream:
        first = itertools.islice(_records(stream, portion.source, keep_raw=False), BATCH_ROWS)
        rows = (row for row, _ in first if not isinstance(row, Malformed))
        return dict.fromkeys(key for row in rows for key in row)


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows, each wanted column as Python values.

    Raises:
      CorruptFileError: the file is damaged, is not UTF-8, or has a line of more than 64 MB.
      DataError: the file cannot be read.
    """
    with SourceStream(portion.source) as stream:
        records = _records(stream, portion.source, keep_raw=config.keep_rejected_rows)
        first = 1
        for batch in in_batches(records, size=operator.itemgetter(1)):
            numbered = [(number, row) for number, (row, _) in enumerate(batch, first)]
            good = [(number, row) for number, row in numbered if isinstance(row, dict)]
            yield batch_of_rows(
                [number for number, _ in good],
                [row for _, row in good],
                wanted,
                tuple(row for _, row in numbered if isinstance(row, Malformed)),
            )
            first += len(batch)


def _records(
    stream: SourceStream, path: str, *, keep_raw: bool
) -> Iterator[tuple[dict[str, Any] | Malformed, int]]:
    """Every row with the bytes that it takes."""
    for number, line in enumerate(_lines(stream, path), start=1):
        row = _parse(line)
        if isinstance(row, dict):
            yield row, _OBJECT_SIZE * len(line)
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise CorruptFileError(path, NOT_UTF8) from None
        raw = text if keep_raw else None
        yield Malformed(number, "the line is not a JSON object", raw), len(line)


def _parse(line: bytes) -> Any:
    """What the JSON says; None if it is none."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return _parse_with_nan(line) if b"NaN" in line or b"Infinity" in line else None


def _parse_with_nan(line: bytes) -> Any:
    try:
        value = json.loads(line.decode())
        json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair, as orjson
    except (ValueError, RecursionError):
        return None
    return value


def _lines(stream: SourceStream, path: str) -> Iterator[bytes]:
    """The lines that are not blank."""
    begun = stream.read(_BLOCK).removeprefix(codecs.BOM_UTF8)
    while block := stream.read(_BLOCK):
        *lines, begun = (begun + block).split(b"\n")
        yield from (line for line in lines if line and not line.isspace())
        if len(begun) > _LONGEST:
            raise CorruptFileError(path, f"a line is longer than {_LONGEST >> 20} MB")
    yield from (line for line in begun.split(b"\n") if line and not line.isspace())
