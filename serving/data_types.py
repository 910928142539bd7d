"""TensorFlow's data types: their numbers, names and NumPy types, without TensorFlow."""

import numpy as np

# TensorFlow's DataType number -> its name in TF Serving's messages, and the NumPy type that holds
# it (None: there is none).
DATA_TYPES: dict[int, tuple[str, type | None]] = {
    1: ("float", np.float32),
    2: ("double", np.float64),
    3: ("int32", np.int32),
    4: ("uint8", np.uint8),
    5: ("int16", np.int16),
    6: ("int8", np.int8),
    7: ("string", np.object_),
    8: ("complex64", np.complex64),
    9: ("int64", np.int64),
    10: ("bool", np.bool_),
    14: ("bfloat16", None),
    17: ("uint16", np.uint16),
    18: ("complex128", np.complex128),
    19: ("half", np.float16),
    22: ("uint32", np.uint32),
    23: ("uint64", np.uint64),
}


def data_type_name(data_type: int) -> str:
    """TensorFlow's name for a DataType number, as its messages print it."""
    return DATA_TYPES.get(data_type, (f"unknown type {data_type}", None))[0]


def data_type_number(dtype: np.dtype) -> int:
    """TensorFlow's DataType number for a NumPy type; 0 (DT_INVALID) if it has none."""
    name = array_type_name(dtype)
    return next((number for number, (known, _) in DATA_TYPES.items() if known == name), 0)


def numpy_type_of(type_name: str) -> type | None:
    """The NumPy type of TensorFlow's type of that name; None if there is none."""
    return next((found for name, found in DATA_TYPES.values() if name == type_name), None)


def array_type_name(dtype: np.dtype) -> str:
    """TensorFlow's name for a NumPy type."""
    for name, numpy_type in DATA_TYPES.values():
        if numpy_type is not None and np.dtype(numpy_type) == dtype:
            return name
    return "string" if dtype.kind in "SU" else str(dtype)
