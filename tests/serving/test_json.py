"""JSON as RapidJSON reads and writes it."""

import json
import math
import time
import tracemalloc
from decimal import Context, Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.serving import document, json_parser
from privet.serving.document import parse_document
from privet.serving.json_writer import PrettyWriter, debug_text, decimal
from privet.serving.status import RequestError

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2]))
def test_exact_parser_reads_what_json_writes(value: Any, indent: int | None) -> None:
    assert json_parser.parse(json.dumps(value, indent=indent).encode()) == value


@given(st.text(alphabet='{}[]:,"\\u0dE1.e- ntrueNaInfity\n', max_size=30))
def test_exact_parser_accepts_all_that_the_fast_one_does(text: str) -> None:
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            json_parser.parse(text.encode())
        except RequestError as error:
            assert error.message.startswith("JSON Parse error: ")  # noqa: PT017
        return
    assert json_parser.parse(text.encode()) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"[1", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"{1:2}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a":}', "Invalid value. at offset: 5"),
        (b"nul", "Invalid value. at offset: 3"),
        (b'["\\x"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["abc', "Missing a closing quotation mark in string. at offset: 5"),
        (b'["a\nb"]', "Invalid escape character in string. at offset: 3"),
        (b'["a\0b"]', "Missing a closing quotation mark in string. at offset: 3"),
        (b"[\0]", "Invalid value. at offset: 1"),
        (b"\0", "The document is empty. at offset: 0"),
        (b"[NaM]", "Invalid value. at offset: 3"),
        (b"[-Infinite]", "Invalid value. at offset: 9"),
        (b"[[[" * 50_000, "Nested deeper than 100000 levels. at offset: 100000"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[ 1e999]", "Number too big to be stored in double. at offset: 2"),
        ('["é" 1]'.encode(), "Missing a comma or ']' after an array element. at offset: 6"),
    ],
)
def test_parse_errors_in_rapidjsons_words(body: bytes, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_document(body)

    assert caught.value.message == f"JSON Parse error: {message}"


def test_what_tf_serving_tolerates() -> None:
    assert parse_document(b'{"a": 1} trailing').members == {"a": 1}
    assert parse_document(b'\xef\xbb\xbf{"a": 1}').members == {"a": 1}
    members = parse_document(b'{"a": [NaN, Inf, -Infinity, 36893488147419103232]}').members
    assert math.isnan(members["a"][0])
    assert members["a"][1:] == [math.inf, -math.inf, 2.0**65]
    assert parse_document(b'{"a": 1, "b": 2, "a": 3}').members == {"a": 1, "b": 2}
    assert parse_document(b'{"a": [{"\\"": "\\"", "b": 2, "b": 3}]}').members == {
        "a": [{'"': '"', "b": 2}]
    }
    lone = parse_document(b'{"a": "\\udc00"}').members["a"]
    assert lone.encode("utf-8", "surrogateescape") == b"\xed\xb0\x80"
    broken_utf8 = parse_document(b'{"a": "\xff"}').members["a"]
    assert broken_utf8.encode("utf-8", "surrogateescape") == b"\xff"


def test_deep_nesting_overflows_nothing() -> None:
    depth = 10_000
    members = parse_document(b'{"a": ' + b"[" * depth + b"]" * depth + b"}").members

    assert members["a"] == [[*members["a"][0]]]
    assert len(debug_text(members)) < 300


@pytest.mark.parametrize("body", [b"[1, 2]", b"3", b'"text"', b"null"])
def test_top_level_must_be_an_object(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_document(body)

    assert caught.value.message == f"JSON Value: {body.decode()} Is not object"


@pytest.mark.parametrize("name", ["3", "null", '["a"]'])
def test_signature_name_must_be_a_string(name: str) -> None:
    document = parse_document(b'{"signature_name": %b}' % name.encode())

    with pytest.raises(RequestError, match="'signature_name' key must be a string value"):
        _ = document.signature_name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.2"),
        (2, "2.0"),
        (1 / 3, "0.333333343"),
        (9_000_000, "9e+06"),
        (0.00003, "3e-05"),
        (123456.789, "123456.789"),
        (16777216, "16777216.0"),
        (-0.0, "-0.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_float32_as_tf_serving_prints_it(value: float, text: str) -> None:
    assert decimal(float(np.float32(value)), np.float32) == text


def test_double_keeps_its_digits() -> None:
    assert decimal(0.1, np.float64) == "0.1"
    assert decimal(1 / 3, np.float64) == "0.33333333333333331"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_reads_back(value: float) -> None:
    text = decimal(value, np.float32)

    assert np.float32(json.loads(text)) == np.float32(value)
    # The rule, in other words: six digits if the nearest such number is this float, else nine.
    six = Context(prec=6).create_decimal(value)
    nine = Context(prec=9).create_decimal(value)
    assert Decimal(text) == (six if np.float32(str(six)) == np.float32(value) else nine)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.000001234, "0.000001234"),
        (1.234e-7, "1.234e-7"),
        (1e21, "1e21"),
        (123e18, "123000000000000000000.0"),
        (1.5e300, "1.5e300"),
        (123.456, "123.456"),
    ],
)
def test_doubles_are_echoed_as_rapidjson_prints_them(value: float, text: str) -> None:
    assert debug_text(value) == text


def test_an_echo_ends_at_what_json_cannot_say() -> None:
    assert debug_text([1, math.nan, 2]) == "[1, "
    assert debug_text(math.inf) == ""


@given(values)
def test_debug_text_is_the_value_or_a_part_of_it(value: Any) -> None:
    text = debug_text(value)

    if len(text.encode()) < 256 and "inf" not in repr(value):
        assert json.loads(text) == value


def test_writer_lays_out_as_rapidjson_does() -> None:
    writer = PrettyWriter()
    writer.start_object()
    writer.string("a")
    writer.start_array()
    writer.raw("1")
    writer.single_line = True
    writer.raw("2")
    writer.end_array()
    writer.string("q\u001f\n")
    writer.start_object()
    writer.end_object()
    writer.end_object()

    assert writer.text() == '{\n    "a": [\n        1, 2],\n    "q\\u001F\\n": {}\n}'


def test_runs_of_digits_are_searched_once() -> None:
    def seconds(body: bytes) -> float:
        def once() -> float:
            start = time.perf_counter()
            json_parser._NOT_STANDARD.search(body)
            return time.perf_counter() - start

        return min(once() for _ in range(5))

    # From each digit on, a run of 299 would take some hundred times as long as others.
    assert seconds((b"1" * 299 + b",") * 1000) < 5 * seconds(b"1," * 150 * 1000)
    assert json_parser._NOT_STANDARD.search(b"," + b"1" * 300)


def test_a_body_of_many_objects_is_looked_at_without_memory() -> None:
    tracemalloc.start()
    try:
        assert document._KEYS_ONLY.fullmatch(b"{}" * 100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000
