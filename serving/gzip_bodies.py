"""Gzip of HTTP bodies: requests unpacked within a limit, responses packed for who accepts it."""

import zlib
from functools import lru_cache

from privet.components.shared.errors import ServingError
from privet.serving.rest import Response
from privet.serving.status import invalid_argument

MINIMUM_BYTES = 1024  # a shorter body is not worth it

_GZIP = zlib.MAX_WBITS | 16
_LEVEL = 1  # numbers as text: higher levels take long and save little
_VARY = (b"vary", b"accept-encoding")
_ENCODING = (b"content-encoding", b"gzip")


class TooLargeError(ServingError):
    """A request's body is longer than the limit."""


def unpack(body: bytes, limit: int) -> bytes:
    """Decompresses a request's body; never makes more than `limit` + 1 bytes of it.

    Raises:
      RequestError: INVALID_ARGUMENT, it is no whole gzip stream.
      TooLargeError: it unpacks to more than `limit` bytes.
    """
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid_argument(f"Failed to decompress the gzip request body: {error}") from error
    if len(unpacked) > limit:
        raise TooLargeError(f"Wanted at most {limit} bytes; got more")
    if not unpacker.eof:
        raise invalid_argument(
            "Failed to decompress the gzip request body: the stream ends too early"
        )
    return unpacked


def pack(response: Response, accept_encoding: bytes) -> Response:
    """Compresses a response if the client accepts that, and says that it depends on it."""
    if not accepts_gzip(accept_encoding):
        return response._replace(headers=(*response.headers, _VARY))
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return response._replace(
        body=packer.compress(response.body) + packer.flush(),
        headers=(*response.headers, _VARY, _ENCODING),
    )


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether an Accept-Encoding header asks for gzip by name, and not with weight 0.

    >>> accepts_gzip(b"deflate, gzip;q=0.5"), accepts_gzip(b"gzip; q=0.0"), accepts_gzip(b"*")
    (True, False, False)
    """
    for coding in accept_encoding.lower().split(b","):
        name, _, weight = coding.partition(b";")
        if name.strip() == b"gzip":
            return weight.strip().removeprefix(b"q=").strip(b"0.") != b"" or not weight
    return False
