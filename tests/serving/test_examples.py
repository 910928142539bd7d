"""Classify and regress bodies to tf.Examples, and results to JSON."""

import json
from typing import Any

import numpy as np
import pytest

from privet.serving.document import parse_document
from privet.serving.examples import read_examples, write_classifications, write_regressions
from privet.serving.inference import Classifications
from privet.serving.status import RequestError


def read(body: dict[str, Any]) -> list[Any]:
    from tensorflow.core.example.example_pb2 import Example

    serialized = read_examples(parse_document(json.dumps(body).encode()))
    return [Example.FromString(example) for example in serialized]


def test_json_types_choose_the_kind_of_feature() -> None:
    values = {
        "i": 7,
        "f": [1.5, 2.0],
        "b": [True, False],
        "s": ["text", {"b64": "/w=="}],
        "empty": [],
    }
    (example,) = read({"examples": [values]})
    feature = example.features.feature

    assert list(feature["i"].int64_list.value) == [7]
    assert list(feature["f"].float_list.value) == [1.5, 2.0]
    assert list(feature["b"].int64_list.value) == [1, 0]
    assert list(feature["s"].bytes_list.value) == [b"text", b"\xff"]
    assert feature["empty"].WhichOneof("kind") is None


def test_context_is_in_every_example() -> None:
    examples = read({"context": {"c": 1}, "examples": [{"x": 2}, {"x": 3}]})

    assert [list(e.features.feature["c"].int64_list.value) for e in examples] == [[1], [1]]
    assert [list(e.features.feature["x"].int64_list.value) for e in examples] == [[2], [3]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {},
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            {"examples": 1},
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        (
            {"examples": []},
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        ({"examples": [3]}, "Example must be JSON object but got JSON Number"),
        (
            {"context": "c", "examples": [{}]},
            "Example must be JSON object but got JSON String",
        ),
        (
            {"examples": [{"x": [1, 2.0]}]},
            "Unexpected element type in feature: x expecting type: int64",
        ),
        (
            {"examples": [{"x": ["a", 1]}]},
            "Unexpected element type in feature: x expecting type: bytes",
        ),
        (
            {"examples": [{"x": [1.5, True]}]},
            "Unexpected element type in feature: x expecting type: float",
        ),
        (
            {"examples": [{"x": None}]},
            "Feature: x has element with unexpected JSON type: Null",
        ),
        (
            {"examples": [{"x": [[1]]}]},
            "Feature: x has element with unexpected JSON type: Array",
        ),
        (
            {"examples": [{"x": {"y": 1}}]},
            "Feature: x has element with unexpected JSON type: Object",
        ),
        (
            {"examples": [{"x": 2**63}]},
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
    ],
)
def test_messages_are_tf_servings(body: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(body)

    assert caught.value.message == message


def test_results() -> None:
    labels = np.array([[b"low", b"high"]], object)
    scores = np.array([[0.25, 1]], np.float32)

    def results(labels: Any, scores: Any) -> Any:
        return json.loads(write_classifications(Classifications(labels, scores)))["results"]

    assert results(labels, scores) == [[["low", 0.25], ["high", 1.0]]]
    assert results(None, scores) == [[["", 0.25], ["", 1.0]]]
    assert results(labels, None) == [[["low", 0.0], ["high", 0.0]]]
    assert write_regressions(np.array([1, 2.5], np.float32)) == (b'{\n    "results": [1.0, 2.5]\n}')
