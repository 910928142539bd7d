"""Avro: a file of records; a list becomes an array."""

from collections.abc import Iterable
from typing import Any

from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.rows import rows_of
from privet.components.ingest.export.table import Table
from privet.components.shared import files
from privet.components.shared.errors import DataError

_TYPES = {"float32": "float", "int64": "long", "uint8": "int"}


def write_avro(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes an Avro file.

    Raises:
      DataError: a column has a name that Avro does not allow.
    """
    import fastavro

    schema = fastavro.parse_schema(avro_schema(table))
    with files.open_write(path) as file:
        fastavro.writer(file, schema, (row for block in blocks for row in rows_of(block, table)))


def avro_schema(table: Table) -> dict[str, Any]:
    """The schema of a row.

    Raises:
      DataError: a column has a name that Avro does not allow.
    """
    types: dict[str, Any] = {table.client_id: "string", table.split: "string"}
    for column in table.columns:
        kind = _TYPES[column.dtype]
        types[column.name] = kind if column.size is None else {"type": "array", "items": kind}
    odd = [name for name in types if not (name.isascii() and name.isidentifier())]
    if odd:
        raise DataError(
            f"Avro does not allow the column name {odd[0]!r}: a name there has letters, digits and "
            "_ only, and does not begin with a digit. Choose another --format."
        )
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    return {"type": "record", "name": "example", "namespace": "privet", "fields": fields}
