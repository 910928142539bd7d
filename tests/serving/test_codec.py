"""Predict bodies to arrays and back: by hand, by property, and every message."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from privet.serving.codec import Format, fast_array, read_inputs, write_outputs
from privet.serving.document import parse_document
from privet.serving.engine import Signature, TensorSpec
from privet.serving.json_arrays import compact_numbers
from privet.serving.json_tensor import fill_tensor
from privet.serving.json_writer import decimal
from privet.serving.status import RequestError

TYPES: dict[str, type] = {
    "float": np.float32,
    "double": np.float64,
    "int32": np.int32,
    "uint8": np.uint8,
    "int16": np.int16,
    "int8": np.int8,
    "int64": np.int64,
    "bool": np.bool_,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "string": np.object_,
}


def spec(type_name: str = "float") -> TensorSpec:
    return TensorSpec("t:0", type_name, TYPES[type_name], None)


def signature(**inputs: str) -> Signature:
    return Signature("s", "", {name: spec(kind) for name, kind in inputs.items()}, {})


def read(body: Any, **inputs: str) -> tuple[dict[str, np.ndarray], Format]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_inputs(parse_document(text), signature(**inputs))


def test_rows_of_one_input() -> None:
    inputs, form = read({"instances": [[1, 2.5], [3, 4]]}, x="float")

    assert form is Format.ROW
    assert inputs["x"].dtype == np.float32
    assert inputs["x"].tolist() == [[1.0, 2.5], [3.0, 4.0]]


def test_rows_of_named_inputs() -> None:
    rows = [{"a": 1, "b": ["x", {"b64": "/w=="}]}, {"a": 2, "b": ["y", "é"]}]
    inputs, _ = read({"instances": rows}, a="int64", b="string")

    assert inputs["a"].tolist() == [1, 2]
    assert inputs["b"].tolist() == [[b"x", b"\xff"], [b"y", "é".encode()]]


def test_rows_may_name_their_only_input() -> None:
    assert read({"instances": [{"x": 1}, {"x": 2}]}, x="float")[0]["x"].tolist() == [1.0, 2.0]


def test_columns() -> None:
    inputs, form = read({"inputs": {"a": [1, 2], "b": 7, "extra": "ignored"}}, a="int32", b="float")

    assert form is Format.COLUMN
    assert inputs["a"].tolist() == [1, 2]
    assert inputs["b"].shape == ()
    assert read({"inputs": {"b64": "AQI="}}, x="string")[0]["x"].item() == b"\x01\x02"
    assert read({"inputs": [[], []]}, x="int32")[0]["x"].shape == (2, 0)


def test_special_floats() -> None:
    inputs, _ = read(b'{"instances": [NaN, Infinity, -Inf, 1e39]}', x="float")

    np.testing.assert_array_equal(inputs["x"], [np.nan, np.inf, -np.inf, np.inf])


@pytest.mark.parametrize(("text", "raw"), [("AQID", b"\x01\x02\x03"), ("AQ", b"\x01"), ("", b"")])
def test_base64(text: str, raw: bytes) -> None:
    assert read({"instances": [{"b64": text}]}, x="string")[0]["x"].tolist() == [raw]


def test_a_long_value_is_cut_off_in_messages() -> None:
    with pytest.raises(RequestError) as caught:
        read({"instances": [1], "inputs": [["long"] * 10_000]}, x="float")

    assert len(caught.value.message) < 400


def test_nesting_beyond_any_tensor_is_an_error() -> None:
    with pytest.raises(RequestError, match="tensor parsing error: x"):
        read(b'{"inputs": ' + b"[" * 5000 + b"1" + b"]" * 5000 + b"}", x="float")


scalars = (
    st.integers(-(2**65), 2**65)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=3)
    | st.sampled_from(["1", "nan", {"b64": "AQ=="}, {"x": 1}])
)
nested: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=12
) | st.lists(st.lists(st.integers(-300, 300) | st.floats(width=16), min_size=2, max_size=2))


@given(nested, st.sampled_from(sorted(TYPES)))
def test_fast_path_agrees_with_the_exact_one(value: Any, type_name: str) -> None:
    document = parse_document(json.dumps({"inputs": value}).encode())
    parsed = document.members["inputs"]
    fast = fast_array(parsed, spec(type_name)) if document.numbers_only else None
    if fast is None:
        return
    exact = fill_tensor(parsed, spec(type_name), "x")

    assert fast.dtype == exact.dtype
    np.testing.assert_array_equal(fast, exact)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"instances": [[1, 2.5], [3, -4e2]]}', True),
        (b'{"signature_name": "s", "inputs": {"a": [1], "b": 2}}', True),
        (b'{"instances": [1, "2"]}', False),
        (b'{"instances": [true]}', False),
        (b'{"inputs": [null]}', False),
        (b'{"inputs": {"a": {"b64": ""}}}', False),
        (b'{"instances": [{"a": 1}, {"a": 2}]}', True),
        (b'{"signature_name": "trueing", "nullable": 3, "inputs": [1e-5]}', True),
        (b'{"inputs": [NaN, -Infinity, Inf]}', True),
        (b'{"inputs": [1]} text', False),
    ],
)
def test_only_numbers_take_the_fast_path(body: bytes, expected: bool) -> None:
    assert parse_document(body).numbers_only is expected


arrays = st.sampled_from(sorted(set(TYPES) - {"string"})).flatmap(
    lambda name: st.tuples(
        st.just(name),
        npst.arrays(TYPES[name], npst.array_shapes(min_dims=1, max_dims=4, min_side=1)),
    )
)


@given(arrays, st.sampled_from(list(Format)))
def test_what_is_written_reads_back(case: tuple[str, np.ndarray], form: Format) -> None:
    type_name, array = case
    body = write_outputs({"y": array}, form)
    again = body.replace(b'"predictions"', b'"instances"', 1).replace(b'"outputs"', b'"inputs"', 1)
    inputs, form_read = read(again, x=type_name)

    assert form_read is form
    np.testing.assert_array_equal(inputs["x"], array)
    assert inputs["x"].dtype == array.dtype


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=5))
def test_bytes_read_back_through_base64(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    body = write_outputs({"y_bytes": array}, Format.ROW)

    inputs, _ = read({"instances": json.loads(body)["predictions"]}, x="string")
    assert inputs["x"].tolist() == values


edges = st.sampled_from([0.0, -0.0, 1e-4, 9.9999e-5, 999999.5, 1e6, 67108900.0, np.nan, -np.inf])
floats = (
    st.floats(width=32)
    | st.floats(2**-16, 2**23, width=32)
    | st.decimals(-1000, 1000, places=3).map(lambda value: float(np.float32(value)))
    | edges.map(lambda value: float(np.float32(value)))
)


@given(st.lists(floats, min_size=1, max_size=20))
def test_floats_written_at_once_have_the_digits_of_each(values: list[float]) -> None:
    found = compact_numbers(np.array(values, np.float32))

    assert found == f"[{','.join(decimal(value, np.float32) for value in values)}]".encode()


def test_many_small_floats_are_written_as_each_alone() -> None:
    bits = np.random.default_rng(0).integers(*np.float32([1e-15, 2e-4]).view(np.int32), 20_000)
    numbers = bits.astype(np.int32).view(np.float32)
    # Few digits are rare among all numbers; and next to them lie those that look so.
    few = np.float32([[1e-20], [25e-20], [999999e-20]]) * np.float32(10) ** np.arange(16)
    beside = [np.nextafter(few, np.float32(end)).ravel() for end in (0, 1)]
    values = np.concatenate([numbers, -numbers, few.ravel(), *beside]).astype(np.float32)

    found = compact_numbers(values)

    assert found == f"[{','.join(decimal(x, np.float32) for x in values.tolist())}]".encode()


def test_rows_of_more_dimensions_than_numpy_has() -> None:
    row: Any = 1
    for _ in range(32):
        row = [row]
    with pytest.raises(RequestError, match="tensor parsing error: x"):
        read({"instances": [row]}, x="float")


def test_base64_rows_fill_only_the_first_of_several_inputs() -> None:
    inputs, _ = read({"instances": [{"b64": "AQ=="}]}, a="string", b="string")

    assert list(inputs) == ["a"]


def test_layout_of_responses() -> None:
    floats = np.array([[1, 0.5], [2, np.nan]], np.float32)
    text = np.array([b"a", b"\xc3\xa9"], object)

    assert write_outputs({"y": floats[:1]}, Format.ROW) == (
        b'{\n    "predictions": [[1.0, 0.5]\n    ]\n}'
    )
    assert write_outputs({"y": floats}, Format.ROW) == (
        b'{\n    "predictions": [[1.0, 0.5], [2.0, NaN]\n    ]\n}'
    )
    assert write_outputs({"t": text, "y": floats}, Format.ROW).decode() == (
        '{\n    "predictions": [\n        {\n            "t": "a",\n            "y": [1.0, 0.5]\n'
        '        },\n        {\n            "t": "é",\n            "y": [2.0, NaN]\n        }\n'
        "    ]\n}"
    )
    assert write_outputs({"n": np.array([1, 2])}, Format.COLUMN) == (
        b'{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    )
    assert write_outputs({"y": np.float32(2), "t": text[0:1]}, Format.COLUMN).decode() == (
        '{\n    "outputs": {\n        "y": 2.0,\n        "t": [\n            "a"\n        ]\n'
        "    }\n}"
    )


def test_a_response_has_an_output() -> None:
    with pytest.raises(RequestError, match="Cannot convert empty tensor map to JSON"):
        write_outputs({}, Format.ROW)


@pytest.mark.parametrize("rows", [[[], []], [[[], []], [[], []]]])
def test_empty_rows_are_read_all_at_once_and_alike(rows: list[Any]) -> None:
    spec = TensorSpec("x:0", "float", np.float32, None)
    fast, exact = fast_array(rows, spec), fill_tensor(rows, spec, "x")

    assert fast is not None
    assert (fast.shape, fast.dtype) == (exact.shape, exact.dtype)
    assert fast_array([[], [1.0]], spec) is None
