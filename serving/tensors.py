"""Arrays to and from TensorProtos, by the rules of TensorFlow's runtime but without it.

The functions take any message with TensorProto's fields, so this imports no proto itself.
"""

import functools
import math
from typing import Any

import numpy as np

# TensorFlow's DataType number -> NumPy's name of the type, and the field that holds its values.
# Strings are objects that are bytes. NumPy knows bfloat16 once TensorFlow (its package ml_dtypes)
# is loaded; without it that type is refused. So are the types that are not here: quantized ones,
# resources and variants.
_TYPES = {
    1: ("float32", "float_val"),
    2: ("float64", "double_val"),
    3: ("int32", "int_val"),
    4: ("uint8", "int_val"),
    5: ("int16", "int_val"),
    6: ("int8", "int_val"),
    7: ("object", "string_val"),
    8: ("complex64", "scomplex_val"),
    9: ("int64", "int64_val"),
    10: ("bool", "bool_val"),
    14: ("bfloat16", "half_val"),
    17: ("uint16", "int_val"),
    18: ("complex128", "dcomplex_val"),
    19: ("float16", "half_val"),
    22: ("uint32", "uint32_val"),
    23: ("uint64", "uint64_val"),
}
_NUMBERS = {name: number for number, (name, _) in _TYPES.items()}

# A field whose wire form is the array's own bytes -> its tag on the wire, and their type.
_PACKED_FIELDS = {
    "float_val": (b"\x2a", "<f4"),
    "double_val": (b"\x32", "<f8"),
    "scomplex_val": (b"\x4a", "<f4"),
    "dcomplex_val": (b"\x62", "<f8"),
}

# What a tensor may hold beyond the values that its message carries: with the rule that the last
# value repeats, 40 bytes can ask for any amount of memory.
_MAXIMUM_FILL_BYTES = 256 * 1024 * 1024

# TensorFlow's limit. The product of the sizes of a million dimensions takes minutes.
_MAXIMUM_RANK = 254

_STRING = 7


def array_from_proto(proto: Any) -> np.ndarray:
    """The array in a TensorProto; strings as objects that are bytes. It may be read-only.

    `tensor_content` wins over the typed fields. A typed field with fewer values than elements
    repeats its last one, one with none holds zeros, and values too many are left out.
    `version_number` and `unknown_rank` do not count: all as in TensorFlow's Tensor::FromProto.

    Raises:
      ValueError: the proto is not consistent, or of a type that arrays cannot hold.
    """
    number = proto.dtype
    shape = _shape(proto)
    if shape and min(shape) < 0:
        raise ValueError(f"shape {shape} has a negative dimension")
    dtype, count = _numpy_type(number), math.prod(shape)
    content = proto.tensor_content
    if not content or not count:
        return _from_field(getattr(proto, _TYPES[number][1]), dtype, count).reshape(shape)
    if number == _STRING:
        return _strings_from_content(content, count).reshape(shape)
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for {count} elements of {dtype}")
    array = np.frombuffer(content, dtype).reshape(shape)
    return array.view(np.uint8) != 0 if dtype.kind == "b" else array


def has_more_elements(proto: Any, limit: int) -> bool:
    """Whether a TensorProto asks for more elements than `limit`, or has no such shape at all."""
    try:
        return math.prod(_shape(proto)) > limit
    except ValueError:
        return True


def fill_proto(target: Any, array: np.ndarray) -> None:
    """Fills an empty TensorProto, the values in their typed field such as `float_val`.

    TF Serving answers so, and clients read these fields.

    Raises:
      ValueError: no TensorProto holds arrays of this type.
    """
    number = _fill_type_and_shape(target, array)
    name, field = _TYPES[number]
    packed = _PACKED_FIELDS.get(field)
    if packed is not None:
        # What parsing these bytes gives, extend() gives too, at a two-hundredth of the speed.
        tag, wire_type = packed
        values = np.ascontiguousarray(array).view(array.real.dtype).astype(wire_type, copy=False)
        target.MergeFromString(tag + _varint(values.nbytes) + values.tobytes())
    elif field == "half_val":
        target.half_val.extend(np.ascontiguousarray(array).view(np.uint16).ravel().tolist())
    elif name == "object":
        target.string_val.extend(map(_as_bytes, array.ravel().tolist()))
    else:
        getattr(target, field).extend(array.ravel().tolist())


def pack_proto(target: Any, array: np.ndarray) -> None:
    """Fills an empty TensorProto, numbers as bytes in `tensor_content`: what clients send.

    Raises:
      ValueError: no TensorProto holds arrays of this type.
    """
    if array.dtype.kind in "OSU":
        fill_proto(target, array)
        return
    _fill_type_and_shape(target, array)
    target.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _shape(proto: Any) -> list[int]:
    """The sizes of a TensorProto's dimensions."""
    dimensions = proto.tensor_shape.dim
    if len(dimensions) > _MAXIMUM_RANK:
        raise ValueError(f"{len(dimensions)} dimensions, more than {_MAXIMUM_RANK}")
    return [dimension.size for dimension in dimensions]


def _fill_type_and_shape(target: Any, array: np.ndarray) -> int:
    """Sets what is not a value; returns the DataType number."""
    name = "object" if array.dtype.kind in "OSU" else array.dtype.name
    number = _NUMBERS.get(name)
    if number is None:
        raise ValueError(f"no TensorProto holds an array of {array.dtype}")
    target.dtype = number
    shape = target.tensor_shape
    shape.SetInParent()  # also for scalars, whose shape has no dimensions
    for size in array.shape:
        shape.dim.add(size=size)
    return number


@functools.cache
def _numpy_type(number: int) -> np.dtype:
    """The NumPy type of a DataType number."""
    if number not in _TYPES:
        raise ValueError(f"arrays cannot hold DataType {number}")
    try:
        return np.dtype(_TYPES[number][0]).newbyteorder("<")
    except TypeError as error:
        raise ValueError(f"NumPy does not know {_TYPES[number][0]} here") from error


def _from_field(values: Any, dtype: np.dtype, count: int) -> np.ndarray:
    """The first `count` values of a typed field, the last one repeated where there are fewer."""
    parts = 2 if dtype.kind == "c" else 1
    given = min(len(values) // parts, count)
    if (count - given) * dtype.itemsize > _MAXIMUM_FILL_BYTES:
        raise ValueError(f"{given} values for {count} elements")
    if not given:
        return np.full(count, b"", dtype) if dtype.kind == "O" else np.zeros(count, dtype)
    if len(values) > given * parts:
        values = values[: given * parts]
    found = _values_to_array(values, dtype)
    if given == count:
        return found
    array = np.empty(count, dtype)
    array[:given] = found
    array[given:] = found[-1]
    return array


def _values_to_array(values: Any, dtype: np.dtype) -> np.ndarray:
    """All values of a typed field."""
    if dtype.kind == "O":
        return np.array(values, dtype)
    if dtype.kind == "c":
        return np.fromiter(values, np.zeros(0, dtype).real.dtype, len(values)).view(dtype)
    if dtype.kind in "iu" and dtype.itemsize < 4:  # int_val: only its low bits count
        return np.fromiter(values, np.int32, len(values)).astype(dtype)
    if dtype.name in ("float16", "bfloat16"):  # half_val: the numbers' bits
        return np.fromiter(values, np.int32, len(values)).astype(np.uint16).view(dtype)
    return np.fromiter(values, dtype, len(values))


def _strings_from_content(content: bytes, count: int) -> np.ndarray:
    """Strings from `tensor_content`: all lengths as varints, then all bytes."""
    if count > len(content):
        raise ValueError(f"{len(content)} bytes for {count} strings")
    sizes, position = [], 0
    for _ in range(count):
        size = shift = 0
        while True:
            if position == len(content) or shift > 28:
                raise ValueError(f"the lengths of {count} strings do not end")
            byte = content[position]
            position += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        sizes.append(size)
    if position + sum(sizes) != len(content):
        raise ValueError(f"the lengths of {count} strings do not fit {len(content)} bytes")
    array = np.empty(count, object)
    for index, size in enumerate(sizes):
        array[index] = content[position : position + size]
        position += size
    return array


def _as_bytes(value: Any) -> bytes:
    """One string of an array."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


def _varint(number: int) -> bytes:
    """A length as protobuf writes it."""
    text = bytearray()
    while number > 127:
        text.append(number & 127 | 128)
        number >>= 7
    text.append(number)
    return bytes(text)
