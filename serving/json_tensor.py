"""One tensor in JSON, a value or nested lists, to an array: the slow, exact path."""

import base64
import binascii
import re
from typing import Any

import numpy as np

from privet.serving.engine import TensorSpec
from privet.serving.json_writer import debug_text
from privet.serving.status import Code, RequestError, invalid_argument

# TensorFlow refuses tensors of a higher rank, and Python's stack would not hold them for long.
_MAXIMUM_RANK = 254

INTEGER_TYPES = {"int32", "int16", "int8", "uint8", "int64", "uint32", "uint64"}
_TYPE_NAMES = {bool: "bool", int: "Number", float: "Number", str: "String", list: "Array"}


def fill_tensor(value: Any, spec: TensorSpec, name: str) -> np.ndarray:
    """Reads a tensor from parsed JSON.

    Args:
      value: a scalar, or lists of equal length, nested as deep as the tensor's rank.
      spec: the type wanted; the shape is the value's own.
      name: the input's name, for errors.

    Raises:
      RequestError: the value is no tensor of this type, with TF Serving's message.
    """
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > _MAXIMUM_RANK:
        raise invalid_argument(f"tensor parsing error: {name}")
    values: list[Any] = []
    _fill(value, 0, shape, spec, values)
    if spec.numpy_type is None:
        raise _unimplemented(value, spec)
    tensor: np.ndarray = np.empty(len(values), dtype=spec.numpy_type)
    with np.errstate(over="ignore"):
        tensor[:] = values
    # NumPy has no more than 32 dimensions.
    try:
        return tensor.reshape(shape)
    except ValueError as error:
        raise invalid_argument(f"tensor parsing error: {name}") from error


def is_base64_object(value: Any) -> bool:
    """Whether a value is `{"b64": "..."}` and nothing more."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """The bytes of `{"b64": "..."}`, in the standard alphabet; the padding may be missing.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    if not is_base64_object(value):
        raise invalid_argument(
            f"JSON Value: {debug_text(value)} not formatted correctly for base64 data"
        )
    text = re.sub(r"[ \t\n\v\f\r]", "", value["b64"])
    if "=" not in text:
        text += "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def json_type_name(value: Any) -> str:
    """RapidJSON's name for the type of a parsed value."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    return _TYPE_NAMES[type(value)]


def _fill(value: Any, level: int, shape: list[int], spec: TensorSpec, values: list[Any]) -> None:
    """Appends the scalars of `value` to `values`, checking that it has the given shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {debug_text(value)} found at incorrect level: {level + 1} in the "
                f"JSON DOM. Expected at level: {len(shape)}"
            )
        values.append(_scalar(value, spec))
        return
    if level >= len(shape):
        raise invalid_argument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    for element in value:
        _fill(element, level + 1, shape, spec, values)


def _scalar(value: Any, spec: TensorSpec) -> Any:
    """One value as the tensor's type holds it."""
    type_name = spec.type_name
    if isinstance(value, dict):
        if type_name == "string":
            return decode_base64(value)
    elif type_name in ("float", "double"):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif type_name in INTEGER_TYPES:
        if isinstance(value, int) and not isinstance(value, bool) and spec.numpy_type is not None:
            limits: np.iinfo[Any] = np.iinfo(spec.numpy_type)
            # TF Serving lets 300 into a uint8 and wraps it; a wrong number is worse than an error.
            if limits.min <= value <= limits.max:
                return value
    elif type_name == "bool":
        if isinstance(value, bool):
            return value
    elif type_name == "string":
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
    else:
        raise _unimplemented(value, spec)
    raise invalid_argument(
        f"JSON Value: {debug_text(value)} Type: {json_type_name(value)} is not of expected type: "
        f"{type_name}"
    )


def _unimplemented(value: Any, spec: TensorSpec) -> RequestError:
    """The error for a type that JSON has no form for."""
    return RequestError(
        Code.UNIMPLEMENTED,
        f"Conversion of JSON Value: {debug_text(value)} to type: {spec.type_name}",
    )
