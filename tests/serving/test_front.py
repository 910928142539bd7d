"""What stands before the REST API: health, token, limits, gzip, CORS, the access log."""

import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.serving.rest import Response
from privet.serving.status import WouldBlockError, invalid_argument
from privet.serving.tokens import matches, read_token

Start = Callable[..., SimpleNamespace]
PREDICT = "/v1/models/m:predict"
ROW = b'{"instances": [1.0]}'
MANY = json.dumps({"instances": [1.0] * 1000}).encode()


def ask(
    server: SimpleNamespace,
    path: str = PREDICT,
    body: Any = None,
    method: str | None = None,
    **headers: str,
) -> SimpleNamespace:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, names)
        response = connection.getresponse()
        content = response.read()
        return SimpleNamespace(
            status=response.status,
            body=content,
            error=lambda: json.loads(content)["error"],
            headers={name.lower(): value for name, value in response.getheaders()},
        )
    finally:
        connection.close()


def test_answers_say_which_version_and_engine_gave_them(start_rest: Start) -> None:
    server = start_rest()
    answer = ask(server, body=ROW)

    assert answer.status == 200
    assert answer.headers["x-model-version"] == "7"
    assert answer.headers["x-model-engine"] == "echo"
    assert "x-model-version" not in ask(server, body=b"{").headers


def test_answers_to_known_short_requests_are_the_same(start_rest: Start) -> None:
    server = start_rest(rest_api_enable_cors_support=True, token=b"secret")
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n"
        f"Content-Length: {len(ROW)}\r\n\r\n"
    ).encode()

    def answer(sent: bytes) -> set[bytes]:
        client.sendall(sent)
        received = client.recv(65536).split(b"\r\n")
        return {line for line in received if not line.startswith(b"date: ")}

    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as client:
        first = answer(head + ROW)
        assert b"HTTP/1.1 200 OK" in first
        assert all(answer(head + ROW) == first for _ in range(3))
        assert b"HTTP/1.1 401 Unauthorized" in answer(head.replace(b"secret", b"wrongs") + ROW)
        assert b"HTTP/1.1 400 Bad Request" in answer(head + b"{" * len(ROW))
        last = answer(head.replace(b"Host", b"Connection: close\r\nHost") + ROW)
        assert last == first | {b"connection: close"}
        assert client.recv(1) == b""


def test_health_and_readiness(start_rest: Start) -> None:
    server = start_rest(token=b"secret")

    assert (ask(server, "/healthz").status, ask(server, "/readyz").status) == (200, 200)
    assert ask(server, "/readyz", method="HEAD").body == b""
    server.models.ready = False
    assert (ask(server, "/healthz").status, ask(server, "/readyz").status) == (200, 503)


def test_pages_stand_beside_the_api(start_rest: Start) -> None:
    page = Response(200, b"hello", b"text/plain")
    server = start_rest(pages={"/hello": lambda: page}, token=b"secret")

    assert ask(server, "/hello").status == 401
    answer = ask(server, "/hello", Authorization="Bearer secret")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (
        200,
        b"hello",
        "text/plain",
    )


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer secre"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "secret"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer  secret "}, 200),
    ],
)
def test_token(start_rest: Start, header: dict[str, str], status: int) -> None:
    answer = ask(start_rest(token=b"secret"), body=ROW, **header)

    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer" in answer.error()


def test_token_file(tmp_path: Any) -> None:
    path = tmp_path / "token"
    path.write_text("abc123\n")
    assert read_token(path) == b"abc123"
    assert matches("Bearer abc123", b"abc123")
    assert not matches("Bearer \udcff", b"abc123")
    for wrong in ("", "\n", "two words", "one\ntwo", "é"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="--auth_token_file"):
            read_token(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_token(tmp_path / "none")


def test_body_over_the_limit_is_413(start_rest: Start) -> None:
    server = start_rest(max_body_bytes=len(MANY))

    assert ask(server, body=MANY).status == 200
    for body in (MANY + b" ", iter([MANY, b" "])):  # told by its length, and in chunks
        answer = ask(server, body=body, method="POST")
        assert answer.status == 413
        assert f"at most {len(MANY)} bytes" in answer.error()


def test_gzip_requests_unpack_within_the_limit(start_rest: Start) -> None:
    server = start_rest(max_body_bytes=100_000)

    assert ask(server, body=gzip.compress(ROW), Content_Encoding="gzip").status == 200
    for broken in (gzip.compress(ROW)[:-9], b"not gzip"):
        answer = ask(server, body=broken, Content_Encoding="gzip")
        assert (answer.status, "gzip" in answer.error()) == (400, True)
    longer = gzip.compress(b" " * 100_001)
    assert ask(server, body=longer, Content_Encoding="gzip").status == 413


@pytest.mark.parametrize(
    ("accepted", "packed"), [("gzip", True), ("deflate, GZIP; q=0.5", True), ("gzip;q=0", False)]
)
def test_gzip_responses(start_rest: Start, accepted: str, packed: bool) -> None:
    server = start_rest()
    plain = ask(server, body=MANY)
    answer = ask(server, body=MANY, Accept_Encoding=accepted)

    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == answer.headers["vary"] == "accept-encoding"
    assert (answer.headers.get("content-encoding") == "gzip") is packed
    assert (gzip.decompress(answer.body) if packed else answer.body) == plain.body
    assert "vary" not in ask(server, body=ROW, Accept_Encoding=accepted).headers  # too short


def test_cors_headers_are_tf_servings(start_rest: Start) -> None:
    cors = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "POST, GET",
        "access-control-allow-headers": "Content-Type",
    }
    server = start_rest(rest_api_enable_cors_support=True)
    preflight = ask(server, method="OPTIONS", Origin="http://a")

    assert (preflight.status, preflight.body) == (200, b"")
    assert ask(server, method="OPTIONS").status == 400  # no browser's
    for answer in (preflight, ask(server, body=ROW), ask(server, body=b"{")):
        assert cors.items() <= answer.headers.items()
    assert not cors.keys() & ask(server, "/healthz").headers.keys()
    assert not cors.keys() & ask(start_rest(), body=ROW).headers.keys()


def test_cors_preflight_needs_no_token_and_allows_to_send_one(start_rest: Start) -> None:
    server = start_rest(rest_api_enable_cors_support=True, token=b"secret")
    answer = ask(server, method="OPTIONS", Origin="http://a")

    assert answer.status == 200
    assert answer.headers["access-control-allow-headers"] == "Content-Type, Authorization"


def test_more_requests_than_the_limit_are_told_to_come_back(start_rest: Start) -> None:
    server = start_rest(max_concurrent_requests=1)
    server.models.gate.clear()
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(ask(server, body=ROW).status))
    first.start()
    assert server.models.entered.acquire(timeout=20)

    refused = ask(server, body=ROW)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert "--max_concurrent_requests" in refused.error()
    assert ask(server, "/readyz").status == 200
    server.models.gate.set()
    first.join()
    assert answers == [200]
    assert ask(server, body=ROW).status == 200


def test_model_that_takes_too_long_is_504(start_rest: Start) -> None:
    server = start_rest(rest_api_timeout_in_ms=50)
    server.models.gate.clear()
    answer = ask(server, body=ROW)

    assert (answer.status, answer.error()) == (504, "Timed out waiting for notification")
    server.models.gate.set()


def test_access_log(start_rest: Start, capfd: pytest.CaptureFixture[str]) -> None:
    server = start_rest(access_log=True, token=b"secret")
    ask(server, f"{PREDICT}?key=hidden", ROW, Authorization="Bearer secret")
    ask(server, body=b"hidden", Authorization="Bearer hidden")
    server.rest.ask_to_stop()
    server.rest.join()
    written = capfd.readouterr().err
    first, second = map(json.loads, written.splitlines())

    assert "hidden" not in written
    assert "secret" not in written
    assert first.pop("time").endswith("+00:00")
    assert first.pop("milliseconds") > 0
    assert first == {
        "client": "127.0.0.1",
        "method": "POST",
        "path": PREDICT,
        "status": 200,
        "bytes_in": len(ROW),
        "bytes_out": len(b'{\n    "predictions": [1.0\n    ]\n}'),
        "model_version": 7,
    }
    assert (second["status"], second["bytes_in"], second["model_version"]) == (401, 0, None)


def test_access_log_is_off_by_default(start_rest: Start, capfd: pytest.CaptureFixture[str]) -> None:
    ask(start_rest(), body=ROW)

    assert capfd.readouterr() == ("", "")


def test_what_would_block_the_event_loop_is_answered_in_the_pool(start_rest: Start) -> None:
    server = start_rest()
    run, threads = server.models.run, []

    def run_elsewhere(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        if threads[-1] == "rest":
            raise WouldBlockError("busy")
        return run(*arguments)

    server.models.run = run_elsewhere

    # By the short way, and by the application where the body comes after the head.
    assert [ask(server, body=ROW).status for _ in range(3)] == [200] * 3
    assert "rest" in threads
    assert threads[-1] != "rest"


def test_slow_errors_of_a_short_path_leave_the_event_loop(start_rest: Start) -> None:
    server = start_rest()
    run, threads = server.models.run, []

    def run_or_fail(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        if arguments[1]["x"][0] < 0:
            end = time.thread_time() + 0.01
            while time.thread_time() < end:
                pass
            raise invalid_argument("no")
        return run(*arguments)

    server.models.run = run_or_fail
    wrong = b'{"instances": [-1.0]}'
    assert [ask(server, body=body).status for body in (ROW, ROW, wrong, wrong)] == [
        200,
        200,
        400,
        400,
    ]

    assert threads[1:3] == ["rest", "rest"]
    assert threads[3] != "rest"
