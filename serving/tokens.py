"""The bearer token of a server (--auth_token_file): read once, compared in constant time."""

import hmac
from pathlib import Path

from privet.components.shared.errors import ConfigError


def read_token(path: Path) -> bytes:
    """Reads the token: the file's one line.

    Raises:
      ConfigError: the file cannot be read, or holds anything but one token.
    """
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"Wanted a token in {path}; {error.strerror}. Check --auth_token_file."
        ) from error
    # A header can carry no other bytes, and a space would end the token.
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):
        raise ConfigError(
            f"Wanted one token of printable ASCII without spaces in {path}; got {len(token)} bytes "
            "that are none. Write it anew, e.g. by openssl rand -hex 32, or check "
            "--auth_token_file."
        )
    return token


def matches(authorization: bytes | str, token: bytes) -> bool:
    """Whether an Authorization header's value bears the token.

    The time that it takes tells nothing of how much of the token was right.
    """
    if isinstance(authorization, str):
        authorization = authorization.encode("utf-8", "surrogateescape")
    scheme, _, given = authorization.partition(b" ")
    return hmac.compare_digest(given.strip(), token) and scheme.lower() == b"bearer"
