"""Section 1.1 and 1.2: routes, methods, headers."""

import gzip
import json

import pytest
from conformance.rows import Row, Target, check, error, parametrize, predictions, request

from privet.serving.rest import error_response
from privet.serving.status import Code, RequestError

BODY = {"instances": [1.0]}
ANSWER = predictions("2.5")


def malformed(name: str, method: str, path: str) -> Row:
    return Row(name, path, None, f"Malformed request: {method} {path}", method=method)


@parametrize(
    [
        Row("predict", "m:predict", BODY, ANSWER, 200),
        Row("version", "m/versions/123:predict", BODY, ANSWER, 200),
        Row("version_with_zeros", "m/versions/00000123:predict", BODY, ANSWER, 200),
        Row("name_is_url_decoded", "%6D:predict", BODY, ANSWER, 200),
        Row("case_does_not_count", "/V1/Models/m/Versions/123:predict", BODY, ANSWER, 200),
        Row(
            "query_is_ignored",
            "m:predict?key=value",
            BODY,
            ANSWER,
            200,
            differs="the query is taken for a part of the path, which then matches no route",
        ),
        Row(
            "name_counts_by_case",
            "M:predict",
            BODY,
            "Servable not found for request: Latest(M)",
            404,
        ),
        Row(
            "verb_counts_by_case",
            "m:PREDICT",
            BODY,
            "Malformed request: POST /v1/models/m:PREDICT",
        ),
        Row("unknown_verb", "m:explain", BODY, "Malformed request: POST /v1/models/m:explain"),
        Row("no_verb", "m", BODY, "Malformed request: POST /v1/models/m"),
        Row("no_name", ":predict", BODY, "Malformed request: POST /v1/models/:predict"),
        Row(
            "slash_before_verb", "m/:predict", BODY, "Malformed request: POST /v1/models/m/:predict"
        ),
        Row(
            "slash_after_verb", "m:predict/", BODY, "Malformed request: POST /v1/models/m:predict/"
        ),
        Row(
            "misspelt_versions",
            "m/version/1:predict",
            BODY,
            "Malformed request: POST /v1/models/m/version/1:predict",
        ),
        Row(
            "version_is_no_number",
            "m/versions/one:predict",
            BODY,
            "Malformed request: POST /v1/models/m/versions/one:predict",
        ),
        Row(
            "version_and_label",
            "m/versions/1/labels/a:predict",
            BODY,
            "Malformed request: POST /v1/models/m/versions/1/labels/a:predict",
        ),
        Row(
            "version_beyond_int64",
            f"m/versions/{2**63}:predict",
            BODY,
            f"Failed to convert version: {2**63} to numeric.",
            differs="the body is empty",
        ),
        Row(
            "unknown_version",
            "m/versions/9:predict",
            BODY,
            "Servable not found for request: Specific(m, 9)",
            404,
        ),
        Row("unknown_model", "n:predict", BODY, "Servable not found for request: Latest(n)", 404),
        Row(
            "unknown_model_and_version",
            "n/versions/1:predict",
            BODY,
            "Servable not found for request: Specific(n, 1)",
            404,
        ),
        Row(
            "unknown_label",
            "m/labels/stable:predict",
            BODY,
            "Unrecognized servable version label: stable",
        ),
        Row(
            "label_of_unknown_model",
            "n/labels/stable:predict",
            BODY,
            "Unrecognized servable version label: stable",
        ),
        malformed("get_of_predict", "GET", "/v1/models/m:predict"),
        malformed("put", "PUT", "/v1/models/m:predict"),
        malformed("delete", "DELETE", "/v1/models/m"),
        malformed("other_path", "GET", "/v1/anything"),
        malformed("nothing_after_v1", "GET", "/v1/"),
        malformed("trailing_slash", "GET", "/v1/models/m/"),
        malformed("trailing_slash_after_models", "GET", "/v1/models/"),
        malformed("no_reload_route", "POST", "/v1/models/m/reload"),
        Row(
            "no_list_of_models", "/v1/models", None, "Missing model name in request.", method="GET"
        ),
    ]
)
def test_routes(either: Target, row: Row) -> None:
    check(either, row)


@pytest.mark.parametrize("path", ["/v1", "/v2/models/m", "/models/m:predict"])
def test_outside_v1_is_html(either: Target, path: str) -> None:
    status, headers, body = request(either, "GET", path)

    assert status == 404
    assert headers["content-type"] == "text/html"
    assert b"Not Found" in body


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_content_type_of_the_request_does_not_count(either: Target, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = request(either, "POST", "/v1/models/m:predict", json.dumps(BODY).encode(), headers)

    assert answer[::2] == (200, ANSWER)


def test_gzipped_request(either: Target) -> None:
    packed, headers = gzip.compress(json.dumps(BODY).encode()), {"Content-Encoding": "gzip"}
    status, found, body = request(either, "POST", "/v1/models/m:predict", packed, headers)

    assert (status, body) == (200, ANSWER)
    assert "content-encoding" not in found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://a"}, 200),
        ({"Origin": "https://a"}, 200),
        ({"Origin": "a"}, 400),
        ({}, 400),
    ],
)
def test_options(either: Target, headers: dict[str, str], status: int) -> None:
    found, answered, body = request(either, "OPTIONS", "/v1/models/m:predict", None, headers)

    assert (found, body) == (status, b"")
    assert not [name for name in answered if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("FAILED_PRECONDITION", 400),
        ("OUT_OF_RANGE", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("ABORTED", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("CANCELLED", 499),
        ("UNKNOWN", 500),
        ("INTERNAL", 500),
        ("DATA_LOSS", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_status_map(code: str, status: int) -> None:
    response = error_response(RequestError(Code[code], "why"))

    assert (response.status, response.body) == (status, error("why"))
