"""Parquet: one row group per block; a list becomes a column of lists of fixed size."""

from collections.abc import Iterable

from privet.components.ingest.export.arrow_batches import arrow_schema, record_batch
from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.table import Table
from privet.components.shared import files


def write_parquet(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes a Parquet file."""
    import pyarrow.parquet

    schema = arrow_schema(table)
    names = [table.client_id, table.split]  # a dictionary of values would take most of the time
    with (
        files.open_write(path) as file,
        pyarrow.parquet.ParquetWriter(
            file, schema, use_dictionary=names, write_statistics=names
        ) as writer,
    ):
        for block in blocks:
            writer.write_batch(record_batch(block, table, schema))
