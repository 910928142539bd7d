"""JSON written as RapidJSON's PrettyWriter writes it for TF Serving."""

import math
import re
from typing import Any

import numpy as np

_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
}  # fmt: skip

# TF Serving stops echoing a value once this much of it is written.
DEBUG_TEXT_LIMIT = 256


class PrettyWriter:
    """Writes one JSON document, value by value, indented by four spaces.

    Attributes:
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
        self.size += len(piece)


def quoted(value: str) -> str:
    """A JSON string, escaping what RapidJSON escapes and nothing else."""
    return f'"{_ESCAPED.sub(_escape, value)}"'


def decimal(value: float, numpy_type: type[np.floating[Any]]) -> str:
    """Writes a float so that it reads back as the same number of its own width.

    Six digits if they suffice, else all that the width can need; a whole number ends in `.0`.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:g}"
    if numpy_type(text) != numpy_type(value):
        text = f"{value:.9g}" if numpy_type is np.float32 else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def debug_text(value: Any) -> str:
    """A parsed JSON value as TF Serving echoes it in errors: cut off after about 256 bytes."""
    writer = PrettyWriter()
    writer.single_line = True
    _write_limited(writer, value)
    return writer.text()


def _write_limited(writer: PrettyWriter, value: Any) -> bool:
    """Writes a value; stops, and returns False, once the limit is reached."""
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
    else:
        writer.raw(repr(value) if math.isfinite(value) else decimal(value, np.float64))
    return True


def _escape(match: re.Match[str]) -> str:
    """The escape sequence for one character."""
    character = match[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"
