"""Section 1.3: predict requests on the default signature, which both engines have."""

import pytest
from conformance.rows import (
    Row,
    Target,
    body,
    check,
    element,
    error,
    outputs,
    parametrize,
    predictions,
    request,
)

PREDICT = "m:predict"
TFLITE_SHAPES = "a model.tflite runs on any shape, which some operators do not survive"


# Both engines: the default signature, and what is refused before a signature is looked at.
@parametrize(
    [
        Row("rows", PREDICT, {"instances": [1, 2.0, 5]}, predictions("2.5, 3.0, 4.5"), 200),
        Row("rows_by_name", PREDICT, {"instances": [{"x": 1}]}, predictions("2.5"), 200),
        Row(
            "columns",
            PREDICT,
            {"inputs": [1, 2]},
            outputs("[\n        2.5,\n        3.0\n    ]"),
            200,
        ),
        Row(
            "columns_by_name",
            PREDICT,
            {"inputs": {"x": [1]}},
            outputs("[\n        2.5\n    ]"),
            200,
        ),
        Row(
            "other_columns_are_ignored",
            PREDICT,
            {"inputs": {"x": [1], "z": "a"}},
            outputs("[\n        2.5\n    ]"),
            200,
        ),
        Row("no_rows_but_columns", PREDICT, {"inputs": []}, outputs("[]"), 200),
        Row("empty_signature_name", PREDICT, body("", instances=[1]), predictions("2.5"), 200),
        Row(
            "signature_name",
            PREDICT,
            body("serving_default", instances=[1]),
            predictions("2.5"),
            200,
        ),
        Row(
            "other_keys_are_ignored", PREDICT, {"a": {}, "instances": [1]}, predictions("2.5"), 200
        ),
        Row("not_a_number", PREDICT, b'{"instances": [NaN, -NaN]}', predictions("NaN, NaN"), 200),
        Row(
            "infinities",
            PREDICT,
            b'{"instances": [Inf, Infinity, -Inf, -Infinity]}',
            predictions("Infinity, Infinity, -Infinity, -Infinity"),
            200,
        ),
        Row("beyond_float32", PREDICT, b'{"instances": [1e39]}', predictions("Infinity"), 200),
        Row("text_after_the_object", PREDICT, b'{"instances": [1]} text', predictions("2.5"), 200),
        Row("byte_order_mark", PREDICT, b'\xef\xbb\xbf{"instances": [1]}', predictions("2.5"), 200),
        Row("white_space", PREDICT, b'\r\n\t {"instances"\n:\t[ 1 ]}', predictions("2.5"), 200),
        Row(
            "first_of_equal_keys",
            PREDICT,
            b'{"instances": [1], "instances": [2]}',
            predictions("2.5"),
            200,
        ),
        Row("empty", PREDICT, b"", "JSON Parse error: The document is empty"),
        Row("blank", PREDICT, b"  ", "JSON Parse error: The document is empty. at offset: 2"),
        Row("word", PREDICT, b"text", "JSON Parse error: Invalid value. at offset: 1"),
        Row(
            "open_object",
            PREDICT,
            b"{",
            "JSON Parse error: Missing a name for object member. at offset: 1",
        ),
        Row(
            "open_list",
            PREDICT,
            b'{"instances": [1',
            "JSON Parse error: Missing a comma or ']' after an array element. at offset: 16",
        ),
        Row(
            "no_comma",
            PREDICT,
            b'{"instances": [1] "a": 1}',
            "JSON Parse error: Missing a comma or '}' after an object member. at offset: 18",
        ),
        Row("list", PREDICT, [1], "JSON Value: [1] Is not object"),
        Row("number", PREDICT, b"3", "JSON Value: 3 Is not object"),
        Row(
            "signature_name_is_null",
            PREDICT,
            {"signature_name": None},
            'JSON Value: {\n    "signature_name": null\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        Row(
            "unknown_signature",
            PREDICT,
            body("s"),
            'Serving signature name: "s" not found in signature def',
        ),
        Row(
            "both_keys",
            PREDICT,
            {"instances": [1], "inputs": [1]},
            'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly '
            "expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        Row("no_key", PREDICT, {}, "Missing 'inputs' or 'instances' key"),
        Row(
            "instances_is_no_list",
            PREDICT,
            {"instances": 1},
            "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
        ),
        Row(
            "no_instances",
            PREDICT,
            {"instances": []},
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        Row(
            "list_among_objects",
            PREDICT,
            {"instances": [{"x": 1}, 2]},
            "Expecting object but got list at item 1 of input list",
        ),
        Row(
            "object_among_values",
            PREDICT,
            {"instances": [1, {"x": 2}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        Row(
            "unknown_input",
            PREDICT,
            {"instances": [{"z": 1}]},
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: z",
        ),
        Row(
            "missing_input",
            PREDICT,
            {"instances": [{}]},
            "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal "
            "to: x",
        ),
        Row(
            "missing_column", PREDICT, {"inputs": {}}, "Missing named input: x in 'inputs' object."
        ),
        Row(
            "rows_of_other_size",
            PREDICT,
            {"instances": [[1], [1, 2]]},
            element(1, "Expecting tensor size: 1 but got: 2"),
        ),
        Row(
            "rows_of_other_shape",
            PREDICT,
            {"instances": [[[1, 2]], [[1], [2]]]},
            element(1, "Expecting shape [1,2] but got: [2,1]"),
        ),
        Row(
            "ragged_by_size",
            PREDICT,
            {"instances": [[[1, 2], [3]]]},
            element(0, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ),
        Row(
            "ragged_by_depth",
            PREDICT,
            {"inputs": [1, [2]]},
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        Row(
            "ragged_by_a_value",
            PREDICT,
            {"inputs": [[1], 2]},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        *(
            Row(
                f"{kind.lower()}_into_float",
                PREDICT,
                b'{"inputs": %b}' % text,
                f"JSON Value: {text.decode()} Type: {kind} is not of expected type: float",
            )
            for kind, text in (
                ("True", b"true"),
                ("False", b"false"),
                ("Null", b"null"),
                ("String", b'"1"'),
                ("Object", b'{\n    "b64": "AQ=="\n}'),
            )
        ),
        Row(
            "long_values_are_cut_off_after_256_bytes",
            PREDICT,
            {"inputs": {"b64": "é" * 60}, "instances": ["é" * 60, "more"]},
            'JSON Value: {\n    "inputs": {\n        "b64": "' + "é" * 60 + '"\n    },\n'
            '    "instances": ["' + "é" * 60 + '" Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        # The order of checks: each row has also what the later ones refuse.
        Row(
            "parse_error_before_model",
            "n:predict",
            b"[",
            "JSON Parse error: Invalid value. at offset: 1",
        ),
        Row("object_before_model", "n:predict", b"[]", "JSON Value: [] Is not object"),
        Row(
            "signature_type_before_model",
            "n:predict",
            {"signature_name": 1},
            'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        Row(
            "model_before_signature",
            "n:predict",
            body("s"),
            "Servable not found for request: Latest(n)",
            404,
        ),
        Row(
            "signature_before_instances",
            PREDICT,
            body("s", instances=[], inputs=[]),
            'Serving signature name: "s" not found in signature def',
        ),
    ]
)
def test_predict(either: Target, row: Row) -> None:
    check(either, row)


# What the engines differ in: TF Serving checks no shapes, and TFLite's operators trust theirs.
@parametrize(
    [
        Row("scalar", PREDICT, {"inputs": 3.0}, outputs("3.5"), 200),
        Row(
            "matrix",
            PREDICT,
            {"inputs": [[1], [2]]},
            outputs(
                "[\n        [\n            2.5\n        ],\n"
                "        [\n            3.0\n        ]\n    ]"
            ),
            200,
        ),
        Row("empty_rows", PREDICT, {"instances": [[], []]}, predictions("[], []"), 200),
        Row("empty_rank_2", PREDICT, {"inputs": [[]]}, outputs("[\n        []\n    ]"), 200),
        Row("rank_3", PREDICT, {"instances": [[[1]]]}, predictions("[[2.5]]"), 200),
    ]
)
def test_any_shape_runs(savedmodel: Target, row: Row) -> None:
    check(savedmodel, row)


@pytest.mark.parametrize("value", [b"3.0", b"[[1], [2]]", b"[[]]"])
def test_tflite_refuses_other_shapes(tflite: Target, value: bytes) -> None:
    if not tflite.is_privet:
        pytest.skip(f"Privet differs: {TFLITE_SHAPES}")
    status, _, found = request(tflite, "POST", "/v1/models/m:predict", b'{"inputs": %b}' % value)

    assert status == 400
    assert b"to be of shape [-1] but" in found


@pytest.mark.parametrize("depth", [300, 10_000])
def test_deep_lists_are_no_tensor(either: Target, depth: int) -> None:
    """More dimensions than a tensor can have; NumPy has 32, TensorFlow 254."""
    text = b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    status, _, found = request(either, "POST", "/v1/models/m:predict", text)

    assert status == 400
    assert found == error("tensor parsing error: x")
