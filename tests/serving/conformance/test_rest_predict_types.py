"""Sections 1.3 and 1.4: types, several inputs and outputs, digits; the SavedModel has these."""

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


def echo(type_name: str, values: bytes) -> bytes:
    """A request in column format to the signature that gives back what it gets."""
    return b'{"signature_name": "echo_%b", "inputs": %b}' % (type_name.encode(), values)


@parametrize(
    [
        Row(
            "plain_rows_of_two_inputs",
            PREDICT,
            body("pair", instances=[1]),
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        Row(
            "plain_columns_of_two_inputs",
            PREDICT,
            body("pair", inputs=[1]),
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        Row(
            "missing_one_of_two",
            PREDICT,
            body("pair", instances=[{"a": 1}]),
            "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} "
            "keys must be equal to: a,b",
        ),
        Row(
            "missing_column_of_two",
            PREDICT,
            body("pair", inputs={"a": [1]}),
            "Missing named input: b in 'inputs' object.",
        ),
        Row(
            "base64_row_of_two_inputs",
            PREDICT,
            body("pair", instances=[{"b64": "AQ=="}]),
            element(
                0, 'JSON Value: {\n    "b64": "AQ=="\n} Type: Object is not of expected type: float'
            ),
        ),
        Row(
            "output_without_batch",
            PREDICT,
            body("total", instances=[1]),
            "Tensor name: total has no shape information ",
        ),
        Row("scalar_output", PREDICT, body("total", inputs=[1, 2]), outputs("3.0"), 200),
        Row(
            "half_output",
            PREDICT,
            body("to_half", inputs=[1]),
            "Failed to write JSON value for tensor type: half",
        ),
        Row("half_output_without_values", PREDICT, body("to_half", inputs=[]), outputs("[]"), 200),
        Row(
            "complex_output",
            PREDICT,
            body("to_complex", instances=[1]),
            "Failed to write JSON value for tensor type: complex64",
        ),
        Row(
            "half_input",
            PREDICT,
            body("from_half", inputs=[1]),
            "Conversion of JSON Value: 1 to type: half",
            501,
        ),
        Row(
            "string_into_string",
            PREDICT,
            body("bytes", inputs="a"),
            outputs('{\n        "b64": "YQ=="\n    }'),
            200,
        ),
        Row(
            "base64_into_string",
            PREDICT,
            body("echo_string", inputs={"b64": "w6k="}),
            outputs('"é"'),
            200,
        ),
        Row(
            "base64_without_padding",
            PREDICT,
            body("bytes", inputs={"b64": "AQ"}),
            outputs('{\n        "b64": "AQ=="\n    }'),
            200,
        ),
        Row(
            "url_safe_base64",
            PREDICT,
            body("bytes", inputs={"b64": "_w=="}),
            "Unable to base64 decode",
        ),
        Row("short_base64", PREDICT, body("bytes", inputs={"b64": "A"}), "Unable to base64 decode"),
        Row(
            "base64_of_a_number",
            PREDICT,
            body("bytes", inputs=[{"b64": 1}]),
            'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        Row(
            "base64_and_more",
            PREDICT,
            body("bytes", inputs=[{"b64": "AQ==", "a": 1}]),
            'JSON Value: {\n    "b64": "AQ==",\n    "a": 1\n} not formatted correctly for base64 '
            "data",
        ),
        Row(
            "number_into_string",
            PREDICT,
            body("bytes", inputs=[1]),
            "JSON Value: 1 Type: Number is not of expected type: string",
        ),
        Row(
            "escaped_strings",
            PREDICT,
            echo("string", rb'["\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t\u0000\u001f\u007f"]'),
            outputs('[\n        "é😀\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001F\x7f"\n    ]'),
            200,
        ),
        Row(
            "string_that_is_not_utf8",
            PREDICT,
            body("bytes", instances=[{"b64": "/w=="}]),
            predictions('{\n            "b64": "/w=="\n        }'),
            200,
        ),
        Row(
            "rows_of_two_outputs",
            PREDICT,
            body("text", instances=["é", {"b64": "AQ=="}]),
            predictions(
                '\n        {\n            "copy": "é",\n            "copy_bytes": {\n'
                '                "b64": "w6k="\n            }\n        },\n'
                '        {\n            "copy": "\\u0001",\n            "copy_bytes": {\n'
                '                "b64": "AQ=="\n            }\n        }'
            ),
            200,
        ),
        Row(
            "columns_of_two_outputs",
            PREDICT,
            body("pair", inputs={"a": [1], "b": [2]}),
            outputs(
                '{\n        "product": [\n            2.0\n        ],\n        "sum": [\n'
                "            3.0\n        ]\n    }"
            ),
            200,
        ),
        Row(
            "matrix_of_two_columns",
            PREDICT,
            body("dense", instances=[[1, 2]]),
            predictions("[21.0]"),
            200,
        ),
    ]
)
def test_predict_signatures(savedmodel: Target, row: Row) -> None:
    check(savedmodel, row)


def test_outputs_of_unequal_batch_sizes(savedmodel: Target) -> None:
    """Which of the two is named first is not specified."""
    text = b'{"signature_name": "unequal", "instances": [1, 2]}'
    status, _, found = request(savedmodel, "POST", "/v1/models/m:predict", text)

    assert status == 400
    assert found in (
        error("Tensor name: b has inconsistent batch size: 1 expecting: 2"),
        error("Tensor name: a has inconsistent batch size: 2 expecting: 1"),
    )


@pytest.mark.parametrize("values", [b"[[1, 2, 3]]", b"[1, 2]", b"1", b"[[[1, 2]]]", b"[[]]"])
def test_shapes_that_operators_refuse(savedmodel: Target, values: bytes) -> None:
    text = b'{"signature_name": "dense", "inputs": %b}' % values
    status, _, found = request(savedmodel, "POST", "/v1/models/m:predict", text)

    assert status == 400
    assert found.startswith(b'{\n    "error": "')


RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint8": (0, 2**8 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
WRAPS = "the number is taken, and wraps around"


def wrong_type(type_name: str, text: str, kind: str, differs: str = "") -> Row:
    message = f"JSON Value: {text} Type: {kind} is not of expected type: {type_name}"
    request_body = echo(type_name, text.encode())
    return Row(f"{type_name}_{text}", PREDICT, request_body, message, differs=differs)


@parametrize(
    [
        *(
            Row(f"{name}_{value}", PREDICT, echo(name, b"%d" % value), outputs(str(value)), 200)
            for name, ends in RANGES.items()
            for value in ends
        ),
        *(
            wrong_type(name, text, kind)
            for name in RANGES
            for text, kind in (("1.0", "Number"), ("true", "True"), ('"1"', "String"))
        ),
        *(
            wrong_type(name, str(value), "Number", WRAPS)
            for name in ("int8", "int16", "uint8")
            for value in (RANGES[name][0] - 1, RANGES[name][1] + 1)
        ),
        wrong_type("uint8", str(2**31), "Number"),
        wrong_type("int32", str(2**31), "Number"),
        wrong_type("int32", str(-(2**31) - 1), "Number"),
        wrong_type("int64", str(2**63), "Number"),
        wrong_type("uint32", "-1", "Number"),
        wrong_type("uint32", str(2**32), "Number"),
        wrong_type("uint64", "-1", "Number"),
        # What 64 bits do not hold is a double, and echoed as one.
        Row(
            "int64_below",
            PREDICT,
            echo("int64", b"-9223372036854775809"),
            "JSON Value: -9223372036854776000.0 Type: Number is not of expected type: int64",
        ),
    ]
)
def test_integers(savedmodel: Target, row: Row) -> None:
    check(savedmodel, row)


@parametrize(
    [
        Row(
            "true",
            PREDICT,
            echo("bool", b"[true, false]"),
            outputs("[\n        true,\n        false\n    ]"),
            200,
        ),
        Row(
            "one_into_bool",
            PREDICT,
            echo("bool", b"1"),
            "JSON Value: 1 Type: Number is not of expected type: bool",
        ),
        *(
            Row(f"float32_{text}", PREDICT, echo("float32", text.encode()), outputs(printed), 200)
            for text, printed in (
                ("0.2", "0.2"),
                ("2", "2.0"),
                ("-0.0", "-0.0"),
                ("0.0", "0.0"),
                ("0.333333333333", "0.333333343"),
                ("123456.789", "123456.789"),
                ("9000000", "9e+06"),
                ("999999", "999999.0"),
                ("16777217", "16777216.0"),
                ("0.00003", "3e-05"),
                ("0.0001", "0.0001"),
                ("1e-45", "1.4013e-45"),
                ("3.4028235e38", "3.40282347e+38"),
                ("67108900", "6.71089e+07"),
                ("NaN", "NaN"),
                ("-Infinity", "-Infinity"),
            )
        ),
        *(
            Row(f"float64_{text}", PREDICT, echo("float64", text.encode()), outputs(printed), 200)
            for text, printed in (
                ("0.1", "0.1"),
                ("2", "2.0"),
                ("0.3333333333333333", "0.33333333333333331"),
                ("1e300", "1e+300"),
                ("123456789", "123456789.0"),
                ("NaN", "NaN"),
            )
        ),
    ]
)
def test_types(savedmodel: Target, row: Row) -> None:
    check(savedmodel, row)
