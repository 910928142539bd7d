"""Section 1.6: status and metadata, to the byte."""

import json

import pytest
from conformance.rows import Row, Target, check, parametrize, request

STATUS = b"""{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""
NO_QUERY = "the query is taken for a part of the model's name"


@parametrize(
    [
        Row("model", "m", None, STATUS, 200, "GET"),
        Row("version", "m/versions/123", None, STATUS, 200, "GET"),
        Row("version_with_zeros", "m/versions/000123", None, STATUS, 200, "GET"),
        Row("label_is_ignored", "m/labels/any", None, STATUS, 200, "GET"),
        Row("case_and_escapes", "/V1/MODELS/%6d", None, STATUS, 200, "GET"),
        Row("metadata_in_capitals_is_status", "m/METADATA", None, STATUS, 200, "GET"),
        Row("query_is_ignored", "m?a=b", None, STATUS, 200, "GET", NO_QUERY),
        Row("unknown_model", "n", None, "Could not find any versions of model n", 404, "GET"),
        Row(
            "unknown_version",
            "m/versions/7",
            None,
            "Could not find version 7 of model m",
            404,
            "GET",
        ),
        Row(
            "version_of_unknown_model",
            "n/versions/7",
            None,
            "Could not find version 7 of model n",
            404,
            "GET",
        ),
        Row(
            "metadata_of_unknown_model",
            "n/metadata",
            None,
            "Servable not found for request: Latest(n)",
            404,
            "GET",
        ),
        Row(
            "metadata_of_unknown_version",
            "m/versions/7/metadata",
            None,
            "Servable not found for request: Specific(m, 7)",
            404,
            "GET",
        ),
        Row(
            "metadata_of_unknown_label",
            "m/labels/any/metadata",
            None,
            "Unrecognized servable version label: any",
            400,
            "GET",
        ),
        Row(
            "version_beyond_int64",
            f"m/versions/{2**63}",
            None,
            f"Failed to convert version: {2**63} to numeric.",
            400,
            "GET",
            "the body is empty",
        ),
        Row(
            "other_resource",
            "m/config",
            None,
            "Malformed request: GET /v1/models/m/config",
            400,
            "GET",
        ),
    ]
)
def test_status(either: Target, row: Row) -> None:
    check(either, row)


@pytest.mark.parametrize("path", ["m/metadata", "m/versions/123/metadata"])
def test_metadata(either: Target, path: str) -> None:
    status, headers, body = request(either, "GET", f"/v1/models/{path}")
    answer = json.loads(body)
    signatures = answer["metadata"]["signature_def"]["signature_def"]

    assert status == 200
    assert headers["content-type"] == "application/json"
    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "123"}
    default = signatures["serving_default"]
    assert default.pop("defaults", {}) == {}
    for side, name in (("inputs", "x"), ("outputs", "y")):
        assert default[side][name].pop("name")  # the tensor's name, which engines differ in
        assert default[side] == {
            name: {
                "dtype": "DT_FLOAT",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            }
        }
    assert default["method_name"] == "tensorflow/serving/predict"


def test_metadata_layout(either: Target) -> None:
    body = request(either, "GET", "/v1/models/m/metadata")[2].decode()

    assert body.startswith('{\n"model_spec":{\n "name": "m",\n "signature_name": "",\n "version": ')
    assert ' "123"\n}\n,\n"metadata": {"signature_def": {\n "signature_def": {\n  "' in body
    assert '\n      "unknown_rank": false\n' in body
    assert body.endswith("\n }\n}\n}\n}\n")


def test_metadata_of_every_signature(savedmodel: Target) -> None:
    body = request(savedmodel, "GET", "/v1/models/m/metadata")[2]
    signatures = json.loads(body)["metadata"]["signature_def"]["signature_def"]

    assert signatures["__saved_model_init_op"]["outputs"] == {
        "__saved_model_init_op": {
            "dtype": "DT_INVALID",
            "tensor_shape": {"dim": [], "unknown_rank": True},
            "name": "NoOp",
        }
    }
    assert signatures["total"]["outputs"]["total"]["tensor_shape"] == {
        "dim": [],
        "unknown_rank": False,
    }
    assert signatures["echo_int64"]["inputs"]["x"]["tensor_shape"]["unknown_rank"] is True
    assert signatures["text"]["inputs"]["text"]["dtype"] == "DT_STRING"
