"""What every source gives: batches of rows, column by column, with their positions."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Column: TypeAlias = pa.Array | Sequence[Any]
"""Values of a column, one per row: an Arrow array, or plain Python values of any types (None, or
a row without the column, is a missing value). Both mean the same; Arrow is the quick way."""

BATCH_ROWS = 8192
"""Rows of a batch at most; fewer where rows are large."""

BATCH_BYTES = 16 << 20
"""About how much memory a batch may take."""


@dataclasses.dataclass(frozen=True)
class Malformed:
    """A row that is no row: it could not be read into columns.

    Attributes:
      number: its position.
      reason: what is wrong; never quotes a value.
      raw: its text, for keep_rejected_rows.
    """

    number: int
    reason: str
    raw: str | None = None


@dataclasses.dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of a source.

    Attributes:
      numbers: int64 [rows]; positions of the rows in the source, counted from 1 (a CSV's header
        does not count; in a file of SequenceExamples every step is a row). Ascending.
      columns: name -> values, for the columns that were asked for. A column that no row of the
        batch has may be absent.
      malformed: rows among them that could not be read; their numbers are not in `numbers`.
    """

    numbers: np.ndarray
    columns: Mapping[str, Column]
    malformed: tuple[Malformed, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)


def batch_of_rows(
    numbers: Iterable[int],
    rows: Sequence[Mapping[str, Any]],
    columns: Iterable[str],
    malformed: tuple[Malformed, ...] = (),
) -> RowBatch:
    """A batch out of rows that are mappings (JSON lines, Avro records, database rows).

    >>> batch_of_rows([1, 2], [{"a": 1}, {"a": None, "b": 2}], ["a"]).columns
    {'a': [1, None]}
    """
    return RowBatch(
        numbers=np.fromiter(numbers, np.int64),
        columns={name: [row.get(name) for row in rows] for name in columns},
        malformed=malformed,
    )
