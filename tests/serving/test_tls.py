"""REST over TLS by TF Serving's SSLConfig, with certificates made here."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.serving.config import ServerConfig
from privet.serving.ports import free_port
from privet.serving.running import RunningServer
from privet.serving.tls import TlsConfig, read_tls, server_context

Start = Callable[..., SimpleNamespace]


def ssl_config(path: Path, **fields: str | bool) -> Path:
    """Writes a text SSLConfig."""
    lines = (
        f"{name}: {str(value).lower() if isinstance(value, bool) else ascii(value)}"
        for name, value in fields.items()
    )
    path.write_text("\n".join(lines))
    return path


def ask(server: SimpleNamespace, context: ssl.SSLContext) -> bytes:
    address = ("127.0.0.1", server.rest_port)
    with (
        socket.create_connection(address, timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        return received


def client_context(trusted: Any) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=trusted.certificate)


def show(context: ssl.SSLContext, identity: Any, tmp_path: Path) -> None:
    """Makes a client show a certificate."""
    path = tmp_path / "client.pem"
    path.write_text(identity.certificate + identity.key)
    context.load_cert_chain(path)


def test_server_shows_its_certificate(
    start_rest: Start, identities: SimpleNamespace, tmp_path: Path
) -> None:
    path = ssl_config(
        tmp_path / "ssl.txt",
        server_key=identities.server.key,
        server_cert=identities.server.certificate,
    )
    server = start_rest(tls=read_tls(path))

    assert ask(server, client_context(identities.server)).startswith(b"HTTP/1.1 200 OK")
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(server, client_context(identities.other))
    assert server_context(read_tls(path)).minimum_version is ssl.TLSVersion.TLSv1_2


def test_client_must_show_one_of_the_authoritys(
    start_rest: Start, identities: SimpleNamespace, tmp_path: Path
) -> None:
    path = ssl_config(
        tmp_path / "ssl.txt",
        server_key=identities.server.key,
        server_cert=identities.server.certificate,
        custom_ca=identities.client.certificate,
        client_verify=True,
    )
    server = start_rest(tls=read_tls(path))

    def answers(identity: Any) -> bool:
        context = client_context(identities.server)
        if identity is not None:
            show(context, identity, tmp_path)
        try:
            return ask(server, context).startswith(b"HTTP/1.1 200 OK")
        except (ssl.SSLError, ConnectionError):
            return False  # with TLS 1.3 the client learns it only when it reads, or sees the end

    assert not answers(None)
    assert not answers(identities.other)
    assert answers(identities.client)


def test_slow_handshake_is_ended(start_rest: Start, identities: SimpleNamespace) -> None:
    server = start_rest(
        header_timeout_seconds=0.2,
        tls=TlsConfig(identities.server.key.encode(), identities.server.certificate.encode()),
    )
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=20) as silent:
        silent.sendall(b"\x16\x03\x01")
        assert silent.recv(65536) == b""
    assert ask(server, client_context(identities.server)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Wanted server_key"),
        ({"server_key": "key"}, "Wanted server_cert"),
        ({"server_key": "/etc/key.pem", "server_cert": "/etc/cert.pem"}, "OpenSSL refuses"),
        ({"server_key": "other", "server_cert": "server"}, "KEY_VALUES_MISMATCH"),
        (
            {
                "server_key": "server",
                "server_cert": "server",
                "custom_ca": "none",
                "client_verify": True,
            },
            "custom_ca",
        ),
    ],
)
def test_wrong_configurations_are_told(
    identities: SimpleNamespace, tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    def content(name: str, value: str) -> str:
        identity = getattr(identities, value, None) if isinstance(value, str) else None
        if identity is None:
            return value
        return identity.key if name == "server_key" else identity.certificate

    path = ssl_config(
        tmp_path / "ssl.txt", **{name: content(name, value) for name, value in fields.items()}
    )
    with pytest.raises(ConfigError, match=message) as caught:
        read_tls(path)
    assert "ssl_config_file" in str(caught.value)


def test_flags_name_the_files(
    publish: Callable[..., Path], identities: SimpleNamespace, tmp_path: Path
) -> None:
    publish(tmp_path / "m", 1)
    (tmp_path / "token").write_text("secret\n")
    config = ServerConfig(
        tmp_path / "m",
        "m",
        port=0,
        rest_api_port=free_port(),
        prefer_tflite_model=True,
        auth_token_file=tmp_path / "token",
        ssl_config_file=ssl_config(
            tmp_path / "ssl.txt",
            server_key=identities.server.key,
            server_cert=identities.server.certificate,
        ),
    )
    with RunningServer(config) as server:
        url = f"{server.rest_url}:predict"
        assert url.startswith("https://")
        request = urllib.request.Request(url, b'{"instances": [1]}')
        context = client_context(identities.server)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=20, context=context)
        request.add_header("Authorization", "Bearer secret")
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            assert json.load(answer) == {"predictions": [2.5]}
            assert answer.headers["x-model-engine"] == "tflite"


def test_key_is_never_shown(identities: SimpleNamespace) -> None:
    tls = TlsConfig(identities.server.key.encode(), identities.server.certificate.encode())

    assert "PRIVATE KEY" not in repr(tls)
