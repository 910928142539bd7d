"""Cutting Arrow batches of any size into batches of rows."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import BATCH_BYTES, BATCH_ROWS, RowBatch


def row_batches(
    numbers: np.ndarray, names: tuple[str, ...], batch: pa.RecordBatch
) -> Iterator[RowBatch]:
    """Views of at most BATCH_ROWS rows and about BATCH_BYTES.

    Args:
      numbers: int64 [rows]; positions of the rows.
      names: what the first columns of the batch are called; the others are left out.
      batch: the rows.
    """
    rows = rows_within_limit(batch.nbytes, batch.num_rows)
    for start in range(0, batch.num_rows, rows):
        piece = batch.slice(start, rows)
        yield RowBatch(
            numbers=numbers[start : start + rows],
            columns={name: piece.column(index) for index, name in enumerate(names)},
        )


def rows_within_limit(size: int, rows: int) -> int:
    """How many rows make a batch, if `rows` of them take `size` bytes; at least one."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))
