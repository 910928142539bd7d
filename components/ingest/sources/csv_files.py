"""Reading CSV files: rows of text, parsed by pyarrow block by block.

A file starts with a header (after a byte order mark, if any); fields are separated by commas and
may be quoted, also over several lines. An empty field is a missing value. Blank lines do not
count. Everything stays text: the schema says later what it means.

pyarrow accepts a file that ends within quotes, and a file cut off in the middle of its last
field: half a row would pass as a whole one. So an end mark is added behind the file: a row with
one field too many, which pyarrow must report. If it is not reported by itself, the last row was
cut, and is dropped.
"""

import codecs
import collections
import csv
import dataclasses
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import Malformed, RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources.arrow_rows import row_batches
from privet.components.ingest.sources.errors import NOT_UTF8, CorruptFileError, check_unique
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import SourceStream
from privet.components.shared.errors import DataError

_BLOCK = 8 << 20  # bytes parsed at a time, and so the longest row
_MALFORMED = 1 << 20  # refused rows at a time before the file is given up
_MARK = "\x00end of file"


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """One portion: a row's number is only known by reading all rows before it."""
    path, name = source
    return [Portion(name=name, first_row=0, source=path)]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The header's columns; none has a type.

    Raises:
      DataError: there is no header, or it cannot be read.
    """
    with SourceStream(portion.source) as stream:
        names, _ = _header(stream, portion.source)
    return dict.fromkeys(names)


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows, each wanted column as an Arrow array of strings.

    Raises:
      CorruptFileError: the file is not CSV in UTF-8, or ends within a row's quotes.
      DataError: a wanted column occurs twice, or the file cannot be read.
    """
    path = portion.source
    with SourceStream(path) as stream:
        names, rest = _header(stream, path)
        check_unique(names, wanted, path)
        text = _MarkedText(stream, rest, path, len(names))
        refused = _Refused(text.end_mark, len(names), keep_raw=config.keep_rejected_rows)
        present = tuple(name for name in wanted if name in names)
        parsed = _parse(text, refused, len(names), [names.index(name) for name in present])
        yield from _numbered(parsed, refused, text, present)


def _parse(
    text: "_MarkedText", refused: "_Refused", width: int, included: list[int]
) -> Iterator[pa.RecordBatch | CorruptFileError]:
    """Batches of any size; last, what stopped the parser, if something did."""
    import pyarrow.csv

    names = [str(index) for index in range(width)]  # a header may name two columns alike
    chosen = [names[index] for index in included or [0]]
    try:
        with pyarrow.csv.open_csv(
            text,
            read_options=pyarrow.csv.ReadOptions(
                block_size=_BLOCK,
                use_threads=False,  # with threads the refused rows would not be numbered
                column_names=names,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=refused
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                check_utf8=False,  # _MarkedText has
                column_types=dict.fromkeys(chosen, pa.string()),
                include_columns=chosen,
                null_values=[""],
                strings_can_be_null=True,
            ),
        ) as reader:
            yield from reader
    except pa.ArrowInvalid as error:  # its text quotes the row
        yield CorruptFileError(text.path, _reason(error))


def _numbered(
    parsed: Iterator[pa.RecordBatch | CorruptFileError],
    refused: "_Refused",
    text: "_MarkedText",
    names: tuple[str, ...],
) -> Iterator[RowBatch]:
    """Gives rows their numbers; holds one batch back, whose last row may be half a row."""
    following = 1  # number of the next row
    held: list[RowBatch] = []
    failure: DataError | None = None
    for batch in parsed:
        if isinstance(batch, CorruptFileError):
            failure = batch
        elif batch.num_rows:
            yield from held
            numbers = refused.numbers_between(following, batch.num_rows)
            held = list(row_batches(numbers, names, batch))
            held = [
                dataclasses.replace(rows, malformed=refused.take(int(rows.numbers[-1])))
                for rows in held
            ]
            following = int(numbers[-1]) + 1
    if failure is None and not refused.end_mark_seen:
        held[-1:] = [_without_last_row(rows) for rows in held[-1:]]
    yield from held
    if left := refused.take():
        yield RowBatch(np.empty(0, np.int64), {}, left)
    failure = failure or text.failure
    if failure is None and not refused.end_mark_alone:
        failure = CorruptFileError(text.path, "it ends within a quoted field")
    if failure is not None:
        raise failure


def _without_last_row(rows: RowBatch) -> RowBatch:
    columns = {name: column[:-1] for name, column in rows.columns.items()}
    return dataclasses.replace(rows, numbers=rows.numbers[:-1], columns=columns)


class _Refused:
    """Collects the rows that pyarrow refuses, in order; called by its threads.

    Attributes:
      end_mark_seen: the end mark was refused, alone or as the end of a row that was cut.
      end_mark_alone: it was refused as a row of its own, as behind a file that is whole.
    """

    def __init__(self, end_mark: str, width: int, *, keep_raw: bool):
        self.end_mark_seen = False
        self.end_mark_alone = False
        self._rows: collections.deque[Malformed] = collections.deque()
        self._end_mark = end_mark
        self._width = width
        self._keep_raw = keep_raw

    def __call__(self, row: Any) -> str:
        if row.text.endswith(self._end_mark):
            self.end_mark_seen = True
            self.end_mark_alone = row.text == self._end_mark
            return "skip"
        reason = sys.intern(f"the row has {row.actual_columns} fields, wanted {self._width}")
        self._rows.append(Malformed(row.number, reason, row.text if self._keep_raw else None))
        return "skip" if len(self._rows) < _MALFORMED else "error"

    def numbers_between(self, first: int, rows: int) -> np.ndarray:
        """The first numbers from `first` on that are not those of refused rows."""
        refused = [row.number for row in tuple(self._rows)]
        numbers = np.arange(first, first + rows + len(refused), dtype=np.int64)
        return np.setdiff1d(numbers, refused, assume_unique=True)[:rows]

    def take(self, last: int | None = None) -> tuple[Malformed, ...]:
        """Removes and gives the rows up to a number, or all."""
        taken: list[Malformed] = []
        while self._rows and (last is None or self._rows[0].number <= last):
            taken.append(self._rows.popleft())
        return tuple(taken)


class _MarkedText:
    """A file for pyarrow: checked to be UTF-8, with the end mark behind it.

    Attributes:
      end_mark: a row with one field too many.
      failure: why the file could not be read to its end; pyarrow sees an end there.
    """

    closed = False  # pyarrow asks

    def __init__(self, stream: SourceStream, first: bytes, path: str, width: int):
        self.path = path
        self.end_mark = _MARK + "," * width
        self.failure: DataError | None = None
        self._stream = stream
        self._ahead = first
        self._ended = False

    def read(self, size: int) -> bytes:
        """About the next `size` bytes; none after the end."""
        if self._ended:
            return b""
        try:
            while len(self._ahead) < size and not self._ended:
                part = self._stream.read(size - len(self._ahead))
                self._ahead += part
                self._ended = not part
        except DataError as error:
            self.failure = error
            self._ended = True
        content = self._take_text(size)
        if not self._ended:
            return content
        # After a failure the mark becomes part of the row that was cut, which is then refused.
        return content + (b"" if self.failure else b"\n") + self.end_mark.encode()

    def readable(self) -> bool:
        return True

    def _take_text(self, size: int) -> bytes:
        """Removes up to `size` bytes, but no part of a character, from what was read ahead."""
        content = self._ahead[:size]
        try:
            _, used = codecs.utf_8_decode(content, "strict", self._ended and not self.failure)
        except UnicodeDecodeError as error:
            self.failure = CorruptFileError(self.path, NOT_UTF8)
            self._ended = True
            used = error.start
        self._ahead = self._ahead[used:]
        return content[:used]


def _header(stream: SourceStream, path: str) -> tuple[list[str], bytes]:
    """The names of the columns, and what was read behind them."""
    block = stream.read(_BLOCK).removeprefix(codecs.BOM_UTF8)
    used = 0

    def lines() -> Iterator[str]:
        nonlocal used
        for line in re.finditer(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)", block):
            used = line.end()
            yield line[0].decode()

    try:
        names = next((names for names in csv.reader(lines(), strict=True) if names), [])
        rest = block[used:] or stream.read(1)  # which tells whether an error cut the header
    except UnicodeDecodeError:
        raise CorruptFileError(path, NOT_UTF8) from None
    except csv.Error:
        raise CorruptFileError(path, "its header is not a row of CSV") from None
    if not names:
        raise CorruptFileError(path, "it is empty, but a CSV file starts with a header")
    return names, rest


def _reason(error: pa.ArrowInvalid) -> str:
    if "straddling" in str(error):
        return (
            f"a row is longer than {_BLOCK >> 20} MB (perhaps a quotation mark is never closed, or "
            "the rows would be better stored as Parquet)"
        )
    return "its rows do not have the fields that its header names"
