"""Text: CSV, whose columns hold one value each, and JSON lines, where lists are lists."""

from collections.abc import Iterable

import msgspec

from privet.components.ingest.export.arrow_batches import arrow_schema, record_batch
from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.rows import rows_of
from privet.components.ingest.export.table import Table
from privet.components.shared import files


def write_csv(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes a CSV file in UTF-8 with a header; numbers have the digits that give them back."""
    import pyarrow.csv

    schema = arrow_schema(table)
    with files.open_write(path) as file, pyarrow.csv.CSVWriter(file, schema) as writer:
        for block in blocks:
            writer.write_batch(record_batch(block, table, schema))


def write_json_lines(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes one JSON object per row."""
    encoder = msgspec.json.Encoder()
    with files.open_write(path) as file:
        for block in blocks:
            file.write(encoder.encode_lines(rows_of(block, table)))
