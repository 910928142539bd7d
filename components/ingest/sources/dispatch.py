"""Which reader reads what: by the kind of source, and for files by their format.

Every reader is a module with three functions, see Reader.
"""

import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.formats import FORMATS, Format
from privet.components.ingest.sources import (
    avro,
    csv_files,
    json_lines,
    parquet,
    paths,
    python_function,
    sequence_tfrecords,
    sql,
    tff_datasets,
    tff_sqlite,
    tfrecords,
)
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import without_compression
from privet.components.shared import files
from privet.components.shared.errors import DataError


class Reader(Protocol):
    """What the module of a source has."""

    def portions(self, source: Any, config: IngestConfig) -> list[Portion]:
        """The source cut into parts; `source` is a file's (path, name), or None for others.

        A damaged file gives a portion too: `read` tells what is wrong with it.
        """
        ...

    def columns(self, portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
        """The columns that there are, with their types; None if only the values have types."""
        ...

    def read(
        self, portion: Portion, config: IngestConfig, wanted: tuple[str, ...]
    ) -> Iterator[RowBatch]:
        """The rows of a portion in order, in batches of bounded memory."""
        ...


_READERS: dict[Format, Reader] = {
    "csv": csv_files,
    "jsonl": json_lines,
    "parquet": parquet,
    "avro": avro,
    "tfrecord": tfrecords,
    "sequence_tfrecord": sequence_tfrecords,
    "tff_sqlite": tff_sqlite,
}
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".avro": "avro",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".sqlite": "tff_sqlite",
    ".db": "tff_sqlite",
}
"""What a file's ending says of its format."""

_NO_HEADER = (
    json_lines,
    tfrecords,
    sequence_tfrecords,
    tff_sqlite,
    tff_datasets,
    python_function,
)
"""Sources whose rows name their columns: `columns` knows those of the first rows."""

_NOT_A_STREAM = ("parquet", "tff_sqlite")
"""Formats that are read in any order, which a compressed file does not allow."""


def find_portions(config: IngestConfig) -> list[Portion]:
    """Everything that is to be read, sorted.

    Raises:
      DataError: a pattern matches no file, or a file's format is not known.
    """
    others = (
        (config.sql, sql),
        (config.python, python_function),
        (config.dataset, tff_datasets),
    )
    for source, reader in others:
        if source is not None:
            return sorted(reader.portions(None, config))
    return _portions_of(paths.find(config.patterns), config)


def find_spans(config: IngestConfig) -> dict[int, list[Portion]]:
    """Everything that is to be read by the number of its span, ascending.

    Raises:
      DataError: a pattern matches no file, or a file's format is not known.
    """
    found = paths.find(config.patterns)
    spans: dict[int, list[paths.Found]] = {}
    for file in found:
        assert file.span is not None  # with spans every pattern holds {SPAN}
        spans.setdefault(file.span, []).append(file)
    return {span: _portions_of(spans[span], config) for span in sorted(spans)}


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The columns of a source, with their types where the source has types.

    Raises:
      DataError: it cannot be read.
    """
    return _reader(portion, config).columns(portion, config)


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows of a portion.

    Raises:
      CorruptFileError: after the last batch before what is damaged; tells the last row.
      DataError: the source cannot be read.
    """
    last = portion.first_row
    try:
        for batch in _reader(portion, config).read(portion, config, wanted):
            read_now = [*batch.numbers[-1:].tolist(), *(row.number for row in batch.malformed)]
            last = max([last, *read_now])
            yield batch
    except CorruptFileError as error:
        raise CorruptFileError(error.source, error.reason, last) from error


def check_columns(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> None:
    """Checks that a source has every column that is read from it.

    Where the rows name their columns (JSON lines, TFRecord, Python), only the first rows are
    looked at, and a column that has a `fill_missing` may be absent from them.

    Raises:
      DataError: a column is missing, or the source cannot be read. A damaged file passes if it
        is to be skipped.
    """
    try:
        present = columns(portion, config)
    except CorruptFileError:
        if config.corrupt_files == "skip":
            return
        raise
    missing = [column for column in wanted if column not in present]
    if _reader(portion, config) in _NO_HEADER:
        filled = {
            column
            for feature in config.features.values()
            for column in feature.column_names
            if feature.fill_missing is not None
        }
        missing = [column for column in missing if present and column not in filled]
    if not missing:
        return
    roles = {
        config.split.column: " (the split)",
        config.client_column: " (the client id)"
        if config.partition is None
        else " (the partition)",
        config.label.column: " (the label)",
    }
    named = ", ".join(f"{column}{roles.get(column, '')}" for column in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    shown = ", ".join(list(present)[:8]) + (", …" if len(present) > 8 else "")
    raise DataError(
        f"{portion.source} has no column {named}{more}. Its columns: {shown}. Correct the names "
        "under data.client_id, data.features, data.label, data.partition or data.split.column."
    )


def fingerprint(config: IngestConfig) -> str:
    """A digest that changes when the source does, for the cache.

    Files count with all their content, in spans with size and time of modification (nothing that
    was read before is to be read again). A database's content cannot be told apart without
    reading it, so it is new each time.

    Raises:
      DataError: a pattern matches no file, or the Python file is missing.
    """
    if config.sql is not None:
        return uuid.uuid4().hex
    if config.dataset is not None:
        return files.digest(config.dataset.name.encode())
    if config.python is not None:
        return files.digest(files.content_digest((config.python.module_file,)).encode())
    if not config.spans:
        return files.content_digest(config.patterns)
    stamps = [(file.path, *files.stamp(file.path)) for file in paths.find(config.patterns)]
    return files.digest(repr(sorted(stamps)).encode())


def file_format(path: str, config: IngestConfig) -> Format:
    """The format of a file, configured or by its ending (also before .gz, .bz2, .xz, .zst).

    Raises:
      DataError: neither says, or the format cannot be read compressed.
    """
    plain = without_compression(path)
    by_ending = (name for ending, name in ENDINGS.items() if plain.endswith(ending))
    found = config.format or next(by_ending, None)
    if found is None:
        raise DataError(
            f"cannot tell the format of {path} by its ending: set data.format to one of "
            f"{', '.join(FORMATS)}."
        )
    if found in _NOT_A_STREAM and plain != path:
        raise DataError(
            f"{path} is a compressed file of format {found}, which cannot be read piece by piece: "
            "decompress it."
        )
    return found


def _reader(portion: Portion, config: IngestConfig) -> Reader:
    if config.sql is not None:
        return sql
    if config.python is not None:
        return python_function
    if config.dataset is not None:
        return tff_datasets
    return _READERS[file_format(portion.source, config)]


def _portions_of(found: list[paths.Found], config: IngestConfig) -> list[Portion]:
    return sorted(
        portion
        for file in found
        for portion in _READERS[file_format(file.path, config)].portions(
            (file.path, file.name), config
        )
    )
