"""Blocks as rows of plain Python values, for formats that are written row by row."""

from collections.abc import Iterator
from typing import Any

from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.table import Table

Value = float | int | list[float] | list[int]


def rows_of(block: Block, table: Table) -> Iterator[dict[str, Any]]:
    """The rows as mappings of column names, the client id and the split first."""
    names = (table.client_id, table.split, *(column.name for column in table.columns))
    for client_id, values in zip(block.row_ids, values_of(block, table), strict=True):
        yield dict(zip(names, (client_id, block.split, *values), strict=True))


def values_of(block: Block, table: Table) -> Iterator[tuple[Value, ...]]:
    """The values of each row in the order of table.columns."""
    return zip(*(column.values(block).tolist() for column in table.columns), strict=True)
