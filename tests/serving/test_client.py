"""The client: equal arrays over both protocols and engines, retries, named errors."""

import contextlib
import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from privet.components.shared.errors import ConfigError, ServingError
from privet.serving.client import (
    ClientError,
    ClientTls,
    DeadlineExceeded,
    GrpcClient,
    InvalidRequest,
    ModelNotFound,
    PrivetClient,
    ServerUnavailable,
    Unauthenticated,
)
from privet.serving.config import ServerConfig
from privet.serving.ports import free_port
from privet.serving.running import RunningServer
from privet.serving.status import Code
from privet.serving.versions import State

PROTOCOLS: list[Literal["rest", "grpc"]] = ["rest", "grpc"]
DOCS = Path(__file__).parents[2] / "docs/serving.md"


def clients(server: SimpleNamespace, **settings: Any) -> list[PrivetClient]:
    """A client of each protocol."""
    addresses = {"rest": f"127.0.0.1:{server.rest_port}", "grpc": str(server.grpc_address)}
    return [PrivetClient(addresses[p], protocol=p, **settings) for p in PROTOCOLS]


@pytest.mark.parametrize("values", [[1, 2], np.array([0.1, np.nan, -np.inf]), np.float32([]), 3.0])
def test_protocols_and_engines_give_equal_arrays(
    server: SimpleNamespace, tflite_server: SimpleNamespace, values: Any
) -> None:
    answers = []
    # TFLite is held to the shape of the signature, which is [any].
    for engine in (server, *((tflite_server,) if np.size(values) > 1 else ())):
        for client in clients(engine):
            with client:
                by_name = client.predict("m", {"x": values}, version=1)
                (answer,) = client.predict("m", values).values()
                np.testing.assert_array_equal(by_name["y"], answer)
                answers.append(answer)

    wanted = np.float32(0.5) * np.asarray(values, np.float32) + np.float32(2)
    for answer in answers:
        assert answer.dtype == np.float32
        np.testing.assert_array_equal(answer, wanted)


@pytest.mark.parametrize(
    ("signature_name", "inputs"),
    [
        ("pair", {"a": np.array([1 / 3, 1e-38]), "b": np.array([2**24 + 1, 3])}),
        ("integers", np.array([-(2**30), 7], np.int64)),
        ("text", np.array([b"\xff\x00\x01", "π".encode(), b'"{\\'], object)),
        ("text", ["a", "π"]),
        ("text", np.array([], object)),
        ("dense", np.arange(6, dtype=np.float64).reshape(3, 2)),
        ("total", [1.5, 2]),
    ],
)
def test_all_types_come_back_equal(
    server: SimpleNamespace, signature_name: str, inputs: Any
) -> None:
    rest, grpc = (c.predict("m", inputs, signature_name=signature_name) for c in clients(server))

    assert rest.keys() == grpc.keys()
    for name, array in grpc.items():
        assert rest[name].dtype == array.dtype
        assert rest[name].shape == array.shape
        np.testing.assert_array_equal(rest[name], array)


def test_classify_regress_status_and_metadata_are_equal(server: SimpleNamespace) -> None:
    rest, grpc = clients(server)
    for client in (rest, grpc):
        examples = [{"x": np.array([0.1, 0.9])}, {"x": [1.0, 0.0]}]
        assert client.classify("m", examples, signature_name="classify") == [
            [("low", float(np.float32(0.1))), ("high", float(np.float32(0.9)))],
            [("low", 1.0), ("high", 0.0)],
        ]
        context = {"x": [2.0, 3.5]}
        values = client.regress("m", [{}, {}], context=context, signature_name="regress")
        assert values.dtype == np.float32
        assert values.tolist() == [5.5, 5.5]
        with pytest.raises(InvalidRequest, match="Data types don't match"):
            client.regress("m", [{"x": [1, 2]}], signature_name="regress")
        (status,) = client.status("m")
        assert (status.version, status.state) == (1, State.AVAILABLE)
        assert client.wait_until_available("m", 20) == 1
    assert rest.metadata("m") == grpc.metadata("m", version=1)


def test_grpc_examples_keep_their_kinds() -> None:
    from tensorflow.core.example.example_pb2 import Example

    from privet.serving.client_grpc import _fill_example

    example = Example()
    _fill_example(example, {"a": True, "b": [1, 2], "c": np.float32([0.5]), "d": "é", "e": [b"x"]})
    feature = example.features.feature

    assert feature["a"].int64_list.value == [1]
    assert feature["b"].int64_list.value == [1, 2]
    assert feature["c"].float_list.value == [0.5]
    assert feature["d"].bytes_list.value == ["é".encode()]
    assert feature["e"].bytes_list.value == [b"x"]
    with pytest.raises(InvalidRequest, match="'f': wanted all integers, all floats"):
        _fill_example(example, {"f": [1, 2.5]})


@pytest.mark.parametrize(
    ("call", "kind", "code", "message"),
    [
        (lambda c: c.predict("n", [1.0]), ModelNotFound, Code.NOT_FOUND, "Servable not found"),
        (lambda c: c.predict("m", [1.0], version=9), ModelNotFound, Code.NOT_FOUND, "Specific"),
        (lambda c: c.status("n"), ModelNotFound, Code.NOT_FOUND, "Could not find any versions"),
        (lambda c: c.predict("m", [1.0], label="l"), InvalidRequest, Code.INVALID_ARGUMENT, "l"),
        (
            lambda c: c.predict("m", [1.0], signature_name="s"),
            *(InvalidRequest, Code.FAILED_PRECONDITION, 'key "s" not found. It has'),
        ),
        (
            lambda c: c.predict("m", {"z": [1.0]}),
            *(InvalidRequest, Code.INVALID_ARGUMENT, r"wanted the inputs \['x'\]"),
        ),
        (
            lambda c: c.predict("m", ["a"]),
            *(InvalidRequest, Code.INVALID_ARGUMENT, "wanted values of type float; got <U1"),
        ),
        (
            lambda c: c.predict("m", [2**40], signature_name="integers"),
            *(InvalidRequest, Code.INVALID_ARGUMENT, "wanted values of type int32; got int64"),
        ),
        (
            lambda c: c.predict("m", np.zeros((1, 3)), signature_name="dense"),
            *(InvalidRequest, Code.INVALID_ARGUMENT, "Matrix size-incompatible"),
        ),
        (
            lambda c: c.predict("m", [1.0], version=1, label="l"),
            *(InvalidRequest, Code.INVALID_ARGUMENT, "at most one"),
        ),
    ],
)
def test_errors_have_names_and_codes(
    server: SimpleNamespace,
    call: Callable[[PrivetClient], Any],
    kind: type[ClientError],
    code: Code,
    message: str,
) -> None:
    for client in clients(server):
        with client, pytest.raises(kind, match=message) as caught:
            call(client)
        assert caught.value.code is code
        assert isinstance(caught.value, ServingError)


class Replies(http.server.BaseHTTPRequestHandler):
    """Gives the statuses of a list, one for each request, then 200."""

    protocol_version = "HTTP/1.1"
    statuses: list[tuple[int, dict[str, str]]]
    connections: set[Any]

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        status, headers = self.statuses.pop(0) if self.statuses else (200, {})
        body = b'{"model_version_status": []}' if status == 200 else b'{"error": "busy"}'
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "X-End" in headers  # without a word, as after an idle minute

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def replies() -> Iterator[Callable[..., SimpleNamespace]]:
    """A server that fails as it is told, and a client whose clock and pauses are recorded."""
    with contextlib.ExitStack() as stack:

        def start(*statuses: tuple[int, dict[str, str]], **settings: Any) -> SimpleNamespace:
            handler = type("Told", (Replies,), {"statuses": list(statuses), "connections": set()})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            stack.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            pauses: list[float] = []
            client = stack.enter_context(
                PrivetClient(
                    f"127.0.0.1:{server.server_address[1]}",
                    uniform=lambda: 0.5,
                    clock=lambda: sum(pauses),
                    sleep=pauses.append,
                    **settings,
                )
            )
            return SimpleNamespace(client=client, pauses=pauses, handler=handler)

        yield start


def test_unavailable_is_tried_again_with_full_jitter(
    replies: Callable[..., SimpleNamespace],
) -> None:
    told = replies((503, {}), (503, {"Retry-After": "2"}), (503, {}))

    assert told.client.status("m") == ()
    # Half of 0.1 and of 0.4 seconds by chance; between them what the server asks for.
    assert told.pauses == pytest.approx([0.05, 2.0, 0.2])
    assert len(told.handler.connections) == 1  # kept alive


def test_retries_end(replies: Callable[..., SimpleNamespace]) -> None:
    told = replies(*4 * [(503, {})], retries=2)
    with pytest.raises(ServerUnavailable, match="answered 503: busy") as caught:
        told.client.status("m")
    assert caught.value.message == "busy"
    assert len(told.pauses) == 2

    # A pause that would outlast the time-out is not begun.
    told = replies((503, {"Retry-After": "60"}), timeout_seconds=30)
    with pytest.raises(ServerUnavailable):
        told.client.status("m")
    assert told.pauses == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, Unauthenticated),
        (404, ModelNotFound),
        (413, InvalidRequest),
        (429, ClientError),
        (500, ClientError),
        (504, DeadlineExceeded),
    ],
)
def test_other_errors_are_never_tried_again(
    replies: Callable[..., SimpleNamespace], status: int, kind: type[ClientError]
) -> None:
    told = replies((status, {}))
    with pytest.raises(kind) as caught:
        told.client.status("m")
    assert type(caught.value) is kind
    assert told.pauses == []


def test_a_kept_connection_that_the_server_closed_is_opened_anew(
    replies: Callable[..., SimpleNamespace],
) -> None:
    told = replies((200, {"X-End": "1"}), (200, {"X-End": "1"}))
    for _ in range(3):
        assert told.client.status("m") == ()
    assert len(told.handler.connections) == 3
    assert told.pauses == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_not_there_is_tried_again(protocol: Literal["rest", "grpc"]) -> None:
    pauses: list[float] = []
    client = PrivetClient(
        f"127.0.0.1:{free_port()}",
        protocol=protocol,
        retries=2,
        uniform=lambda: 0.01,
        sleep=pauses.append,
    )
    with client:
        with pytest.raises(ServerUnavailable):
            client.status("m")
        assert pauses == pytest.approx([0.001, 0.002])
        with pytest.raises(DeadlineExceeded, match="within 0 seconds: last seen: "):
            client.wait_until_available("m", 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_call_takes_longer_than_its_time_out(protocol: Literal["rest", "grpc"]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            PrivetClient(address, protocol=protocol, timeout_seconds=0.1) as client,
            pytest.raises(DeadlineExceeded),
        ):
            client.status("m")


def test_token_and_tls_over_both_protocols(
    publish: Callable[..., Path], tmp_path: Path, identities: SimpleNamespace
) -> None:
    publish(tmp_path / "models", 1)
    token, ssl_config = tmp_path / "token", tmp_path / "ssl_config"
    token.write_text("secret\n")
    ssl_config.write_text(
        f"server_key: {identities.server.key!r} server_cert: {identities.server.certificate!r} "
        f"custom_ca: {identities.client.certificate!r} client_verify: true"
    )
    for name in ("server", "client"):
        (tmp_path / f"{name}.crt").write_text(getattr(identities, name).certificate)
    (tmp_path / "client.key").write_text(identities.client.key)
    tls = ClientTls(tmp_path / "server.crt", tmp_path / "client.crt", tmp_path / "client.key")
    config = ServerConfig(
        tmp_path / "models",
        "m",
        port=free_port(),
        rest_api_port=free_port(),
        ssl_config_file=ssl_config,
        auth_token_file=token,
    )
    with RunningServer(config) as running:
        places = SimpleNamespace(rest_port=config.rest_api_port, grpc_address=running.grpc_address)
        for client in clients(places, token="secret", tls=tls):
            assert client.predict("m", [1.0])["y"].tolist() == [2.5]
        for client in clients(places, tls=tls):
            with pytest.raises(Unauthenticated):
                client.predict("m", [1.0])
            with pytest.raises(Unauthenticated):
                client.wait_until_available("m", 20)
        for client in clients(places, token="secret", tls=ClientTls(tls.custom_ca), retries=0):
            with pytest.raises(ServerUnavailable):
                client.predict("m", [1.0])
    with pytest.raises(ConfigError, match="wanted both or neither"):
        ClientTls(certificate=tmp_path / "client.crt")


def test_a_new_version_with_other_types_is_noticed(server: SimpleNamespace) -> None:
    seconds = [0.0]
    client = clients(server, clock=lambda: seconds[0])[0]
    fetched = []
    protocol: Any = client._protocol
    signatures = protocol.signatures
    protocol.signatures = lambda *a: fetched.append(a[0].version) or signatures(*a)

    for now, version in ((0, None), (20, None), (40, None), (0, 1), (9e9, 1)):
        seconds[0] = now
        client.predict("m", [1.0], version=version)
    # Asked for by number: once. Otherwise again after half a minute.
    assert fetched == [None, None, 1]


def test_grpc_client_tells_the_version_and_filters(server: SimpleNamespace) -> None:
    with GrpcClient(server.grpc_address) as client:
        inputs = {"a": np.float32([2]), "b": np.float32([3])}
        found = client.predict("m", inputs, signature_name="pair", output_filter=["sum"])
        assert found.version == 1
        assert {name: value.tolist() for name, value in found.outputs.items()} == {"sum": [5.0]}
        assert client.status("m") == {1: "AVAILABLE"}


def test_rest_needs_no_tensorflow() -> None:
    import subprocess
    import sys

    program = "import sys, privet.serving.client as c; c.PrivetClient('a:1'); " + (
        "sys.exit(bool({'tensorflow', 'grpc'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_example_of_the_documentation_runs(
    publish: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, 1)
    config = ServerConfig(tmp_path, "half", port=free_port(), rest_api_port=free_port())
    section = DOCS.read_text().split("## The client")[1]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    code = example[1].replace("8501", str(config.rest_api_port)).replace("8500", str(config.port))
    with RunningServer(config):
        exec(code, {})
    said = re.findall(r"# (.*)", example[1])
    assert capsys.readouterr().out.splitlines() == said
