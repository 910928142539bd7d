"""No body ends in a server error, a traceback or a hang; nor does any path or method."""

import json
from typing import Any

import pytest
from conformance.rows import Target, request
from hypothesis import given, settings
from hypothesis import strategies as st

PREDICT, CLASSIFY, REGRESS = (f"/v1/models/m:{verb}" for verb in ("predict", "classify", "regress"))

# Valid requests, from which mutants come. Of the TFLite engine the first are those it has.
VALID: list[tuple[str, dict[str, Any]]] = [
    (PREDICT, {"instances": [1, 2.5]}),
    (PREDICT, {"instances": [{"x": 1}, {"x": 2}]}),
    (PREDICT, {"inputs": {"x": [1, 2]}}),
    (PREDICT, {"signature_name": "pair", "instances": [{"a": 1, "b": 2}]}),
    (PREDICT, {"signature_name": "pair", "inputs": {"a": [1], "b": [2]}}),
    (PREDICT, {"signature_name": "dense", "instances": [[1, 2], [3, 4]]}),
    (PREDICT, {"signature_name": "text", "instances": ["a", {"b64": "AQ=="}]}),
    (PREDICT, {"signature_name": "unequal", "instances": [1, 2]}),
    (PREDICT, {"signature_name": "echo_int8", "inputs": [[1], [2]]}),
    (PREDICT, {"signature_name": "echo_uint64", "inputs": [1]}),
    (PREDICT, {"signature_name": "echo_bool", "inputs": [True]}),
    (CLASSIFY, {"signature_name": "classify", "examples": [{"x": [1.0, 2.0]}]}),
    (REGRESS, {"signature_name": "regress", "examples": [{"x": [1.0, 2.0]}], "context": {}}),
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([[], {}, [[]], {"b64": "AQ=="}, {"b64": "_"}, {"b64": 1}, "x" * 500, 1e308])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"])
            | st.sampled_from(["x", "a", "b", "b64", ""])
            | st.text(max_size=2),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, bytes]:
    """A valid request with some value, key or byte exchanged."""
    path, valid = draw(st.sampled_from(VALID))
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        value = _mutated(draw, value)
    text = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        start = draw(st.integers(0, len(text)))
        insert = draw(
            st.binary(max_size=2)
            | st.sampled_from([b"\0", b"\\ud800", b'"', b"[", b"]" * 9, b"1e999", b"9" * 400, b"-"])
        )
        text = text[:start] + insert + text[start + draw(st.integers(0, 2)) :]
    if draw(st.booleans()) and text.startswith(b"{"):
        text = text[:-1] + b', "instances": [1], "inputs": ' + b"[" * 40 + b"]" * 40 + b"}"
    return path, text


def _mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with one thing in it exchanged, taken out or nested."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        if draw(st.integers(0, 5)) == 0:
            del value[key]
        else:
            value[key] = _mutated(draw, value[key])
        return value
    return draw(st.one_of(values, st.just([value]), st.just([value, value]), st.just({"x": value})))


def check_answer(answer: tuple[int, dict[str, str], bytes]) -> None:
    """Asserts that an answer is one of the API's, and none of a server that broke."""
    status, headers, body = answer
    value = json.loads(body.decode("utf-8", "surrogateescape"))

    assert headers["content-type"] == "application/json"
    if status == 200:
        assert len(value) == 1
        assert value.keys() <= {"predictions", "outputs", "results"}
    else:
        assert status in (400, 404)
        assert list(value) == ["error"]
        assert value["error"]
        assert "Traceback (most recent call last)" not in value["error"]


@given(st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=100)
def test_arbitrary_bodies(either: Target, body: bytes) -> None:
    for path in (PREDICT, CLASSIFY):
        check_answer(request(either, "POST", path, body))


@given(mutants())
@settings(max_examples=400)
def test_mutants_of_valid_bodies(savedmodel: Target, mutant: tuple[str, bytes]) -> None:
    check_answer(request(savedmodel, "POST", *mutant))


@given(mutants())
@settings(max_examples=100)
def test_mutants_on_tflite(tflite: Target, mutant: tuple[str, bytes]) -> None:
    check_answer(request(tflite, "POST", *mutant))


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    st.lists(
        st.sampled_from(
            ["/v1", "/models", "/m", "/versions", "/labels", "/123", "/metadata", "/", ":predict"]
        )
        | st.text("/:%?&=.~-_aZ019", max_size=5),
        max_size=6,
    ).map("".join),
)
@settings(max_examples=200)
def test_arbitrary_routes(either: Target, method: str, path: str) -> None:
    status, _, body = request(either, method, f"/{path}", b"{}")

    assert status in (200, 400, 404)
    assert b"Traceback" not in body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "Nested deeper than"),
        (b'{"a": ' * 200_000, "Nested deeper than"),
        (b'{"instances": [' + b"9" * 1_000_000 + b"]}", "Number too big to be stored in double."),
        (b'{"instances": [1e' + b"9" * 1_000_000 + b"]}", "Number too big to be stored in double."),
        (b'{"instances": ["' + b"a" * 5_000_000 + b'"]}', "is not of expected type: float"),
        (b'{"instances": ["' + b'\\"' * 1_000_000, "Missing a closing quotation mark in string."),
        (b'{"instances": [' + b"[1], " * 100_000 + b"[1}", "Missing a comma or ']'"),
        (b'{"instances": [' + b"[1], " * 100_000 + b"[1, 2]]}", "Expecting tensor size: 1 but got"),
    ],
    ids=["lists", "objects", "digits", "exponent", "string", "quotes", "broken_end", "ragged_end"],
)
def test_bodies_made_to_hurt(savedmodel: Target, body: bytes, message: str) -> None:
    answer = request(savedmodel, "POST", PREDICT, body)

    check_answer(answer)
    assert answer[0] == 400
    assert len(answer[2]) < len(body) + 500
    assert message in json.loads(answer[2])["error"]


def test_five_megabytes_of_lists_of_one(savedmodel: Target) -> None:
    body = b'{"instances": [' + b"[1]," * 1_000_000 + b"[1]]}"
    status, _, answer = request(savedmodel, "POST", PREDICT, body)

    assert status == 200
    assert answer.count(b"[2.5]") == 1_000_001
