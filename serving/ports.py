"""The ports that a server listens on: claimed before anything slow is done."""

import socket

from privet.components.shared.errors import ServingError


def claim_port(host: str, port: int, flag: str) -> socket.socket:
    """Binds a port, without listening yet.

    Args:
      host: the address to bind.
      port: the port; 0 for any free one.
      flag: the flag that changes the port, for the error.

    Raises:
      ServingError: the port is in use, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    claimed = socket.socket(family, socket.SOCK_STREAM)
    # Without it a port would stay closed for a minute after a server that used it ended.
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claimed.bind((host, port))
    except OSError as error:
        claimed.close()
        raise ServingError(
            f"Wanted to listen on {host}:{port}; {error.strerror or error}. Stop what uses the "
            f"port, or choose another with {flag} (or another address with --host)."
        ) from error
    return claimed


def check_port(host: str, port: int, flag: str) -> None:
    """Like `claim_port`, but leaves the port free again.

    Raises:
      ServingError: the port cannot be bound.
    """
    claim_port(host, port, flag).close()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now, for a server started in a moment."""
    with claim_port("127.0.0.1", 0, "--port") as claimed:
        port: int = claimed.getsockname()[1]
        return port
