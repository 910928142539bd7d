"""The framing of TFRecord files: a record's length, its checksum, the record, its checksum."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

HEAD = 12
"""Bytes of a frame before its record: the length and its checksum."""

FOOT = 4
"""Bytes of a frame after its record: the record's checksum."""

_CRC_MASK = 0xA282EAD8
_UINT32 = 0xFFFFFFFF
_LARGEST = 2**31  # bytes of a proto, whose lengths are signed 32-bit numbers
_PIECE = 1 << 20  # bytes read at a time, at least


class DamagedFrameError(ValueError):
    """A TFRecord file that ends early or whose checksums do not fit; the message says which."""


def frame(record: bytes) -> bytes:
    """A record in its frame."""
    length = struct.pack("<Q", len(record))
    return length + masked_crc(length) + record + masked_crc(record)


def write_frame(file: BinaryIO, record: bytes) -> int:
    """Writes a record in its frame; returns the number of bytes written."""
    framed = frame(record)
    file.write(framed)
    return len(framed)


def unframe(framed: bytes) -> bytes:
    """The record in a frame.

    Raises:
      DamagedFrameError: it is no whole frame, or a checksum does not fit.
    """
    head, record, foot = framed[:HEAD], framed[HEAD:-FOOT], framed[-FOOT:]
    length = struct.pack("<Q", len(record))
    if len(framed) < HEAD + FOOT or head != length + masked_crc(length):
        raise DamagedFrameError("the length of a record does not fit")
    if foot != masked_crc(record):
        raise DamagedFrameError("the checksum of a record does not fit")
    return record


def read_frames(file: BinaryIO) -> Iterator[bytes]:
    """The records of a file, from its position to its end.

    Raises:
      DamagedFrameError: after the last intact record, if the file goes on in another way.
    """
    buffer, position = b"", 0

    def take(size: int) -> bytes:
        """The next bytes, fewer only if the file ends."""
        nonlocal buffer, position
        while (missing := position + size - len(buffer)) > 0:
            piece = file.read(max(missing, _PIECE))
            if not piece:
                break
            buffer, position = buffer[position:] + piece, 0
        taken = buffer[position : position + size]
        position += len(taken)
        return taken

    while head := take(HEAD):
        if len(head) < HEAD:
            raise DamagedFrameError("it ends within the length of a record")
        if masked_crc(head[:8]) != head[8:]:
            raise DamagedFrameError("the checksum of a record's length does not fit")
        (length,) = struct.unpack("<Q", head[:8])
        if length > _LARGEST:
            raise DamagedFrameError("a record claims to be longer than 2 GiB")
        record, foot = take(length), take(FOOT)
        if len(foot) < FOOT:
            raise DamagedFrameError("it ends within a record")
        if masked_crc(record) != foot:
            raise DamagedFrameError("the checksum of a record does not fit")
        yield record


def masked_crc(data: bytes) -> bytes:
    """CRC32C as TFRecord masks it (tensorflow/tsl/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _CRC_MASK) & _UINT32)
