"""Reading Parquet files: Arrow arrays straight through, row group by row group."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import BATCH_ROWS, RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources.arrow_rows import row_batches, rows_within_limit
from privet.components.ingest.sources.errors import NOT_UTF8, CorruptFileError, check_unique
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import open_random
from privet.components.shared.errors import DataError

_PORTION = 64 << 20  # bytes of row groups, decompressed
_BUFFER = 4 << 20  # bytes of a column read at a time from a remote file
_PROBED = 16  # rows, to learn how large rows are once decoded


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """Ranges of row groups of about 64 MB; a file that cannot be read is one portion."""
    path, name = source
    try:
        with _opened(path) as file:
            sizes = [
                (group.num_rows, group.total_byte_size)
                for group in map(file.metadata.row_group, range(file.num_row_groups))
            ]
    except CorruptFileError:  # `read` tells, where it may be configured to be skipped
        return [Portion(name=name, first_row=0, source=path)]
    found: list[Portion] = []
    first_row = first_group = rows = size = 0
    for group, (group_rows, group_size) in enumerate(sizes):
        rows += group_rows
        size += group_size
        if size >= _PORTION or group == len(sizes) - 1:
            part = f"{first_group}-{group}"
            found.append(Portion(name, first_row, path, part))
            first_row, first_group, rows, size = first_row + rows, group + 1, 0, 0
    return found or [Portion(name=name, first_row=0, source=path)]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The columns with their types.

    Raises:
      DataError: the file cannot be read.
    """
    with _opened(portion.source) as file:
        return dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows, each wanted column as an Arrow array of the type that it has.

    Raises:
      CorruptFileError: the file is damaged, or is no Parquet file.
      DataError: a wanted column occurs twice, or the file cannot be read.
    """
    path = portion.source
    with _opened(path) as file, _damaged(path, "its data are damaged"):
        names = file.schema_arrow.names
        check_unique(names, wanted, path)
        present = [name for name in wanted if name in names]
        groups = _row_groups(file, portion)
        expected = sum(group.num_rows for group in groups.values())
        row = portion.first_row
        for batch in file.iter_batches(
            _rows_of_batch(file, groups, present),
            row_groups=list(groups),
            columns=present,
            use_threads=False,  # workers share the machine's cores already
        ):
            for column in batch.columns:
                _check_values(column, path)
            numbers = np.arange(row + 1, row + 1 + batch.num_rows, dtype=np.int64)
            row += batch.num_rows
            yield from row_batches(numbers, tuple(present), batch.select(present))
        if row != portion.first_row + expected:
            raise CorruptFileError(path, f"it holds another number of rows than {expected}")


def _row_groups(file: Any, portion: Portion) -> dict[int, Any]:
    """The row groups of a portion, with what the file says about them."""
    first, last = map(int, portion.part.split("-")) if portion.part else (0, file.num_row_groups)
    indices = range(file.num_row_groups)[first : last + 1]
    return {index: file.metadata.row_group(index) for index in indices}


def _rows_of_batch(file: Any, groups: dict[int, Any], names: list[str]) -> int:
    """How many rows to decode at a time.

    The file tells how large rows are as they are encoded, which may be far less than decoded, so
    a few are tried as well. (The size of each column is not asked for: in a damaged file pyarrow
    25 may end the process over it.)
    """
    sizes = ((group.total_byte_size, group.num_rows) for group in groups.values())
    rows = min((rows_within_limit(*size) for size in sizes), default=BATCH_ROWS)
    probe = next(file.iter_batches(_PROBED, row_groups=list(groups), columns=names), None)
    if probe is not None and probe.num_rows:
        rows = min(rows, rows_within_limit(probe.nbytes, probe.num_rows))
    return rows


def _check_values(column: pa.Array, path: str) -> None:
    """Arrow takes strings out of a file unseen: bytes that are no UTF-8 would fail much later."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        reason = NOT_UTF8 if "UTF8" in str(error) else "its data are damaged"
        raise CorruptFileError(path, reason) from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        with _damaged(path, "it is not a Parquet file, or not a whole one"):
            source = stack.enter_context(open_random(path))
            file = pyarrow.parquet.ParquetFile(
                source,
                buffer_size=0 if isinstance(source, pa.MemoryMappedFile) else _BUFFER,
                pre_buffer=False,  # would hold all row groups of the portion
                page_checksum_verification=True,
            )
            stack.enter_context(file)
        yield file


@contextlib.contextmanager
def _damaged(path: str, reason: str) -> Iterator[None]:
    """Says which file is damaged when pyarrow cannot read it."""
    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, MemoryError, ValueError, LookupError) as error:
        if "Expected all lists to be of size" in str(error):
            raise DataError(
                f"{path} has a missing value in a column of fixed-size lists, which pyarrow "
                "cannot read. Write it without (drop the row), or as a column of plain lists."
            ) from error
        raise CorruptFileError(path, f"{reason} ({type(error).__name__})") from error
