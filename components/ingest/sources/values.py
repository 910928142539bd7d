"""The Arrow type that plain Python values stand for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def common_type(values: Sequence[Any]) -> pa.DataType | None:
    """The type of a column, judged by some of its values; None if it cannot be told.

    Arrays and lists of equal length are lists of that fixed length.

    >>> common_type([None, 1, 2]), common_type(["a", 1])
    (DataType(int64), None)
    >>> common_type([np.zeros((2, 3), np.uint8)])
    FixedSizeListType(fixed_size_list<item: uint8>[6])
    """
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, np.ndarray) for value in present):
        present = [np.ravel(value) for value in present]
        if len({array.dtype for array in present}) > 1:
            return None
    try:
        found = pa.array(present).type  # infer_type would take ["a", 1] for strings
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    if pa.types.is_null(found):
        return None
    sizes = {len(value) for value in present} if pa.types.is_list(found) else set()
    return pa.list_(found.value_type, sizes.pop()) if len(sizes) == 1 else found
