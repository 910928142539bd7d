"""Clients that send too slowly, too much, the wrong thing or nothing: refused, and no more."""

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

Start = Callable[..., SimpleNamespace]
HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\n"
ROW = b'{"instances": [1.0]}'
ANSWER = b'{\n    "predictions": [1.0\n    ]\n}'
READY = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"


def request(body: bytes = ROW, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def connect(server: SimpleNamespace) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.rest_port), timeout=20)


def read_to_end(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


def exchange(server: SimpleNamespace, sent: bytes) -> bytes:
    """What the server answers before it closes the connection."""
    with connect(server) as client:
        client.sendall(sent)
        return read_to_end(client)


@pytest.fixture
def server(start_rest: Start) -> Iterator[SimpleNamespace]:
    """A server with short limits, which must be up and ready after each test."""
    started = start_rest(
        header_timeout_seconds=0.2, rest_api_timeout_in_ms=200, max_body_bytes=1_000_000
    )
    yield started
    with connect(started) as client:
        client.sendall(READY)
        assert status(client.recv(65536)) == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", None),
        (b"POST /v1/mod", 408),
        (HEAD + b"X-Slow: ", 408),
        (HEAD + b"Content-Length: 20\r\n\r\n{", 408),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 408),
    ],
)
def test_slow_loris(server: SimpleNamespace, sent: bytes, answer: int | None) -> None:
    received = exchange(server, sent)

    assert (status(received) if received else None) == answer
    if received:
        assert "took too long" in json.loads(received.split(b"\r\n\r\n")[1])["error"]


def test_a_byte_now_and_then_does_not_prolong_the_head(server: SimpleNamespace) -> None:
    with connect(server) as client:
        client.settimeout(0.05)
        client.sendall(HEAD + b"X-Slow: ")
        received = b""
        while not received:
            client.sendall(b"a")
            try:
                received = client.recv(65536)
            except TimeoutError:
                continue

    assert status(received) == 408


def test_head_of_a_later_request_is_limited_too(server: SimpleNamespace) -> None:
    with connect(server) as client:
        client.sendall(request())
        assert client.recv(65536).endswith(ANSWER)
        client.sendall(b"POST ")
        assert status(read_to_end(client)) == 408


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"a" * 100_000,
        HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        HEAD + b"X: a\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_long_head_is_431(server: SimpleNamespace, head: bytes) -> None:
    assert status(exchange(server, head)) == 431


def test_long_body_right_behind_its_head_is_no_long_head(server: SimpleNamespace) -> None:
    with connect(server) as client:
        client.sendall(request(ROW + b" " * 100_000))
        assert status(client.recv(65536)) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"".join([READY] * 200),
    ],
)
def test_what_is_no_http_is_400(server: SimpleNamespace, sent: bytes) -> None:
    received = exchange(server, sent)

    assert b"HTTP/1.1 400 " in received
    assert b'"error": ' in received


def test_half_closed_client_gets_its_answer(server: SimpleNamespace) -> None:
    with connect(server) as client:
        client.sendall(request())
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client).endswith(ANSWER)


def test_half_closed_before_the_end_is_closed(server: SimpleNamespace) -> None:
    with connect(server) as client:
        client.sendall(request()[:-1])
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client) == b""


@pytest.mark.parametrize("told", [True, False], ids=["Content-Length", "chunked"])
def test_100_mb_are_refused_without_being_read(server: SimpleNamespace, told: bool) -> None:
    chunk = b" " * 65536
    with connect(server) as client:
        if told:
            client.sendall(HEAD + b"Content-Length: 100000000\r\n\r\n")
        else:
            client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            chunk = b"10000\r\n" + chunk + b"\r\n"
        sent = 0
        try:
            while sent < 100_000_000:
                client.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 50_000_000  # the most of it in the kernel's buffers
        assert status(client.recv(65536)) == 413


def test_gzip_bomb(server: SimpleNamespace) -> None:
    bomb = gzip.compress(b" " * 50_000_000)  # fifty times the limit
    assert len(bomb) < 100_000
    with connect(server) as client:
        client.sendall(request(bomb, b"Content-Encoding: gzip"))
        assert status(client.recv(65536)) == 413


@pytest.mark.parametrize("body", [b"[" * 10_000, b'{"instances": ' + b"[" * 10_000 + b"]" * 10_000])
def test_deep_json(start_rest: Start, body: bytes) -> None:
    with connect(start_rest()) as client:
        client.sendall(request(body))
        assert status(client.recv(65536)) == 400


def test_connections_are_limited(start_rest: Start) -> None:
    server = start_rest(max_concurrent_requests=1)  # four connections
    clients = [connect(server) for _ in range(4)]
    for client in clients:  # all four are made when each has answered
        client.sendall(READY)
        assert status(client.recv(65536)) == 200
    refused = exchange(server, b"")

    assert status(refused) == 503
    assert b"retry-after: 1\r\n" in refused
    clients[0].close()
    last = READY.replace(b"Host", b"Connection: close\r\nHost")
    while status(received := exchange(server, last)) == 503:
        pass
    assert status(received) == 200
    for client in clients:
        client.close()


def test_upgrade_to_another_protocol_is_ignored(server: SimpleNamespace) -> None:
    """Java's client offers HTTP/2 so with its first request."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAEA", b"Upgrade: h2c")
    with connect(server) as client:
        for _ in range(2):
            client.sendall(request(ROW, *upgrade))
            assert client.recv(65536).endswith(ANSWER)
        whole = request(ROW, *upgrade)
        client.sendall(whole[:-5])  # and when it comes in parts
        client.sendall(whole[-5:])
        assert client.recv(65536).endswith(ANSWER)


def test_requests_ahead_are_answered_in_order(server: SimpleNamespace) -> None:
    with connect(server) as client:
        client.sendall(READY * 50 + request(ROW, b"Connection: close"))
        received = read_to_end(client)

    assert received.count(b"HTTP/1.1 200 OK") == 51
    assert received.endswith(ANSWER)


def test_many_bad_clients_at_once_leave_room_for_good_ones(server: SimpleNamespace) -> None:
    bad = [connect(server) for _ in range(200)]
    for client in bad:
        client.sendall(b"POST ")
    with connect(server) as client:
        client.sendall(request())
        assert client.recv(65536).endswith(ANSWER)
    for client in bad:
        assert status(read_to_end(client)) == 408
        client.close()


def test_drain(start_rest: Start) -> None:
    server = start_rest()
    server.models.gate.clear()
    with connect(server) as idle, connect(server) as busy:
        idle.sendall(READY)
        assert status(idle.recv(65536)) == 200
        busy.sendall(request() + READY)
        assert server.models.entered.acquire(timeout=20)
        server.rest.ask_to_stop()

        assert read_to_end(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        server.models.gate.set()
        predicted, ready = read_to_end(busy).split(b"HTTP/1.1 ")[1:]
    server.rest.join()
    assert predicted.startswith(b"200 ")
    assert predicted.endswith(ANSWER)
    assert ready.startswith(b"503 ")
    assert b"connection: close" in ready


def test_drain_ends_after_its_time(start_rest: Start) -> None:
    server = start_rest(drain_seconds=1)
    server.models.gate.clear()
    with connect(server) as busy:
        busy.sendall(request())
        assert server.models.entered.acquire(timeout=20)
        server.rest.ask_to_stop()
        assert status(busy.recv(65536)) == 503
        server.models.gate.set()


CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(ROW) + ROW + b"\r\n0\r\n"


def test_trailers_are_no_headers(server: SimpleNamespace) -> None:
    with connect(server) as client:
        for _ in range(3):  # the last ones take the short way
            client.sendall(CHUNKS + b"Content-Encoding: gzip\r\n\r\n")
            assert client.recv(65536).endswith(ANSWER)


@pytest.mark.parametrize("trailer", [b"X: " + b"a" * 1000, b"X: a\r\n" * 100 + b"Y: b\r\n"])
def test_endless_trailers_are_refused(start_rest: Start, trailer: bytes) -> None:
    server = start_rest()
    with connect(server) as client:
        client.sendall(CHUNKS)
        received = b""
        try:
            for _ in range(2000):  # two megabytes at most
                client.sendall(trailer)
            received = client.recv(65536)
        except ConnectionError:
            return  # it closed while this sent
    assert status(received) == 431


def test_many_small_chunks_are_no_trailers(start_rest: Start) -> None:
    server = start_rest()
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        body = b" " * 20_000 + ROW
        for byte in body:
            client.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert client.recv(65536).endswith(ANSWER)
