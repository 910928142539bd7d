"""Messages between server and clients as bytes: what a deployment would send, and its size.

Little-endian throughout, in this order:

    4 bytes   PVT1
    1 byte    bits of a value: 32, or 8 or 4 of a level
    1 byte    flags: 1 the levels are deflated (RFC 1951), 2 the tensors were rotated
    2 bytes   number of tensors
    4 bytes   CRC-32 of all that comes before and after it
    8 bytes   if rotated: the seed, int32 [2]
    8 bytes   for each tensor of levels: the least value and the distance of two levels, float32
    the rest  float32 values; or levels, packed tensor by tensor, the first one in the high bits

Shapes are not sent: server and clients hold the same model. What is read is held to them, so a
message cannot ask for more memory than the model takes. For levels see update_compression.py.
"""

import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from privet.components.shared.errors import DataError

_MAGIC = b"PVT1"
_FIELDS, _CHECK = struct.Struct("<4sBBH"), struct.Struct("<I")
_HEADER_BYTES = _FIELDS.size + _CHECK.size
_SEED_BYTES = _SCALE_BYTES = 8
_DEFLATED, _ROTATED = 1, 2


class Message(NamedTuple):
    """Tensors as they are sent.

    Attributes:
      tensors: float32 values, or levels as uint8, each below 2**bits.
      bits: of a level; None for values.
      scales: of levels: float32 [tensors, 2], the least value and the distance of two levels.
      seed: of levels of rotated tensors: int32 [2].
    """

    tensors: Sequence[np.ndarray]
    bits: int | None = None
    scales: np.ndarray | None = None
    seed: np.ndarray | None = None


def encode(message: Message, *, deflate: bool = False) -> bytes:
    """The bytes of a message.

    Args:
      message: what to send.
      deflate: whether levels are deflated, where that makes them fewer bytes. How many then
        depends on the values.

    >>> levels = Message([np.array([1, 15, 3], np.uint8)], 4, np.array([[-0.5, 0.25]]))
    >>> encode(levels)[-10:].hex(" ")
    '00 00 00 bf 00 00 80 3e 1f 30'
    """
    flags, parts = 0, []
    if message.bits is None:
        body = b"".join(np.asarray(part, "<f4").tobytes() for part in message.tensors)
    else:
        body = b"".join(_packed(part, message.bits) for part in message.tensors)
        smaller = zlib.compress(body, 9, wbits=-zlib.MAX_WBITS) if deflate else body
        if len(smaller) < len(body):
            flags, body = _DEFLATED, smaller
        if message.seed is not None:
            flags |= _ROTATED
            parts.append(np.asarray(message.seed, "<i4").tobytes())
        parts.append(np.asarray(message.scales, "<f4").tobytes())
    fields = _FIELDS.pack(_MAGIC, message.bits or 32, flags, len(message.tensors))
    rest = b"".join((*parts, body))
    return fields + _CHECK.pack(zlib.crc32(rest, zlib.crc32(fields))) + rest


def decode(content: bytes, shapes: Sequence[tuple[int, ...]]) -> Message:
    """The message that `encode` was given.

    Args:
      content: the bytes.
      shapes: that its tensors are to have.

    Raises:
      DataError: it is no whole message of such tensors.
    """
    if len(content) < _HEADER_BYTES or not content.startswith(_MAGIC):
        raise DataError(
            f"wanted a message that begins with {_MAGIC!r} and has {_HEADER_BYTES} bytes or more, "
            f"got {len(content)} that begin with {content[:4]!r}. Send what wire.encode gives."
        )
    _, bits, flags, count = _FIELDS.unpack_from(content)
    (check,) = _CHECK.unpack_from(content, _FIELDS.size)
    rest = content[_HEADER_BYTES:]
    if check != zlib.crc32(rest, zlib.crc32(content[: _FIELDS.size])):
        raise DataError(
            f"a message of {len(content)} bytes does not have the checksum that it states: it was "
            "cut short or changed on its way. Send it again."
        )
    known = flags in range(4) if bits in (4, 8) else (bits, flags) == (32, 0)
    if not known or count != len(shapes):
        raise DataError(
            f"wanted a message of {len(shapes)} tensors in 32, 8 or 4 bits, got {count} in {bits} "
            f"(flags {flags}). Client and server must have the same model and version."
        )
    if bits == 32:
        values = np.frombuffer(_exactly(rest, message_bytes(shapes) - _HEADER_BYTES), "<f4")
        parts = _cut(values, [math.prod(shape) for shape in shapes])
        return Message([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    first = _SEED_BYTES if flags & _ROTATED else 0
    end = first + _SCALE_BYTES * count
    scales = np.frombuffer(_exactly(rest[:end], end)[first:], "<f4").reshape(-1, 2)
    sizes, body = [_packed_bytes(shape, bits) for shape in shapes], rest[end:]
    if flags & _DEFLATED:
        body = _inflated(body, sum(sizes))
    packed = np.frombuffer(_exactly(body, sum(sizes)), np.uint8)
    levels = [
        _unpacked(part, bits, shape)
        for part, shape in zip(_cut(packed, sizes), shapes, strict=True)
    ]
    return Message(levels, bits, scales, np.frombuffer(rest[:first], "<i4") if first else None)


def message_bytes(
    shapes: Iterable[tuple[int, ...]], bits: int | None = None, *, rotated: bool = False
) -> int:
    """The length of an encoded message that is not deflated.

    >>> message_bytes([(3, 3), (3,)]), message_bytes([(3, 3), (3,)], 4)
    (60, 35)
    """
    if bits is None:
        return _HEADER_BYTES + 4 * sum(math.prod(shape) for shape in shapes)
    levels = sum(_SCALE_BYTES + _packed_bytes(shape, bits) for shape in shapes)
    return _HEADER_BYTES + rotated * _SEED_BYTES + levels


def _packed_bytes(shape: tuple[int, ...], bits: int) -> int:
    return -(-math.prod(shape) * bits // 8)


def _packed(levels: np.ndarray, bits: int) -> bytes:
    flat = np.ascontiguousarray(levels, np.uint8).ravel()
    if bits == 8:
        return flat.tobytes()
    pairs = np.append(flat, np.zeros(flat.size % 2, np.uint8)).reshape(-1, 2)
    return (pairs[:, 0] << 4 | pairs[:, 1]).tobytes()


def _unpacked(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    if bits == 4:
        packed = np.stack([packed >> 4, packed & 15], axis=1).ravel()[: math.prod(shape)]
    return packed.reshape(shape)


def _inflated(body: bytes, size: int) -> bytes:
    """At most one byte more than `size`, whatever the body would expand to."""
    try:
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(body, size + 1)
    except zlib.error as error:
        raise DataError(
            f"wanted levels in DEFLATE's format (RFC 1951), got something else: {error}. Send what "
            "wire.encode gives."
        ) from error


def _exactly(body: bytes, size: int) -> bytes:
    if len(body) != size:
        raise DataError(
            f"wanted a message with {size} bytes here, for a model of these shapes, got "
            f"{'more' if len(body) > size else len(body)}. Client and server must have the same "
            "model."
        )
    return body


def _cut(values: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(sizes)[:-1])
