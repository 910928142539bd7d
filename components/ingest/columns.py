"""Turning a column of any type into numbers: whole Arrow arrays at once, else value by value.

The quick way (Arrow, NumPy) is taken only where it gives exactly what the slow one would:
`number_of` is what a value means, everything else is speed.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privet.components.ingest.batches import Column
from privet.components.ingest.problems import Problems

Kind = Literal["float", "int"]

_NUMPY = {"float": np.dtype(np.float64), "int": np.dtype(np.int64)}
_ARROW = {"float": pa.float64(), "int": pa.int64()}
_PLAIN = {"float": r"^-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$", "int": r"^-?[0-9]{1,18}$"}
_NOT = {"float": "is not a number", "int": "is not a whole number"}


def decoded(column: Column) -> Column:
    """An Arrow column without dictionary encoding or chunks; any other as it is."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.DictionaryArray):
        return column.dictionary_decode()
    if isinstance(column, pa.ExtensionArray):
        return column.storage
    return column


def python_values(column: Column) -> Sequence[Any]:
    """The values of a column as Python objects."""
    return column.to_pylist() if isinstance(column, pa.Array) else column


def to_numbers(
    column: Column, kind: Kind, name: str, problems: Problems, fill: float | None = None
) -> np.ndarray:
    """One number per row.

    Args:
      column: the values.
      kind: float or int.
      name: the column's name, for the reasons.
      problems: gets the rows that hold no such number; their result is 0.
      fill: stands for a missing value.

    Returns:
      float64 or int64 [rows].
    """
    column = decoded(column)
    quick = _arrow_numbers(column, kind) if isinstance(column, pa.Array) else None
    if quick is None and not isinstance(column, pa.Array):
        quick = _list_numbers(column, kind)
    if quick is None:
        if isinstance(column, pa.Array) and _is_string(column.type):
            return _text_numbers(column, kind, name, problems, fill)
        return _each_number(python_values(column), kind, name, problems, fill)
    values, missing = quick
    if kind == "float" and fill is not None:
        missing = missing | np.isnan(values)
    if missing.any():
        values = np.where(missing, 0 if fill is None else fill, values).astype(values.dtype)
        if fill is None:
            problems.mark(missing, f"column {name} is missing")
    return values


def to_vectors(
    column: Column,
    kind: Kind,
    size: int,
    name: str,
    problems: Problems,
    fill: float | None = None,
) -> np.ndarray:
    """`size` numbers per row, out of lists, nested lists, arrays or (kind int) raw bytes.

    Returns:
      An array [rows, size] of a type that holds the values; refused rows are 0.
    """
    column = decoded(column)
    if not isinstance(column, pa.Array):
        return _each_vector(column, kind, size, name, problems, fill)
    quick = _arrow_vectors(column, kind, size)
    if quick is not None:
        if fill is None or kind == "int":
            return quick
        return np.where(np.isnan(quick), quick.dtype.type(fill), quick)
    if not (is_list_type(column.type) or is_bytes_type(column.type)):
        return _each_vector(column.to_pylist(), kind, size, name, problems, fill)
    return _mixed_vectors(column, kind, size, name, problems, fill)


def to_strings(column: Column, what: str, problems: Problems, fill: str | None = None) -> pa.Array:
    """One string per row; whole numbers count as their digits, bytes as UTF-8.

    Args:
      column: the values.
      what: they are called in reasons, as "column x".
      problems: gets the rows that hold no string.
      fill: stands for a missing value.

    Returns:
      A string array without nulls; refused rows are "".
    """
    column = decoded(column)
    if isinstance(column, pa.Array) and _is_texty(column.type):
        try:
            strings = column.cast(pa.string())
        except pa.ArrowInvalid:  # bytes that are no UTF-8: find out which
            pass
        else:
            missing = pc.fill_null(pc.equal(strings, ""), True).to_numpy(zero_copy_only=False)
            if missing.any():
                if fill is None:
                    problems.mark(missing, f"{what} is missing")
                strings = pc.if_else(pa.array(missing), fill or "", strings)
            return strings
    return pa.array(
        [
            _string_of(value, row, what, problems, fill)
            for row, value in enumerate(python_values(column))
        ],
        pa.string(),
    )


def is_vector(column: Column) -> bool:
    """Whether values of a column are lists, arrays or raw bytes."""
    if isinstance(column, pa.Array):
        return is_list_type(column.type) or is_bytes_type(column.type)
    return any(isinstance(value, (list, tuple, np.ndarray, bytes)) for value in column)


def is_list(column: Column) -> bool:
    """Whether values of a column are lists or arrays."""
    if isinstance(column, pa.Array):
        return is_list_type(column.type)
    return any(isinstance(value, (list, tuple, np.ndarray)) for value in column)


def number_of(value: Any, kind: Kind) -> float | int | None:
    """The number that a value means, or None.

    >>> number_of(" 1.5 ", "float"), number_of("3.0", "int"), number_of(3.0, "int")
    (1.5, None, 3)
    """
    if isinstance(value, str) and "_" in value:  # Python's own 1_000
        return None
    try:
        number = float(value) if kind == "float" else int(value)
        whole = kind == "float" or isinstance(value, (str, bytes)) or number == value
    except OverflowError:
        return math.inf if kind == "float" else None
    except (TypeError, ValueError):
        return None
    return number if whole and (kind == "float" or -(2**63) <= number < 2**63) else None


def _each_number(
    values: Sequence[Any], kind: Kind, name: str, problems: Problems, fill: float | None
) -> np.ndarray:
    result = np.zeros(len(values), _NUMPY[kind])
    for row, value in enumerate(values):
        missing = value is None or (isinstance(value, (str, bytes)) and not value)
        number = None if missing else number_of(value, kind)
        if fill is not None and (missing or _is_nan(value) or _is_nan(number)):
            result[row] = fill
        elif missing:
            problems.mark_row(row, f"column {name} is missing")
        elif number is None:
            problems.mark_row(row, f"column {name} {_NOT[kind]}")
        else:
            result[row] = number
    return result


def _text_numbers(
    column: pa.Array, kind: Kind, name: str, problems: Problems, fill: float | None
) -> np.ndarray:
    """Numbers of a text column with some odd cells: the plain ones at once, the odd one by one."""
    plain = np.asarray(pc.fill_null(pc.match_substring_regex(column, _PLAIN[kind]), False))
    result = np.zeros(len(column), _NUMPY[kind])
    result[plain] = column.filter(pa.array(plain)).cast(_ARROW[kind]).to_numpy()
    odd = np.flatnonzero(~plain)
    inner = Problems(len(odd))
    result[odd] = _each_number(column.take(pa.array(odd)).to_pylist(), kind, name, inner, fill)
    for position, reason in inner.found().items():
        problems.mark_row(int(odd[position]), reason)
    return result


def _mixed_vectors(
    column: pa.Array, kind: Kind, size: int, name: str, problems: Problems, fill: float | None
) -> np.ndarray:
    """Vectors of a column with some odd rows: the usual rows at once, the odd ones one by one."""
    lengths = _lengths(column)
    found, counts = np.unique(lengths, return_counts=True)
    usual = (lengths == found[counts.argmax()]) & (lengths >= 0) & ~_holds_missing(column, lengths)
    quick = _arrow_vectors(column.filter(pa.array(usual)), kind, size) if usual.any() else None
    if quick is None:
        return _each_vector(column.to_pylist(), kind, size, name, problems, fill)
    values = np.zeros((len(column), size), quick.dtype if fill is None else _NUMPY[kind])
    if fill is not None and kind == "float":
        quick = np.where(np.isnan(quick), fill, quick)
    values[usual] = quick
    odd = np.flatnonzero(~usual)
    inner = Problems(len(odd))
    odd_values = column.take(pa.array(odd)).to_pylist()
    values[odd] = _each_vector(odd_values, kind, size, name, inner, fill)
    for position, reason in inner.found().items():
        problems.mark_row(int(odd[position]), reason)
    return values


def _each_vector(
    values: Sequence[Any], kind: Kind, size: int, name: str, problems: Problems, fill: float | None
) -> np.ndarray:
    result = np.zeros((len(values), size), _NUMPY[kind])
    for row, value in enumerate(values):
        if value is None or (fill is not None and _is_nan(value)):
            if fill is None:
                problems.mark_row(row, f"column {name} is missing")
            else:
                result[row] = fill
            continue
        parts = _parts(value, kind)
        if len(parts) != size:
            problems.mark_row(row, f"column {name} does not hold {size} values")
            continue
        inner = Problems(size)
        result[row] = to_numbers(parts, kind, name, inner, fill)
        for reason in list(inner.found().values())[:1]:
            problems.mark_row(row, reason)
    return result


def _arrow_numbers(column: pa.Array, kind: Kind) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers and what is missing, or None where only a look at each value can tell."""
    kind_type = column.type
    if _is_string(kind_type):
        missing = pc.fill_null(pc.equal(column, ""), True)
        odd = pc.match_substring_regex(column, "[xX_]")  # Arrow reads hexadecimal numbers
        if pc.any(odd).as_py():
            return None
        column = pc.if_else(missing, "0", column)
    elif pa.types.is_null(kind_type):
        missing = pa.array(np.ones(len(column), bool))
        column = pa.array(np.zeros(len(column)), _ARROW[kind])
    elif (
        pa.types.is_integer(kind_type)
        or pa.types.is_floating(kind_type)
        or pa.types.is_boolean(kind_type)
    ):
        missing = pc.is_null(column)
        if column.null_count:
            column = pc.fill_null(column, pa.scalar(0).cast(kind_type))
    else:
        return None
    try:
        numbers = column.cast(_ARROW[kind])
    except pa.ArrowInvalid:
        return None
    return numbers.to_numpy(), missing.to_numpy(zero_copy_only=False)


def _list_numbers(column: Sequence[Any], kind: Kind) -> tuple[np.ndarray, np.ndarray] | None:
    """The same for Python values, when all are plain numbers."""
    try:
        values = np.asarray(column)
    except (ValueError, OverflowError):
        return None
    if values.ndim != 1 or values.dtype.kind not in "iufb" or values.dtype == np.uint64:
        return None
    if kind == "int" and values.dtype.kind == "f":
        exact = (
            np.abs(values) < 2.0**53
        )  # a larger integer among floats was rounded; NaN is not below
        if not exact.all() or (values != np.trunc(values)).any():
            return None
    return values.astype(_NUMPY[kind]), np.zeros(len(values), bool)


def _arrow_vectors(column: pa.Array, kind: Kind, size: int) -> np.ndarray | None:
    """The vectors of a column in which every row has `size` present values, else None."""
    rows = len(column)
    if column.null_count:
        return None
    if is_bytes_type(column.type):
        return _byte_vectors(column, size) if kind == "int" else None
    while is_list_type(column.type):
        lengths = _lengths(column)
        if column.null_count or (lengths != lengths[:1]).any():
            return None
        column = column.flatten()
    if len(column) != rows * size or column.null_count:
        return None
    same = pa.types.is_floating if kind == "float" else pa.types.is_integer
    if same(column.type) and column.type != pa.uint64():
        return column.to_numpy().reshape(rows, size)  # no wider than it is: images stay bytes
    quick = _arrow_numbers(column, kind)
    return None if quick is None or quick[1].any() else quick[0].reshape(rows, size)


def _byte_vectors(column: pa.Array, size: int) -> np.ndarray | None:
    """Raw bytes as uint8 [rows, size], if all rows have that length."""
    if (_lengths(column) != size).any():
        return None
    data = column.buffers()[-1]
    if pa.types.is_fixed_size_binary(column.type):
        start = column.offset * size
    else:
        width = np.int64 if pa.types.is_large_binary(column.type) else np.int32
        start = int(np.frombuffer(column.buffers()[1], width)[column.offset]) if len(column) else 0
    count = len(column) * size
    return np.frombuffer(data, np.uint8, count, start).reshape(len(column), size)


def _lengths(column: pa.Array) -> np.ndarray:
    """Values (or bytes) of each row; -1 for a missing row."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        lengths = pa.array(np.full(len(column), kind.list_size))
    elif is_list_type(kind):
        lengths = pc.list_value_length(column)
    else:
        lengths = pc.binary_length(column)
    present = pc.is_valid(column)
    return np.asarray(pc.if_else(present, lengths, -1).cast(pa.int64()))


def _holds_missing(column: pa.Array, lengths: np.ndarray) -> np.ndarray:
    """bool [rows]: whether a value inside the row's list is missing."""
    holds = np.zeros(len(column), bool)
    if is_list_type(column.type):
        flat = column.flatten()  # leaves missing rows out
        if flat.null_count:
            rows = np.repeat(np.arange(len(column)), np.maximum(lengths, 0))
            holds[rows[np.asarray(flat.is_null())]] = True
    return holds


def _parts(value: Any, kind: Kind) -> Column:
    """The numbers that one value holds, in C order; a scalar holds one."""
    if isinstance(value, bytes) and kind == "int":
        return np.frombuffer(value, np.uint8)
    if isinstance(value, np.ndarray):
        return value.reshape(-1)
    if isinstance(value, (list, tuple)):
        return [part for inner in value for part in _parts(inner, kind)]
    return [value]


def _string_of(value: Any, row: int, what: str, problems: Problems, fill: str | None) -> str:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            problems.mark_row(row, f"{what} is not text in UTF-8")
            return ""
    if value is None or (isinstance(value, str) and not value):
        if fill is None:
            problems.mark_row(row, f"{what} is missing")
        return fill or ""
    if isinstance(value, (bool, float)) or not isinstance(value, (str, int, np.integer)):
        problems.mark_row(row, f"{what} is not text")
        return ""
    text = str(value)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        problems.mark_row(row, f"{what} is not text in UTF-8")
        return ""
    return text


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_list_type(kind: pa.DataType) -> bool:
    """Whether values of the type are lists."""
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_bytes_type(kind: pa.DataType) -> bool:
    """Whether values of the type are raw bytes."""
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_texty(kind: pa.DataType) -> bool:
    return (
        _is_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )
