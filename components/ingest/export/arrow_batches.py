"""Blocks as Arrow record batches, without a look at single values."""

import math

import numpy as np
import pyarrow as pa

from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.table import Table

_TYPES = {"float32": pa.float32(), "int64": pa.int64(), "uint8": pa.uint8()}


def arrow_schema(table: Table) -> pa.Schema:
    """The columns with their types; lists have a fixed size, and nothing is ever missing."""
    fields = [(table.client_id, pa.string()), (table.split, pa.string())]
    for column in table.columns:
        kind = _TYPES[column.dtype]
        if column.size is not None:
            kind = pa.list_(pa.field("element", kind, nullable=False), column.size)
        fields.append((column.name, kind))
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def record_batch(block: Block, table: Table, schema: pa.Schema) -> pa.RecordBatch:
    """A block as one record batch of the schema."""
    clients = np.repeat(np.arange(len(block.client_ids), dtype=np.int32), block.counts)
    arrays = [
        pa.array(block.client_ids, pa.string()).take(pa.array(clients)),
        pa.repeat(pa.scalar(block.split), len(block)),
    ]
    for column, kind in zip(table.columns, schema.types[2:], strict=True):
        values = np.ascontiguousarray(column.values(block))
        flat = pa.array(values.reshape(math.prod(values.shape)), _TYPES[column.dtype])
        listed = column.size is not None
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=kind) if listed else flat)
    return pa.record_batch(arrays, schema=schema)
