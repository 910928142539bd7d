"""Classify and regress bodies to tf.Examples, and results to JSON."""

import json
from typing import Any

import numpy as np

from privet.serving.document import parse_document
from privet.serving.examples import read_examples, write_classifications, write_regressions
from privet.serving.inference import Classifications


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


def test_results() -> None:
    labels = np.array([[b"low", b"high"]], object)
    scores = np.array([[0.25, 1]], np.float32)

    def results(labels: Any, scores: Any) -> Any:
        return json.loads(write_classifications(Classifications(labels, scores)))["results"]

    assert results(labels, scores) == [[["low", 0.25], ["high", 1.0]]]
    assert results(None, scores) == [[["", 0.25], ["", 1.0]]]
    assert results(labels, None) == [[["low", 0.0], ["high", 0.0]]]
    assert write_regressions(np.array([1, 2.5], np.float32)) == (b'{\n    "results": [1.0, 2.5]\n}')
