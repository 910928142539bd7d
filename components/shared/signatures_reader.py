"""What a server reads out of a .tflite file, with flatbuffers alone and without TensorFlow.

The file is a flatbuffer; the numbers below are those of the fields in TensorFlow Lite's
`schema.fbs`, where a field keeps its number for good.
"""

from typing import Any

from privet.components.shared.errors import ServingError

METADATA_NAME = "signature_defs_metadata"
"""The buffer in which TF Serving looks for SignatureDefs; see `signatures`."""

FILE_IDENTIFIER = b"TFL3"

# Fields of the tables: their places in the schema.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_METADATA = 1, 2, 4, 6
_OPERATOR_CUSTOM_CODE = 1
_SUBGRAPH_TENSORS = 0
_TENSOR_NAME, _TENSOR_HAS_RANK = 3, 8
_BUFFER_DATA = 0
_METADATA_NAME, _METADATA_BUFFER = 0, 1


def read_serialized_signatures(tflite: bytes) -> dict[str, bytes]:
    """Returns the SignatureDefs that TF Serving reads, serialized; {} when there are none.

    Raises:
      ServingError: `tflite` is no model, or the buffer holds something else.
    """
    from flatbuffers import flexbuffers

    model = _model(tflite)
    for entry in _tables(model, _MODEL_METADATA):
        if _bytes(entry, _METADATA_NAME).decode() != METADATA_NAME:
            continue
        buffer = _tables(model, _MODEL_BUFFERS)[_number(entry, _METADATA_BUFFER, 4)]
        try:
            found = flexbuffers.GetRoot(bytearray(_bytes(buffer, _BUFFER_DATA))).AsMap
            keys, values = found.Keys, found.Values
            return {
                bytes(keys[i].AsKeyBytes).decode(): bytes(values[i].AsStringBytes)
                for i in range(len(keys))
            }
        except Exception as error:  # flexbuffers raises many kinds
            raise unreadable_signatures(error) from error
    return {}


def unreadable_signatures(error: Exception) -> ServingError:
    """The error for a buffer that holds something else than SignatureDefs."""
    return ServingError(
        f"Wanted a flexbuffers map of SignatureDefs in the model's {METADATA_NAME} buffer; "
        f"reading it failed with {type(error).__name__}: {error}. Export the model again."
    )


def custom_operators(tflite: bytes) -> set[str]:
    """The names of the operators that are not TensorFlow Lite's own, such as FlexMatrixInverse.

    Raises:
      ServingError: `tflite` is no model.
    """
    codes = _tables(_model(tflite), _MODEL_OPERATOR_CODES)
    return {_bytes(code, _OPERATOR_CUSTOM_CODE).decode() for code in codes} - {""}


def unranked_tensors(tflite: bytes) -> set[str]:
    """The names of the tensors of the main graph that may have any rank.

    In the interpreter's own answer they look like scalars.

    Raises:
      ServingError: `tflite` is no model.
    """
    tensors = _tables(_tables(_model(tflite), _MODEL_SUBGRAPHS)[0], _SUBGRAPH_TENSORS)
    return {
        _bytes(tensor, _TENSOR_NAME).decode()
        for tensor in tensors
        if not _number(tensor, _TENSOR_HAS_RANK, 1)
    }


def check_identifier(tflite: bytes) -> None:
    """Refuses bytes that are no TFLite model.

    Raises:
      ServingError: the file identifier is missing.
    """
    if tflite[4:8] != FILE_IDENTIFIER:
        raise ServingError(
            "Wanted the bytes of a TFLite model (TFL3 at byte 4); got "
            f"{tflite[:8]!r} ({len(tflite)} bytes). Pass what TFLiteConverter.convert() returned."
        )


def _model(tflite: bytes) -> Any:
    """The root table; nothing is copied."""
    from flatbuffers.table import Table

    check_identifier(tflite)
    return Table(tflite, int.from_bytes(tflite[:4], "little"))


def _tables(table: Any, field: int) -> list[Any]:
    """A field that is a vector of tables; [] if it is not there."""
    from flatbuffers.table import Table

    offset = _offset(table, field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))
    ]


def _bytes(table: Any, field: int) -> bytes:
    """A field that is a text or a vector of bytes; b"" if it is not there."""
    offset = _offset(table, field)
    if not offset:
        return b""
    start = table.Vector(offset)
    return bytes(table.Bytes[start : start + table.VectorLen(offset)])


def _number(table: Any, field: int, width: int) -> int:
    """A field that is an unsigned number of so many bytes; 0 if it is not there."""
    offset = _offset(table, field)
    start = table.Pos + offset
    return int.from_bytes(table.Bytes[start : start + width], "little") if offset else 0


def _offset(table: Any, field: int) -> int:
    """Where a field lies in its table; 0 if it is not there."""
    place: int = table.Offset(4 + 2 * field)
    return place
