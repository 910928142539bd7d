"""TLS by TF Serving's SSLConfig: the key, the certificates, and who must show one."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from privet.components.shared.errors import ConfigError


@dataclass(frozen=True)
class TlsConfig:
    """What an SSLConfig says; all in PEM.

    Attributes:
      key: the server's private key.
      certificate: the server's certificate, followed by the chain to its authority if it has one.
      custom_ca: the authorities whose client certificates are accepted; empty for the system's.
      client_verify: whether a client must show a certificate.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    custom_ca: bytes = b""
    client_verify: bool = False


def read_tls(path: Path) -> TlsConfig:
    """Reads a text SSLConfig, and checks that a server can speak TLS with it.

    Raises:
      ConfigError: the file is no SSLConfig, or its key and certificates are not right.
    """
    from privet.serving.text_protos import new_message, read_text

    message = read_text(path, new_message("SSLConfig"), "ssl_config_file")
    tls = TlsConfig(
        key=message.server_key.encode(),
        certificate=message.server_cert.encode(),
        custom_ca=message.custom_ca.encode(),
        client_verify=message.client_verify,
    )
    for name in ("server_key", "server_cert"):
        if not getattr(message, name):
            raise ConfigError(
                f"Wanted {name} in {path}; it is missing. Give the PEM text itself, not the path "
                "of a file, and check --ssl_config_file."
            )
    try:
        server_context(tls)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"Wanted a PEM server_key without a passphrase, its server_cert and, if any, "
            f"custom_ca in {path}; OpenSSL refuses them: {error}. Check --ssl_config_file."
        ) from error
    return tls


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """The same for Python's sockets: TLS 1.2 and newer.

    Raises:
      ssl.SSLError: OpenSSL refuses the key or a certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with _nameless_file(tls.certificate) as certificate, _nameless_file(tls.key) as key:
        context.load_cert_chain(certificate, key, password="")  # never asks on the terminal
    if tls.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
        if tls.custom_ca:
            context.load_verify_locations(cadata=tls.custom_ca.decode("ascii"))
        else:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


@contextmanager
def _nameless_file(content: bytes) -> Iterator[str]:
    """A path to read `content` from, for OpenSSL reads keys from files alone.

    The file is in memory, or where there are none of those, has no name in any directory: no
    other user can open it, and nothing of it stays.
    """
    with (
        os.fdopen(os.memfd_create("pem"), "w+b")
        if hasattr(os, "memfd_create")
        else tempfile.TemporaryFile() as file
    ):
        file.write(content)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"
