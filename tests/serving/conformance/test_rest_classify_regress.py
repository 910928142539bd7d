"""Section 1.5: classify and regress, to the byte. TFLite models have no such signatures."""

from typing import Any

import pytest
from conformance.rows import Row, Target, check, parametrize, request, results

CLASSIFY, REGRESS = "m:classify", "m:regress"
EXAMPLE = {"x": [0.25, 1.0]}
TWO_ROWS = results('[["low", 0.25], ["high", 1.0]], [["low", 3.0], ["high", 4.5]]')


def body(signature: str, *examples: Any, **members: Any) -> dict[str, Any]:
    return {"signature_name": signature, "examples": list(examples), **members}


def feature(value: Any) -> dict[str, Any]:
    return body("classify", {"x": value})


def json_type(kind: str) -> str:
    return f"Feature: x has element with unexpected JSON type: {kind}"


def mixed(kind: str) -> str:
    return f"Unexpected element type in feature: x expecting type: {kind}"


@parametrize(
    [
        Row("classify", CLASSIFY, body("classify", EXAMPLE, {"x": [3.0, 4.5]}), TWO_ROWS, 200),
        Row(
            "labels_only",
            CLASSIFY,
            body("classify_labels", {}),
            results('[["low", 0.0], ["high", 0.0]]'),
            200,
        ),
        Row(
            "scores_only",
            CLASSIFY,
            body("classify_scores", EXAMPLE),
            results('[["", 0.25], ["", 1.0]]'),
            200,
        ),
        Row(
            "regress",
            REGRESS,
            body("regress", EXAMPLE, {"x": [3.0, 4.5]}),
            b'{\n    "results": [1.25, 7.5]\n}',
            200,
        ),
        Row(
            "regress_flat",
            REGRESS,
            body("regress_flat", EXAMPLE),
            b'{\n    "results": [1.25]\n}',
            200,
        ),
        Row(
            "context",
            REGRESS,
            body("regress", {}, {}, context=EXAMPLE),
            b'{\n    "results": [1.25, 1.25]\n}',
            200,
        ),
        Row(
            "special_floats",
            CLASSIFY,
            b'{"signature_name": "classify_scores", "examples": [{"x": [NaN, -Infinity]}]}',
            results('[["", NaN], ["", -Infinity]]'),
            200,
        ),
        Row("empty", CLASSIFY, b"", "JSON Parse error: The document is empty"),
        Row("list", REGRESS, [], "JSON Value: [] Is not object"),
        Row(
            "signature_name_is_a_number",
            CLASSIFY,
            {"signature_name": 1},
            'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        *(
            Row(
                f"no_examples_in_{verb}",
                f"m:{verb}",
                {},
                "JSON Value: {} When method is classify, key 'examples' is expected and was not "
                "found",
            )
            for verb in ("classify", "regress")
        ),
        Row(
            "examples_is_no_list",
            CLASSIFY,
            {"examples": 1},
            "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        ),
        Row(
            "examples_is_empty",
            CLASSIFY,
            {"examples": []},
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        Row(
            "example_is_no_object",
            CLASSIFY,
            {"examples": [3]},
            "Example must be JSON object but got JSON Number",
        ),
        Row(
            "context_is_no_object",
            CLASSIFY,
            {"examples": [{}], "context": "c"},
            "Example must be JSON object but got JSON String",
        ),
        Row("integer_then_float", CLASSIFY, feature([1, 2.0]), mixed("int64")),
        Row("float_then_true", CLASSIFY, feature([1.5, True]), mixed("float")),
        Row("string_then_integer", CLASSIFY, feature(["a", 1]), mixed("bytes")),
        Row("float_then_base64", CLASSIFY, feature([1.5, {"b64": ""}]), mixed("float")),
        Row("null", CLASSIFY, feature(None), json_type("Null")),
        Row("nested_list", CLASSIFY, feature([[1.0]]), json_type("Array")),
        Row("object", CLASSIFY, feature({"y": 1}), json_type("Object")),
        Row("bad_base64", CLASSIFY, feature({"b64": "_"}), "Unable to base64 decode"),
        Row(
            "beyond_int64",
            CLASSIFY,
            feature(2**63),
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
        Row(
            "unknown_signature",
            CLASSIFY,
            body("s", EXAMPLE),
            "No signature was found with the name: s",
        ),
        Row(
            "unknown_model",
            "n:classify",
            body("s", EXAMPLE),
            "Servable not found for request: Latest(n)",
            404,
        ),
        Row(
            "examples_before_model",
            "n:classify",
            {"examples": [3]},
            "Example must be JSON object but got JSON Number",
        ),
    ]
)
def test_classify_and_regress(savedmodel: Target, row: Row) -> None:
    check(savedmodel, row)


@parametrize(
    [
        Row("two_inputs", CLASSIFY, body("pair", EXAMPLE), "Expected one input Tensor."),
        Row(
            "two_outputs_in_regress",
            REGRESS,
            body("classify", EXAMPLE),
            "Expected one output Tensor.",
        ),
        Row(
            "flat_scores",
            CLASSIFY,
            body("classify_flat", EXAMPLE),
            "Expected Tensor shape: [batch_size num_classes] but got [1]",
        ),
        Row(
            "wide_output",
            REGRESS,
            body("regress_wide", EXAMPLE),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            "[1,2]",
        ),
    ]
)
def test_signatures_that_do_not_fit(savedmodel: Target, row: Row) -> None:
    check(savedmodel, row)


@pytest.mark.parametrize(
    ("path", "signature", "start"),
    [
        (CLASSIFY, "serving_default", "No classification inputs found in SignatureDef: "),
        (
            CLASSIFY,
            "classify_none",
            'Expected classification signature outputs to contain at least one of \\"classes\\" '
            'or \\"scores\\". Signature was: ',
        ),
        (REGRESS, "serving_default", "No regression inputs found in SignatureDef: "),
        (REGRESS, "regress_other", "No regression outputs found in SignatureDef: "),
    ],
)
def test_messages_that_end_in_a_signature(
    savedmodel: Target, path: str, signature: str, start: str
) -> None:
    """TF Serving ends them with the whole SignatureDef as text, Privet with its names."""
    text = b'{"signature_name": "%b", "examples": [{}]}' % signature.encode()
    status, _, found = request(savedmodel, "POST", f"/v1/models/{path}", text)

    assert status == 400
    assert found.decode().startswith(f'{{\n    "error": "{start}')


def test_an_integer_is_no_float(savedmodel: Target) -> None:
    """The trap that TF Serving's users know: a JSON integer makes an int64 feature."""
    text = b'{"signature_name": "classify", "examples": [{"x": [1, 2]}]}'
    status, _, found = request(savedmodel, "POST", "/v1/models/m:classify", text)

    assert status == 400
    assert b"Data types don't match" in found


def test_tflite_has_no_such_signature(tflite: Target) -> None:
    row = Row(
        "", CLASSIFY, body("classify", EXAMPLE), "No signature was found with the name: classify"
    )
    check(tflite, row)
