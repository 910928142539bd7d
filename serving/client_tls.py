"""TLS on a client's side, for both protocols."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from privet.components.shared.errors import ConfigError

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True)
class ClientTls:
    """Whom a client trusts, and what it shows; PEM files.

    Attributes:
      custom_ca: the authority that signed the server's certificate; None for the system's.
      certificate, key: the client's own, for servers with `client_verify`; both or neither.

    Raises:
      ConfigError: one of `certificate` and `key` is missing.
    """

    custom_ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(
                f"certificate={self.certificate} and key={self.key}: wanted both or neither."
            )


def ssl_context(tls: ClientTls) -> ssl.SSLContext:
    """For Python's sockets."""
    context = ssl.create_default_context(cafile=tls.custom_ca)
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


def channel_credentials(tls: ClientTls) -> "grpc.ChannelCredentials":
    """For gRPC."""
    import grpc

    authority, key, certificate = (
        path.read_bytes() if path else None for path in (tls.custom_ca, tls.key, tls.certificate)
    )
    return grpc.ssl_channel_credentials(authority, key, certificate)
