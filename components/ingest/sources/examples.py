"""Turning records of tf.train.Example into columns.

Not by tf.io.parse_example: it gives up a whole batch for one record that it cannot read, and
writes that record, a client's data, into the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from privet.components.ingest.batches import Column, Malformed, RowBatch
from privet.components.shared.tf_example import Example

Shape = tuple[str, int]
"""What a feature holds: a kind of values and how many."""

SAMPLE = 100
"""How many records are looked at to learn what columns there are."""

MEMORY_PER_BYTE = 4
"""Bytes in memory per byte of a record, about: an int64 is one byte or more in a record."""

NO_EXAMPLE = "the record is not a tf.train.Example"

_ARROW = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}


def parse(numbers: Sequence[int], records: Sequence[bytes], wanted: Iterable[str]) -> RowBatch:
    """One row per record.

    Args:
      numbers: positions of the records.
      records: serialized tf.train.Examples; what is none becomes a malformed row.
      wanted: names of the features to read.

    Returns:
      A batch with the columns of `as_column`.
    """
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    good: list[int] = []
    malformed: list[Malformed] = []
    for number, record in zip(numbers, records, strict=True):
        features = _features(record)
        if features is None:
            malformed.append(Malformed(number, NO_EXAMPLE))
            continue
        good.append(number)
        for name, values in columns.items():
            feature = features.get(name)
            values.append(None if feature is None else value_of(feature))
    return RowBatch(
        np.asarray(good, np.int64),
        {name: as_column(values) for name, values in columns.items()},
        tuple(malformed),
    )


def value_of(feature: Any) -> Any:
    """The value of a tf.train.Feature: a scalar, a list of bytes, an array, or None for none."""
    kind = feature.WhichOneof("kind")
    if kind is None:
        return None
    holder = getattr(feature, kind)
    values = holder.value
    if len(values) <= 1:
        return values[0] if values else None
    if kind == "float_list":
        return _floats(holder)
    return values[:] if kind == "bytes_list" else np.array(values[:], np.int64)


def as_column(values: list[Any]) -> Column:
    """The values of rows as one block of memory where all are arrays of the same length."""
    first = values[0] if values else None
    if not isinstance(first, np.ndarray) or not all(
        isinstance(value, np.ndarray) and value.shape == first.shape and value.dtype == first.dtype
        for value in values
    ):
        return values
    return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values)), len(first))


def columns_of(records: Iterable[bytes]) -> dict[str, pa.DataType | None]:
    """The features of some records, with their types where all the records agree."""
    found: dict[str, set[Shape]] = {}
    for record in records:
        for name, feature in (_features(record) or {}).items():
            found.setdefault(name, set()).update(shape_of(feature))
    return {name: arrow_type(shapes) for name, shapes in sorted(found.items())}


def shape_of(feature: Any) -> set[Shape]:
    """The kind and the number of the values of a tf.train.Feature; nothing if it is empty."""
    kind = feature.WhichOneof("kind")
    size = len(getattr(feature, kind).value) if kind else 0
    return {(kind, size)} if size else set()


def arrow_type(shapes: Iterable[Shape]) -> pa.DataType | None:
    """The type of a column, of values of these kinds and lengths; None if they do not agree."""
    kinds = {kind for kind, _ in shapes}
    sizes = {size for _, size in shapes}
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    if sizes == {1}:
        return _ARROW[kind]
    return pa.list_(_ARROW[kind], sizes.pop()) if len(sizes) == 1 else pa.list_(_ARROW[kind])


def _features(record: bytes) -> Mapping[str, Any] | None:
    """The features of a record, or None if it is no Example."""
    try:
        return Example.FromString(record).features.feature
    except DecodeError:
        return None


def _floats(float_list: Any) -> np.ndarray:
    """The values of a FloatList, ten times faster than one by one.

    On the wire they are what NumPy holds: little-endian floats, one after another, after the
    field's tag and length. Anything else (unknown fields) is read one by one.
    """
    count = len(float_list.value)
    packed = float_list.SerializeToString()
    head = len(packed) - 4 * count
    if head == 1 + ((4 * count).bit_length() + 6) // 7:
        return np.frombuffer(packed, "<f4", count, head)
    return np.array(float_list.value[:], np.float32)
