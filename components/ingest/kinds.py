"""What a column of a source holds, as far as types, sizes and the first rows tell."""

import dataclasses
import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import Column
from privet.components.ingest.columns import (
    decoded,
    is_bytes_type,
    is_list_type,
    number_of,
    python_values,
)

Dtype = Literal["float32", "int64", "uint8"]

_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_GRAY = ("1", "L", "LA", "I", "I;16", "F")  # Pillow's modes with one channel


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a column holds: its type and shape (None for a scalar), and what the source said."""

    dtype: Dtype
    shape: tuple[int, ...] | None = None
    image: bool = False
    said: pa.DataType | None = None


class NotInferredError(Exception):
    """What a column holds instead of something that can be a feature."""


def kind_of(told: pa.DataType | None, column: Column) -> Kind:
    """What a column holds, by its type or, where there is none, by its values."""
    if told is None:
        return _kind_of_values(_present(column))
    if isinstance(told, pa.FixedShapeTensorType):
        return Kind(_dtype_of(told.value_type, inside=True), tuple(told.shape), said=told)
    plain = told
    if isinstance(plain, pa.BaseExtensionType):
        plain = plain.storage_type
    if pa.types.is_dictionary(plain):
        plain = plain.value_type
    if is_bytes_type(plain):
        return dataclasses.replace(_kind_of_bytes(_present(column)), said=told)
    if not is_list_type(plain):
        return Kind(_dtype_of(plain, inside=False), said=told)
    sizes: list[int | None] = []
    while is_list_type(plain):
        sizes.append(plain.list_size if pa.types.is_fixed_size_list(plain) else None)
        plain = plain.value_type
    dtype = _dtype_of(plain, inside=True)
    if None in sizes:
        sizes = list(_shape_of(_first(_present(column[:1]) or _present(column)), len(sizes)))
    return Kind(dtype, _checked_shape(sizes), said=told)


def _kind_of_values(values: Sequence[Any]) -> Kind:
    """What values without a type hold; none of them is missing."""
    value = _first(values)
    if isinstance(value, bytes):
        return _kind_of_bytes(values)
    if isinstance(value, str):
        return Kind(_dtype_of_texts(values))
    if isinstance(value, (list, tuple, np.ndarray)):
        if isinstance(value, np.ndarray):
            dtype, shape = value.dtype, value.shape
        else:
            try:
                array = np.asarray(value)
            except ValueError:
                raise NotInferredError("lists of unequal length") from None
            dtype, shape = array.dtype, array.shape
        mixed = any(np.asarray(other).dtype.kind == "f" for other in _same_length(values, value))
        return Kind("float32" if mixed else _dtype_of_numpy(dtype), _checked_shape(shape))
    if all(isinstance(one, (bool, int, np.integer, np.bool_)) for one in values):
        return Kind("int64")
    if all(number_of(one, "float") is not None for one in values):
        return Kind("float32")
    raise NotInferredError(f"values of type {type(value).__name__}")


def _dtype_of(kind: pa.DataType, *, inside: bool) -> Dtype:
    """The dtype for a scalar type; `inside` of a list uint8 stays uint8."""
    if inside and kind == pa.uint8():
        return "uint8"
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "int64"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float32"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        raise NotInferredError("text")
    raise NotInferredError(f"values of type {kind}")


def _dtype_of_numpy(dtype: np.dtype) -> Dtype:
    if dtype == np.uint8:
        return "uint8"
    if dtype.kind in "iub":
        return "int64"
    if dtype.kind == "f":
        return "float32"
    raise NotInferredError("lists of text" if dtype.kind in "US" else "lists of other than numbers")


def _dtype_of_texts(texts: Sequence[Any]) -> Dtype:
    """The dtype of numbers written as text, as in CSV."""
    if all(isinstance(text, str) and number_of(text, "int") is not None for text in texts):
        return "int64"
    if all(isinstance(text, str) and number_of(text, "float") is not None for text in texts):
        return "float32"
    raise NotInferredError("text")


def _kind_of_bytes(values: Sequence[Any]) -> Kind:
    """An image of the first one's size, or so many raw bytes."""
    content = _first(values)
    if content.startswith(_IMAGES):
        return Kind("uint8", _image_shape(content), image=True)
    if all(_is_text(value) for value in values):  # TFRecord stores text as bytes
        raise NotInferredError("text")
    if any(len(value) != len(content) for value in values):
        raise NotInferredError("bytes of unequal length, neither PNG nor JPEG")
    return Kind("uint8", (len(content),))


def _image_shape(content: bytes) -> tuple[int, ...]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            size = (image.height, image.width)
            return size if image.mode in _GRAY else (*size, 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise NotInferredError("a damaged image in the first row") from None


def _is_text(value: Any) -> bool:
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _shape_of(value: Any, axes: int) -> list[int]:
    """The sizes of a nested list; every part must be as large as the first."""
    sizes: list[int] = []
    level = [value]
    for _ in range(axes):
        if any(part is None or len(part) != len(level[0]) for part in level):
            raise NotInferredError("lists of unequal length")
        sizes.append(len(level[0]))
        level = [part for parts in level for part in parts]
    return sizes


def _checked_shape(sizes: Iterable[int | None]) -> tuple[int, ...]:
    shape = tuple(int(size or 0) for size in sizes)
    if 0 in shape:
        raise NotInferredError("an empty list in the first row")
    return shape


def _same_length(values: Sequence[Any], value: Any) -> list[Any]:
    same = (list, tuple, np.ndarray)
    return [one for one in values if isinstance(one, same) and np.shape(one) == np.shape(value)]


def _present(column: Column) -> list[Any]:
    """The values that are not missing; an empty text is."""
    values = python_values(decoded(column))
    return [v for v in values if v is not None and not (isinstance(v, (str, bytes)) and not v)]


def _first(values: Sequence[Any]) -> Any:
    if not values:
        raise NotInferredError("no value in the first rows")
    return values[0]
