"""TensorProtos, by TensorFlow's own rules."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privet.serving import tensors

TYPES = [
    *(np.float32, np.float64, np.float16, np.bool_, np.complex64, np.complex128),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
]
NUMBERS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
STRINGS = hnp.arrays(
    object, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=st.binary(max_size=300)
)


def proto(dtype: int = 1, shape: tuple[int, ...] = (3,), **fields: Any) -> Any:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    made = TensorProto(dtype=dtype, **fields)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def read(*arguments: Any, **fields: Any) -> list[Any]:
    values: list[Any] = tensors.array_from_proto(proto(*arguments, **fields)).tolist()
    return values


@given(NUMBERS | STRINGS)
def test_any_array_survives_and_reads_as_tensorflow_reads_it(array: np.ndarray) -> None:
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    typed, packed = TensorProto(), TensorProto()
    tensors.fill_proto(typed, array)
    tensors.pack_proto(packed, array)
    theirs = TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString())

    for message in (typed, packed, theirs):
        got = tensors.array_from_proto(TensorProto.FromString(message.SerializeToString()))
        assert got.shape == array.shape
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
    if array.size:  # tf.make_ndarray makes one element of none
        np.testing.assert_array_equal(tf.make_ndarray(typed), array)
        np.testing.assert_array_equal(tf.make_ndarray(packed), array)


def test_bfloat16_survives() -> None:
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    array = np.array([1.5, -2.0, 0.25], tf.bfloat16.as_numpy_dtype)
    message = TensorProto()
    tensors.fill_proto(message, array)

    assert message.half_val == [0x3FC0, 0xC000, 0x3E80]
    assert tensors.array_from_proto(message).tolist() == array.tolist()
    assert tensors.array_from_proto(tf.make_tensor_proto(array)).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("arguments", "fields", "wanted"),
    [
        # Fewer values than elements: the last one repeats; none at all: zeros.
        ((1, (4,)), {"float_val": [1, 2]}, [1.0, 2.0, 2.0, 2.0]),
        ((1, (2, 2)), {"float_val": [5]}, [[5.0, 5.0], [5.0, 5.0]]),
        ((1,), {}, [0.0, 0.0, 0.0]),
        ((7, (2,)), {}, [b"", b""]),
        ((7,), {"string_val": [b"a", b"\xff"]}, [b"a", b"\xff", b"\xff"]),
        ((10,), {"bool_val": [True, False]}, [True, False, False]),
        ((8, (2,)), {"scomplex_val": [1, 2]}, [1 + 2j, 1 + 2j]),
        # More values than elements: the first ones count.
        ((1, (2,)), {"float_val": [1, 2, 3]}, [1.0, 2.0]),
        ((18, (1,)), {"dcomplex_val": [1, 2, 3, 4]}, [1 + 2j]),
        # A scalar has no dimensions; a tensor without elements has no values.
        ((9, ()), {"int64_val": [2**62]}, 2**62),
        ((1, (0, 3)), {"float_val": [1]}, []),
        # Narrow integers and half floats are in wider fields, of which the low bits count.
        ((4, (2,)), {"int_val": [255, 256]}, [255, 0]),
        ((6, (2,)), {"int_val": [-1, 200]}, [-1, -56]),
        ((17, (1,)), {"int_val": [65535]}, [65535]),
        ((19, (2,)), {"half_val": [0x3C00, 0xC000]}, [1.0, -2.0]),
        ((22, (1,)), {"uint32_val": [2**32 - 1]}, [2**32 - 1]),
        ((23, (1,)), {"uint64_val": [2**64 - 1]}, [2**64 - 1]),
        # The bytes win over the field.
        ((3, (1,)), {"tensor_content": b"\x07\0\0\0", "int_val": [1]}, [7]),
        ((10, (3,)), {"tensor_content": b"\0\1\2"}, [False, True, True]),
        ((7, (2,)), {"tensor_content": b"\1\2abc"}, [b"a", b"bc"]),
        # Fields of other types, and the version of the format, do not count.
        ((3, (1,)), {"float_val": [1]}, [0]),
        ((3, (1,)), {"int_val": [1], "version_number": 9}, [1]),
    ],
)
def test_reading_follows_tensorflow(
    arguments: tuple[Any, ...], fields: dict[str, Any], wanted: Any
) -> None:
    assert read(*arguments, **fields) == wanted


@pytest.mark.parametrize(
    ("arguments", "fields", "message"),
    [
        ((0,), {"float_val": [1]}, "DataType 0"),
        ((20,), {}, "DataType 20"),  # resource
        ((21,), {}, "DataType 21"),  # variant
        ((101,), {}, "DataType 101"),  # a reference
        ((1, (-1,)), {"float_val": [1]}, "negative"),
        ((1, (2,)), {"tensor_content": b"1234567"}, "7 bytes for 2 elements"),
        ((1, (1,)), {"tensor_content": b"12345678"}, "8 bytes for 1 elements"),
        ((7, (2,)), {"tensor_content": b"\1\3abc"}, "do not fit"),
        ((7, (2,)), {"tensor_content": b"\x80\x80"}, "do not end"),
        ((7, (9,)), {"tensor_content": b"\1"}, "for 9 strings"),
        ((1, (2**40, 2**40)), {"float_val": [1]}, "1 values for"),
        ((1, (10**9,)), {"float_val": [1]}, "1 values for"),  # 4 GB asked for with 20 bytes
    ],
)
def test_what_is_not_consistent_is_refused(
    arguments: tuple[Any, ...], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(*arguments, **fields)


def test_arrays_that_no_tensor_holds_are_refused() -> None:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    with pytest.raises(ValueError, match="datetime64"):
        tensors.fill_proto(TensorProto(), np.array(["2020-01-01"], "datetime64[D]"))


def test_too_many_dimensions_are_refused_before_their_product_is_computed() -> None:
    made = proto(shape=(2**62,) * 255)

    with pytest.raises(ValueError, match="255 dimensions, more than 254"):
        tensors.array_from_proto(made)
    assert tensors.has_more_elements(made, 2**62)


def test_a_shape_tells_how_many_elements_a_tensor_asks_for() -> None:
    assert tensors.has_more_elements(proto(shape=(3, 4)), 11)
    assert not tensors.has_more_elements(proto(shape=(3, 4)), 12)
