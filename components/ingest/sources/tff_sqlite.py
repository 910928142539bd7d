"""SQLite files as tff.simulation.datasets.SqlClientData reads them: one row per example.

    examples(split_name, client_id, serialized_example_proto)
    client_metadata(client_id, split_name, num_examples)     not needed here

Rows have the features of the tf.train.Example, and the columns client_id and split_name. A row's
number is its rowid, so that a range of them is found without reading what lies before.
"""

import contextlib
import itertools
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import Malformed, RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import examples
from privet.components.ingest.sources.batching import in_batches
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import SourceStream, open_file
from privet.components.shared import files
from privet.components.shared.errors import DataError

CLIENT_ID, SPLIT_NAME, PROTO = "client_id", "split_name", "serialized_example_proto"

PORTION_BYTES = 64 << 20
"""Bytes of the file that a portion has, about."""

_PIECE = 1 << 20  # bytes copied at a time
_ID_COLUMNS = (CLIENT_ID, SPLIT_NAME)

_DAMAGED = (sqlite3.Error, UnicodeError, MemoryError)
"""What a damaged file leads to: also names that are no text, and lengths that are too much."""

_OUTSIDE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_PERM")

Example = tuple[int, Any, Any, Any]
"""rowid, client_id, split_name, serialized_example_proto: in SQLite a value may be of any type."""


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """Ranges of rowids; one portion where the file is not local and must be copied to be read."""
    path, name = source
    whole = Portion(name=name, first_row=0, source=path)
    if not files.is_local(path):
        return [whole]
    try:
        with _opened(path) as connection:
            first, last = _rowids(connection)
    except CorruptFileError:  # told when it is read
        return [whole]
    if first is None or last is None or first < 1:
        return [whole]
    size = Path(path).stat().st_size
    count = min(-(-size // PORTION_BYTES), last - first + 1)
    cuts = [first + (last - first + 1) * index // count for index in range(count + 1)]
    return [
        Portion(name, start - 1, path, part=f"{start}-{end - 1}")
        for start, end in itertools.pairwise(cuts)
    ]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """client_id, split_name and the features of the first examples."""
    query = f"SELECT {PROTO} FROM examples LIMIT {examples.SAMPLE}"
    with _opened(portion.source) as connection:
        protos = [proto for (proto,) in connection.execute(query) if isinstance(proto, bytes)]
    found = examples.columns_of(protos)
    return found | dict.fromkeys(_ID_COLUMNS, pa.string())


def read(
    portion: Portion,
    config: IngestConfig,
    wanted: tuple[str, ...],
    split_name: str | None = None,
) -> Iterator[RowBatch]:
    """The rows of a portion.

    Args:
      portion: one of `portions`.
      config: not used.
      wanted: columns to read.
      split_name: only rows of this split.

    Raises:
      CorruptFileError: after the last row before the damage.
    """
    with _opened(portion.source) as connection:
        found = _examples(connection, portion, split_name)
        for batch in in_batches(found, _memory):
            yield _row_batch(batch, wanted)


def _row_batch(batch: list[Example], wanted: tuple[str, ...]) -> RowBatch:
    good = [row for row in batch if isinstance(row[3], bytes)]
    malformed = [
        Malformed(number, f"{PROTO} holds no bytes")
        for number, *_, proto in batch
        if not isinstance(proto, bytes)
    ]
    numbers, clients, splits, protos = zip(*good, strict=True) if good else ((), (), (), ())
    features = [name for name in wanted if name not in _ID_COLUMNS]
    parsed = examples.parse(numbers, protos, features)
    ids = {CLIENT_ID: clients, SPLIT_NAME: splits}
    if parsed.malformed:
        kept = np.isin(np.asarray(numbers), parsed.numbers)
        ids = {
            name: tuple(value for value, keep in zip(values, kept, strict=True) if keep)
            for name, values in ids.items()
        }
    own = {name: values for name, values in ids.items() if name in wanted}
    refused = sorted((*malformed, *parsed.malformed), key=lambda one: one.number)
    return RowBatch(parsed.numbers, {**parsed.columns, **own}, tuple(refused))


def _examples(
    connection: sqlite3.Connection, portion: Portion, split_name: str | None
) -> Iterator[Example]:
    conditions, parameters = [], []
    if portion.part:
        conditions.append("rowid BETWEEN ? AND ?")
        parameters += portion.part.split("-")
    if split_name is not None:
        conditions.append("split_name = ?")
        parameters.append(split_name)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    number = "rowid" if portion.part else "0"
    order = " ORDER BY rowid" if portion.part else ""
    rows = connection.execute(
        f"SELECT {number}, {CLIENT_ID}, {SPLIT_NAME}, {PROTO} FROM examples{where}{order}",
        parameters,
    )
    last = portion.first_row
    for rowid, *values in rows:
        if portion.part and rowid <= last:
            raise sqlite3.DatabaseError("its rows are out of order")
        last = rowid if portion.part else last + 1
        yield (last, *values)


def _rowids(connection: sqlite3.Connection) -> tuple[int | None, int | None]:
    """The lowest and highest rowid; None if there are no rows, or if `examples` is a view."""
    query = "SELECT type FROM sqlite_master WHERE lower(name) = 'examples'"
    if connection.execute(query).fetchone() != ("table",):
        return None, None
    try:
        (first,) = connection.execute("SELECT min(rowid) FROM examples").fetchone()
        (last,) = connection.execute("SELECT max(rowid) FROM examples").fetchone()
    except sqlite3.OperationalError:  # a table WITHOUT ROWID
        return None, None
    return first, last


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a database of the right layout; errors name the file."""
    with _local(path) as local:
        address = f"{Path(local).absolute().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
                connection.text_factory = _text
                connection.execute("PRAGMA cell_size_check = ON")
                connection.execute("PRAGMA trusted_schema = OFF")
                _check_layout(connection, path)
                yield connection
        except _DAMAGED as error:
            raise _told(path, error) from error


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    """The file on a local disk: SQLite reads no other."""
    if files.is_local(path):
        open_file(path).close()  # says clearly when it is not there
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="privet-sqlite-") as folder:
        copy = Path(folder, "copy.sqlite")
        with SourceStream(path) as source, copy.open("wb") as destination:
            while piece := source.read(_PIECE):
                destination.write(piece)
        yield str(copy)


def _check_layout(connection: sqlite3.Connection, path: str) -> None:
    present = [name for _, name, *_ in connection.execute("PRAGMA table_info(examples)")]
    missing = [name for name in (*_ID_COLUMNS, PROTO) if name not in present]
    if missing:
        raise DataError(
            f"{path} is not a SQLite file of TFF's SqlClientData: it has no table examples with "
            f"the columns {', '.join((*_ID_COLUMNS, PROTO))} (missing: {', '.join(missing)}). For "
            "another database use data.sql."
        )


def _text(content: bytes) -> str | bytes:
    """Text, or the bytes themselves where they are no UTF-8: the schema's check refuses them."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _told(path: str, error: BaseException) -> DataError:
    """An error that names the file, and SQLite's reason by name: its words may quote a value."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if name.startswith(_OUTSIDE):
        return DataError(
            f"reading {path} failed: {name}. The file itself may be sound: check that no other "
            "program holds it, the disk, and the rights to read it, and run again."
        )
    return CorruptFileError(path, f"it is damaged, or not a SQLite file ({name})")


def _memory(row: Example) -> int:
    return examples.MEMORY_PER_BYTE * len(row[3]) if isinstance(row[3], (bytes, str)) else 50
