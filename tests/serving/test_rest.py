"""The REST API, through a real server on loopback."""

import gzip
import http.client
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from privet.components.shared.errors import ServingError
from privet.serving.client import RestClient
from privet.serving.config import ServerConfig

Answer = tuple[int, dict[str, str], bytes]


def request(
    server: SimpleNamespace,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def predict(server: SimpleNamespace, body: Any, path: str = "/v1/models/m:predict") -> Any:
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    status, _, answer = request(server, "POST", path, text)
    return status, json.loads(answer)


def test_predict_rows_exactly_as_tf_serving_prints_them(server: SimpleNamespace) -> None:
    status, headers, body = request(
        server, "POST", "/v1/models/m:predict", '{"instances": [1.0, 2.0, 5.0]}'
    )

    assert status == 200
    assert headers["content-type"] == "application/json"
    assert body == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"inputs": {"x": [1, 2]}}, {"outputs": [2.5, 3.0]}),
        ({"inputs": [[1], [2]]}, {"outputs": [[2.5], [3.0]]}),
        ({"inputs": 3}, {"outputs": 3.5}),
        ({"instances": [{"x": 1}]}, {"predictions": [2.5]}),
        ({"signature_name": "", "instances": [1]}, {"predictions": [2.5]}),
        ({"instances": [1], "unknown": "ignored"}, {"predictions": [2.5]}),
        (
            {"signature_name": "pair", "instances": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]},
            {"predictions": [{"product": 2.0, "sum": 3.0}, {"product": 12.0, "sum": 7.0}]},
        ),
        (
            {"signature_name": "pair", "inputs": {"a": [1], "b": [2]}},
            {"outputs": {"product": [2.0], "sum": [3.0]}},
        ),
        (
            {"signature_name": "text", "instances": ["é", {"b64": "AQ=="}]},
            {
                "predictions": [
                    {"copy": "é", "copy_bytes": {"b64": "w6k="}},
                    {"copy": "\x01", "copy_bytes": {"b64": "AQ=="}},
                ]
            },
        ),
        ({"signature_name": "integers", "instances": [1, -7]}, {"predictions": [2, -14]}),
        ({"signature_name": "total", "inputs": [1, 2]}, {"outputs": 3.0}),
    ],
)
def test_predict(server: SimpleNamespace, body: Any, answer: Any) -> None:
    assert predict(server, body) == (200, answer)


def test_special_floats_travel_both_ways(server: SimpleNamespace) -> None:
    status, _, body = request(
        server, "POST", "/v1/models/m:predict", '{"instances": [NaN, -Infinity, 1]}'
    )

    assert (status, body) == (200, b'{\n    "predictions": [NaN, -Infinity, 2.5\n    ]\n}')


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("m:predict", "", 400, "JSON Parse error: The document is empty"),
        ("m:predict", "[1]", 400, "JSON Value: [1] Is not object"),
        ("m:predict", "{", 400, "JSON Parse error: Missing a name for object member. at offset: 1"),
        ("m:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
        (
            "m:predict",
            '{"signature_name": null}',
            400,
            'JSON Value: {\n    "signature_name": null\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        ("n:predict", '{"instances": []}', 404, "Servable not found for request: Latest(n)"),
        (
            "m/versions/9:predict",
            "{}",
            404,
            "Servable not found for request: Specific(m, 9)",
        ),
        ("n:predict", "not JSON", 400, "JSON Parse error: Invalid value. at offset: 1"),
        ("m/labels/stable:predict", "{}", 400, "Unrecognized servable version label: stable"),
        (
            "m:predict",
            '{"signature_name": "s"}',
            400,
            'Serving signature name: "s" not found in signature def',
        ),
        (
            "m:predict",
            '{"signature_name": "total", "instances": [1]}',
            400,
            "Tensor name: total has no shape information ",
        ),
        ("m:classify", '{"signature_name": "s"}', 400, None),
        (
            "m:classify",
            '{"signature_name": "s", "examples": [{}]}',
            400,
            "No signature was found with the name: s",
        ),
        (
            "m:classify",
            '{"signature_name": "pair", "examples": [{}]}',
            400,
            "Expected one input Tensor.",
        ),
        (
            "m:regress",
            '{"signature_name": "classify", "examples": [{}]}',
            400,
            "Expected one output Tensor.",
        ),
        ("m:explain", "{}", 400, "Malformed request: POST /v1/models/m:explain"),
        ("m:PREDICT", "{}", 400, "Malformed request: POST /v1/models/m:PREDICT"),
        ("m/:predict", "{}", 400, "Malformed request: POST /v1/models/m/:predict"),
        (
            "m/version/1:predict",
            "{}",
            400,
            "Malformed request: POST /v1/models/m/version/1:predict",
        ),
        (
            f"m/versions/{2**63}:predict",
            "{}",
            400,
            f"Failed to convert version: {2**63} to numeric.",
        ),
    ],
)
def test_errors(
    server: SimpleNamespace, path: str, body: str, status: int, error: str | None
) -> None:
    found, answer = predict(server, body, f"/v1/models/{path}")

    assert found == status
    assert list(answer) == ["error"]
    if error is not None:
        assert answer["error"] == error


def test_model_errors_are_the_runtimes_own(server: SimpleNamespace) -> None:
    status, answer = predict(server, {"signature_name": "dense", "instances": [[1, 2, 3]]})

    assert status == 400
    assert "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]" in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/v1/models/n", 404, "Could not find any versions of model n"),
        ("GET", "/v1/models/m/versions/7", 404, "Could not find version 7 of model m"),
        ("GET", "/v1/models/n/metadata", 404, "Servable not found for request: Latest(n)"),
        ("GET", "/v1/models/m/", 400, "Malformed request: GET /v1/models/m/"),
        ("GET", "/v1/models/m:predict", 400, "Malformed request: GET /v1/models/m:predict"),
        ("POST", "/v1/models/m", 400, "Malformed request: POST /v1/models/m"),
        ("PUT", "/v1/models/m:predict", 400, "Malformed request: PUT /v1/models/m:predict"),
        ("DELETE", "/v1/models/m", 400, "Malformed request: DELETE /v1/models/m"),
        ("GET", "/v1/anything", 400, "Malformed request: GET /v1/anything"),
    ],
)
def test_routes(server: SimpleNamespace, method: str, path: str, status: int, error: str) -> None:
    found, _, body = request(server, method, path)

    assert (found, json.loads(body)["error"]) == (status, error)


@pytest.mark.parametrize("path", ["/health", "/v2/models/m", "/v1"])
def test_outside_the_api_is_404_html(server: SimpleNamespace, path: str) -> None:
    status, headers, body = request(server, "GET", path)

    assert status == 404
    assert headers["content-type"] == "text/html"
    assert b"Not Found" in body


@pytest.mark.parametrize(
    "path", ["/v1/models/m", "/V1/Models/%6d", "/v1/models/m/versions/0001", "/v1/models/m?a=b"]
)
def test_status(server: SimpleNamespace, path: str) -> None:
    status, _, body = request(server, "GET", path)

    assert status == 200
    assert json.loads(body) == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def test_metadata(server: SimpleNamespace) -> None:
    status, _, body = request(server, "GET", "/v1/models/m/versions/1/metadata")
    answer = json.loads(body)
    signatures = answer["metadata"]["signature_def"]["signature_def"]

    assert status == 200
    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    assert "__saved_model_init_op" in signatures
    assert signatures["serving_default"]["inputs"] == {
        "x": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "serving_default_x:0",
        }
    }
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


def test_classify_and_regress(server: SimpleNamespace) -> None:
    client = RestClient("127.0.0.1", server.rest_port)
    examples = [{"x": [0.25, 0.75]}, {"x": [1.0, 0.0]}]

    assert client.classify("m", examples, signature_name="classify") == [
        [("low", 0.25), ("high", 0.75)],
        [("low", 1.0), ("high", 0.0)],
    ]
    assert client.regress("m", examples, signature_name="regress") == [1.0, 1.0]
    assert client.regress("m", [{}, {}], context={"x": [2.0, 3.5]}, signature_name="regress") == [
        5.5,
        5.5,
    ]
    # A user's trap in TF Serving too: integers make an int64 feature, which the model refuses.
    with pytest.raises(ServingError, match=r"answered 400: .*Data types don't match"):
        client.regress("m", [{"x": [1, 2]}], signature_name="regress")


def test_gzip_request(server: SimpleNamespace) -> None:
    packed = gzip.compress(b'{"instances": [1]}')
    path, headers = "/v1/models/m:predict", {"Content-Encoding": "gzip"}

    assert request(server, "POST", path, packed, headers)[0] == 200
    for broken in (packed[:-9], b"not gzip"):
        status, _, body = request(server, "POST", path, broken, headers)
        assert status == 400
        assert "gzip" in json.loads(body)["error"]


def test_cors_preflight(server: SimpleNamespace) -> None:
    path = "/v1/models/m:predict"

    assert request(server, "OPTIONS", path, headers={"Origin": "http://a"})[::2] == (200, b"")
    assert request(server, "OPTIONS", path)[::2] == (400, b"")


def test_large_body(server: SimpleNamespace) -> None:
    status, answer = predict(server, {"instances": [[0.5] * 1000] * 300})

    assert status == 200
    assert len(answer["predictions"]) == 300


def test_many_clients_at_once(server: SimpleNamespace) -> None:
    client = RestClient("127.0.0.1", server.rest_port)
    wrong: list[Any] = []

    def work(number: int) -> None:
        for step in range(25):
            answer = client.predict("m", instances=[number, step])
            if answer != [0.5 * number + 2, 0.5 * step + 2]:
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_slow_request_times_out_with_504() -> None:
    import asyncio
    import time
    from concurrent.futures import ThreadPoolExecutor

    from privet.serving.front import Front
    from privet.serving.models import Models
    from privet.serving.rest import Response, RestApi

    class Slow(RestApi):
        def respond(self, method: str, path: str, body: bytes) -> Response:
            time.sleep(0.3)
            return Response(200, b"")

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "raw_path": b"/v1/models/m:predict", "headers": []}
    with ThreadPoolExecutor(1) as pool:
        config = ServerConfig(Path("unused"), rest_api_timeout_in_ms=50)
        front = Front(Slow(Models({})), pool, config, is_ready=lambda: True, pages={})
        asyncio.run(front(scope, receive, send))

    assert sent[0]["status"] == 504
    assert json.loads(sent[1]["body"]) == {"error": "Timed out waiting for notification"}


def test_client_says_where_and_why(server: SimpleNamespace) -> None:
    client = RestClient("127.0.0.1", server.rest_port)

    assert client.predict("m", inputs={"x": [1]}, version=1) == [2.5]
    assert client.wait_until_available("m", 5) == 1
    with pytest.raises(ServingError, match=r"/v1/models/n:predict answered 404: Servable not"):
        client.predict("n", instances=[1])
    with pytest.raises(ServingError, match=r"last seen: .*Could not find any versions of model n"):
        client.wait_until_available("n", 0.1)
    with pytest.raises(ServingError, match="Is the server running there"):
        RestClient("127.0.0.1", 1).status("m")
