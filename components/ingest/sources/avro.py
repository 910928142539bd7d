"""Reading Avro object container files: one record per row, whose fields are the columns."""

import operator
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa

from privet.components.ingest.batches import RowBatch, batch_of_rows
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources.batching import in_batches, size_of
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import SourceStream
from privet.components.shared.errors import DataError

_PRIMITIVES = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
_LOGICAL = {
    "date": pa.date32(),
    "time-millis": pa.time64("us"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("us", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("us"),
    "local-timestamp-micros": pa.timestamp("us"),
    "uuid": pa.string(),
}
_LIBRARIES = {"snappy": "cramjam", "zstandard": "backports.zstd", "lz4": "lz4"}


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """One portion: a row's number is only known by reading all blocks before it."""
    path, name = source
    return [Portion(name=name, first_row=0, source=path)]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The fields with their types; None for a map, a record or a union of several types.

    Raises:
      DataError: the file cannot be read.
    """
    fields = _schema(portion.source)["fields"]
    try:
        return {field["name"]: _arrow_type(field["type"]) for field in fields}
    except (KeyError, TypeError, ValueError):  # pyarrow's errors are ValueErrors
        raise CorruptFileError(portion.source, "its schema is not valid") from None


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows, each wanted column as Python values; logical types as Python has them.

    Raises:
      CorruptFileError: the file is damaged, or is no Avro file.
      DataError: it is compressed in a way that cannot be read here, or cannot be read at all.
    """
    path = portion.source
    schema = _only(_schema(path), wanted)
    with SourceStream(path) as stream:
        records = _records(stream, schema, path)
        first = 1
        for batch in in_batches(records, size=operator.itemgetter(1)):
            rows = [row for row, _ in batch]
            yield batch_of_rows(range(first, first + len(rows)), rows, wanted)
            first += len(rows)


def _schema(path: str) -> dict[str, Any]:
    """The schema in a file's header."""
    with SourceStream(path) as stream:
        schema = _open(stream, None, path).writer_schema
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise CorruptFileError(path, "its schema is not a record, so it has no columns")
    return schema


def _only(schema: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any] | None:
    """The schema cut down to the wanted fields.

    None (read all) if one of them refers to a type that a field cut away defines.
    """
    import fastavro
    from fastavro.schema import UnknownType

    fields = [field for field in schema["fields"] if field["name"] in wanted]
    try:
        fastavro.parse_schema(smaller := {**schema, "fields": fields})
    except UnknownType:
        return None
    return smaller


def _open(stream: SourceStream, schema: dict[str, Any] | None, path: str) -> Any:
    import fastavro

    try:
        return fastavro.block_reader(cast(Any, stream), schema)
    except Exception as error:  # fastavro has no errors of its own, and hides the stream's
        if stream.failure:
            raise stream.failure from None
        reason = f"it does not start as an Avro file does ({type(error).__name__})"
        raise CorruptFileError(path, reason) from None


def _records(
    stream: SourceStream, schema: dict[str, Any] | None, path: str
) -> Iterator[tuple[dict[str, Any], int]]:
    """Every record with the bytes that it takes: about those of the first record of its block."""
    blocks = _open(stream, schema, path)
    try:
        for block in blocks:
            size = 0
            for record in block:
                size = size or size_of(list(record.values()))
                yield record, size
            if block.bytes_.read(1):
                raise CorruptFileError(path, "a block holds more than its records")
    except DataError:
        raise
    except Exception as error:
        if stream.failure:
            raise stream.failure from None
        if "need to install" in str(error):
            raise DataError(
                f"{path} is compressed with {blocks.codec}, for which a library is missing: "
                f"install {_LIBRARIES.get(blocks.codec, 'it')}, or write the file with deflate."
            ) from error
        reason = f"a block is damaged or incomplete ({type(error).__name__})"
        raise CorruptFileError(path, reason) from None  # its text may quote a value


def _arrow_type(schema: Any) -> pa.DataType | None:
    """The Arrow type of a field's schema."""
    if isinstance(schema, list):
        types = [branch for branch in schema if branch != "null"]
        return _arrow_type(types[0]) if len(types) == 1 else None
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema)
    logical = schema.get("logicalType")
    if logical == "decimal":
        return pa.decimal256(min(schema["precision"], 76), schema.get("scale", 0))
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if schema["type"] == "array":
        items = _arrow_type(schema["items"])
        return None if items is None else pa.list_(items)
    if schema["type"] == "fixed":
        return pa.binary(schema["size"])
    return _arrow_type(schema["type"])
