"""Checking one row against the schema: an example of a client, or the reason it is refused.

Reasons never quote a value: they may be shown to people who must not see the data.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from privet.components.shared.schema import FeatureConfig, LabelConfig, Schema
from privet.components.shared.storage import SPLITS


@dataclasses.dataclass(frozen=True)
class Example:
    """One valid row.

    Attributes:
      features: name -> array of the feature's shape.
      label: class index, or value for regression.
    """

    features: Mapping[str, np.ndarray]
    label: int | float


class RowRejectedError(Exception):
    """A row does not fit the schema; the message is the reason."""


def client_of(row: Mapping[str, Any], schema: Schema) -> str:
    """The client that a row belongs to.

    Raises:
      RowRejectedError: the row names none, or one that cannot be stored.
    """
    value = row.get(schema.client_id)
    if value is None or value == "":
        raise RowRejectedError("the client id is missing")
    if str(value).endswith("\0"):  # the store's index would lose it
        raise RowRejectedError("the client id ends in a NUL character")
    return str(value)


def parse_example(row: Mapping[str, Any], schema: Schema) -> Example:
    """The example that a row holds.

    Raises:
      RowRejectedError: a value is missing, has the wrong type, or is out of range.
    """
    return Example(
        features={name: _parse_feature(row, feature) for name, feature in schema.features.items()},
        label=_parse_label(row, schema.label),
    )


def split_of(row: Mapping[str, Any], column: str) -> str:
    """The split that a row's column names.

    Raises:
      RowRejectedError: it names none of train, eval, test.
    """
    if row.get(column) not in SPLITS:
        raise RowRejectedError(f"column {column} must be one of {', '.join(SPLITS)}")
    return str(row[column])


def _parse_feature(row: Mapping[str, Any], feature: FeatureConfig) -> np.ndarray:
    convert = _to_float if feature.dtype == "float32" else _to_int
    values = np.array(
        [convert(row.get(column), column) for column in feature.column_names], feature.dtype
    )
    low, high = feature.minimum, feature.maximum
    for bound, outside in ((low, values < (low or 0)), (high, values > (high or 0))):
        if bound is not None and outside.any():
            column = feature.column_names[int(outside.argmax())]
            raise RowRejectedError(f"column {column} is outside [{low}, {high}]")
    return values


def _parse_label(row: Mapping[str, Any], label: LabelConfig) -> int | float:
    value = row.get(label.column)
    if label.classes is None:
        return _to_float(value, label.column)
    index = _to_int(value, label.column)
    if not 0 <= index < label.classes:
        raise RowRejectedError(f"label {label.column} is not a class from 0 to {label.classes - 1}")
    return index


def _to_float(value: Any, column: str) -> float:
    try:
        number = float(_present(value, column))
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise RowRejectedError(f"column {column} is not a number") from None
    if not math.isfinite(number) or abs(number) > np.finfo(np.float32).max:
        raise RowRejectedError(f"column {column} is not a finite float32")
    return number


def _to_int(value: Any, column: str) -> int:
    value = _present(value, column)
    try:
        number = int(value)
        whole = isinstance(value, (str, bytes)) or number == value
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or not -(2**63) <= number < 2**63:
        raise RowRejectedError(f"column {column} is not a whole number")
    return number


def _present(value: Any, column: str) -> Any:
    if value is None or value == "":
        raise RowRejectedError(f"column {column} is missing")
    return value
