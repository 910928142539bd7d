"""Reading rows out of files: CSV and Parquet, one row at a time with its number."""

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from privet.components.ingest.config import Format, IngestConfig
from privet.components.shared import files
from privet.components.shared.errors import DataError

Row = Mapping[str, Any]

_ENDINGS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet"}
_BATCH_ROWS = 4096  # rows of a Parquet file in memory at a time


def find_files(config: IngestConfig) -> list[str]:
    """The files to read.

    Raises:
      DataError: a pattern matches nothing.
    """
    found: list[str] = []
    for pattern in config.patterns:
        paths = files.match(pattern)
        if not paths:
            raise DataError(
                f"no file matches data.files={pattern!r}. Check the path (a relative one starts "
                "at the configuration file's folder) and that the data have been written."
            )
        found += paths
    return sorted(set(found))


def file_format(path: str, config: IngestConfig) -> Format:
    """The format of a file, configured or by its ending.

    Raises:
      DataError: neither says.
    """
    if config.format:
        return config.format
    for ending, name in _ENDINGS.items():
        if path.endswith(ending):
            return name
    raise DataError(f"cannot tell the format of {path}: set data.format to csv or parquet")


def check_columns(path: str, config: IngestConfig) -> None:
    """Checks that a file has every column that the configuration names.

    Raises:
      DataError: a column is missing, or the file is not of its format.
    """
    present = _columns(path, file_format(path, config))
    missing = [column for column in config.columns if column not in present]
    if not missing:
        return
    roles = {config.client_id: " (the client id)", config.label.column: " (the label)"}
    named = ", ".join(f"{column}{roles.get(column, '')}" for column in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    shown = ", ".join(present[:8]) + (", …" if len(present) > 8 else "")
    raise DataError(
        f"{path} has no column {named}{more}. Its columns: {shown}. Correct the names under "
        "data.client_id, data.features, data.label or data.split.column."
    )


def read_rows(path: str, config: IngestConfig) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their numbers, counted from 1 after the header.

    Yields:
      (row number, values by column); CSV values are text, Parquet values are typed.

    Raises:
      DataError: the file is not of its format.
    """
    with files.open_read(path) as file, _named_csv_errors(path):
        if file_format(path, config) == "csv":
            reader = csv.DictReader(_text(file))
            yield from enumerate(reader, start=1)
        else:
            yield from enumerate(_parquet_rows(file, config.columns), start=1)


def _columns(path: str, kind: Format) -> list[str]:
    with files.open_read(path) as file, _named_csv_errors(path):
        if kind == "csv":
            return list(csv.DictReader(_text(file)).fieldnames or [])
        return list(_parquet(file, path).schema_arrow.names)


@contextlib.contextmanager
def _named_csv_errors(path: str) -> Iterator[None]:
    """Says which file is no CSV. Of a byte that is no UTF-8 the reason is told, not its value."""
    try:
        yield
    except (csv.Error, UnicodeDecodeError) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise DataError(
            f"{path} is not a CSV file in UTF-8: {reason}. Save it as one, or correct data.format."
        ) from error


def _text(file: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")  # tolerates a byte order mark


def _parquet_rows(file: BinaryIO, columns: tuple[str, ...]) -> Iterator[Row]:
    for batch in _parquet(file, "").iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
        yield from batch.to_pylist()


def _parquet(file: BinaryIO, path: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
