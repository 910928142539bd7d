"""JSON written as RapidJSON's PrettyWriter writes it for TF Serving."""

import math
import re
import struct
from decimal import Decimal
from typing import Any

import numpy as np

_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
}  # fmt: skip

_FLOAT = struct.Struct("<f")

# TF Serving stops echoing a value once this much of it is written.
DEBUG_TEXT_LIMIT = 256


class PrettyWriter:
    """Writes one JSON document, value by value, indented by four spaces.

    Attributes:
      size: bytes written so far.
      single_line: whether the arrays that are written now stay on one line. TF Serving switches
        it on and off inside a document, which is why its bodies look as they do.
    """

    def __init__(self) -> None:
        self.single_line = False
        self.size = 0
        self._pieces: list[str] = []
        self._levels: list[list[int]] = []  # [is an array, values written so far]

    def text(self) -> str:
        """What was written so far."""
        return "".join(self._pieces)

    def start_array(self) -> None:
        self.raw("[")
        self._levels.append([1, 0])

    def end_array(self) -> None:
        _, count = self._levels.pop()
        if count and not self.single_line:
            self._new_line()
        self._put("]")

    def start_object(self) -> None:
        self.raw("{")
        self._levels.append([0, 0])

    def end_object(self) -> None:
        _, count = self._levels.pop()
        if count:
            self._new_line()
        self._put("}")

    def string(self, value: str) -> None:
        """Writes a string or a key."""
        self.raw(quoted(value))

    def raw(self, token: str) -> None:
        """Writes a value that is JSON already."""
        self._prefix()
        self._put(token)

    def _prefix(self) -> None:
        """Writes what stands between the last value and the next."""
        if not self._levels:
            return
        level = self._levels[-1]
        is_array, count = level
        if is_array:
            if count:
                self._put(", " if self.single_line else ",")
            if not self.single_line:
                self._new_line()
        elif count % 2:
            self._put(": ")
        else:
            if count:
                self._put(",")
            self._new_line()
        level[1] += 1

    def _new_line(self) -> None:
        self._put("\n" + "    " * len(self._levels))

    def _put(self, piece: str) -> None:
        self._pieces.append(piece)
        self.size += (
            len(piece) if piece.isascii() else len(piece.encode("utf-8", "surrogateescape"))
        )


def quoted(value: str) -> str:
    """A JSON string, escaping what RapidJSON escapes and nothing else."""
    return f'"{_ESCAPED.sub(_escape, value)}"'


def decimal(value: float, numpy_type: type[np.floating[Any]]) -> str:
    """Writes a float so that it reads back as the same number of its own width.

    Six digits if they suffice, else all that the width can need; a whole number ends in `.0`.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:g}"
    if numpy_type is np.float32:
        (again,) = _FLOAT.unpack(_FLOAT.pack(float(text)))
        if again != value:
            text = f"{value:.9g}"
    elif float(text) != value:
        text = f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def debug_text(value: Any) -> str:
    """A parsed JSON value as TF Serving echoes it in errors: cut off after about 256 bytes."""
    writer = PrettyWriter()
    writer.single_line = True
    _write_limited(writer, value)
    return writer.text()


def _write_limited(writer: PrettyWriter, value: Any) -> bool:
    """Writes a value; stops, and returns False, where TF Serving stops."""
    if writer.size >= DEBUG_TEXT_LIMIT:
        return False
    if isinstance(value, list):
        writer.start_array()
        if not all(_write_limited(writer, element) for element in value):
            return False
        if writer.size >= DEBUG_TEXT_LIMIT:
            return False
        writer.end_array()
    elif isinstance(value, dict):
        writer.start_object()
        for key, member in value.items():
            if not (_write_limited(writer, key) and _write_limited(writer, member)):
                return False
        if writer.size >= DEBUG_TEXT_LIMIT:
            return False
        writer.end_object()
    elif isinstance(value, str):
        writer.string(value)
    elif value is None or isinstance(value, bool):
        writer.raw({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int):
        writer.raw(str(value))
    elif math.isfinite(value):
        writer.raw(_double_text(value))
    else:
        writer.raw("")  # RapidJSON gives up after the comma before it
        return False
    return True


def _double_text(value: float) -> str:
    """A double as RapidJSON prints it: the digits of `repr`, 21 of them before an exponent."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # finite
    text = "".join(map(str, digits))
    point = len(text) + exponent  # 0.text times ten to this power
    if value == 0:
        text = "0.0"
    elif exponent >= 0 and point <= 21:
        text += "0" * exponent + ".0"
    elif 0 < point <= 21:
        text = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        text = text[0] + (f".{text[1:]}" if text[1:] else "") + f"e{point - 1}"
    return f"-{text}" if sign else text


def _escape(match: re.Match[str]) -> str:
    """The escape sequence for one character."""
    character = match[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"
