"""JSON read as RapidJSON reads it: the slow, exact path behind a fast parser that refused a body.

TF Serving parses with RapidJSON's iterative parser, NaN and infinities allowed, and stops after
the first value. Its error texts and offsets reach clients, so they are kept.
"""

import re
from typing import Any

from privet.serving.status import RequestError, invalid_argument

_SPACE = re.compile(r"[ \n\r\t]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FRACTION = re.compile(r"\.([0-9]*)")
_EXPONENT = re.compile(r"[eE][+-]?([0-9]*)")
_CONSTANTS: tuple[tuple[str, Any], ...] = (("null", None), ("true", True), ("false", False))
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
# Stops at what ends or interrupts a string: quote, backslash, control characters.
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')

_UINT64_MAX, _INT64_MIN = 2**64 - 1, -(2**63)


def parse(body: bytes) -> Any:
    """Parses the first JSON value of `body`.

    Returns:
      None, bool, int, float, str, list or dict. Bytes of a string that are not UTF-8 become lone
      surrogates (`surrogateescape`), so that encoding it the same way gives them back. Of equal
      keys in an object the first counts.

    Raises:
      RequestError: INVALID_ARGUMENT, with RapidJSON's text and the offset in bytes.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return _Parser(text, len(body) - len(body.removeprefix(b"\xef\xbb\xbf"))).value()


class _Parser:
    """A position in a text. Nesting is kept in a list, so that no depth overflows a stack."""

    def __init__(self, text: str, skipped_bytes: int) -> None:
        self.text = text
        self.position = 0
        self.skipped_bytes = skipped_bytes

    def value(self) -> Any:
        """Parses one value, however deeply nested."""
        # Each open container: itself, and the key that waits for a value (objects only).
        open_containers: list[tuple[Any, str | None]] = []
        self.space()
        if self.peek() in ("", "]", "}", ",", ":"):
            raise self.error("The document is empty.")
        while True:
            character = self.peek()
            if character == "[":
                self.position += 1
                self.space()
                if self.peek() != "]":
                    open_containers.append(([], None))
                    self.require_value()
                    continue
                self.position += 1
                done: Any = []
            elif character == "{":
                self.position += 1
                self.space()
                if self.peek() != "}":
                    open_containers.append(({}, self.key()))
                    continue
                self.position += 1
                done = {}
            else:
                done = self.scalar(character)
            # Put the finished value where it belongs, and close what it completes.
            while open_containers:
                container, key = open_containers[-1]
                if isinstance(container, list):
                    container.append(done)
                    closing, text = "]", "Missing a comma or ] after an array element."
                else:
                    container.setdefault(key, done)
                    closing, text = "}", "Missing a comma or } after an object member."
                self.space()
                if self.peek() == ",":
                    self.position += 1
                    self.space()
                    if isinstance(container, dict):
                        open_containers[-1] = (container, self.key())
                    else:
                        self.require_value()
                    break
                if self.peek() != closing:
                    raise self.error(text)
                self.position += 1
                done = open_containers.pop()[0]
            else:
                return done

    def scalar(self, character: str) -> Any:
        """Parses a string, a constant or a number."""
        if character == '"':
            return self.string()
        for word, constant in _CONSTANTS:
            if character == word[0]:
                for expected in word:
                    if self.peek() != expected:
                        raise self.error("Invalid value.")
                    self.position += 1
                return constant
        return self.number()

    def number(self) -> int | float:
        """Parses a number, NaN or an infinity."""
        start = self.position
        negative = self.text.startswith("-", start)
        after_sign = start + negative
        for word, special in (
            ("NaN", float("nan")),
            ("Infinity", float("inf")),
            ("Inf", float("inf")),
        ):
            if self.text.startswith(word, after_sign):
                self.position = after_sign + len(word)
                return -special if negative else special
        match = _NUMBER.match(self.text, start)
        if match is None:
            self.position = after_sign
            raise self.error("Invalid value.")
        self.position = match.end()
        is_integer = True
        for pattern, text in (
            (_FRACTION, "Miss fraction part in number."),
            (_EXPONENT, "Miss exponent in number."),
        ):
            part = pattern.match(self.text, self.position)
            if part is not None:
                self.position = part.end()
                is_integer = False
                if not part[1]:
                    raise self.error(text)
        literal = self.text[start : self.position]
        if is_integer and len(literal) <= 20:
            integer = int(literal)
            if _INT64_MIN <= integer <= _UINT64_MAX:
                return integer
        number = float(literal)
        if number in (float("inf"), float("-inf")):
            raise self.error("Number too big to be stored in double.", start)
        return number

    def key(self) -> str:
        """Parses the name of a member and the colon after it."""
        if self.peek() != '"':
            raise self.error("Missing a name for object member.")
        name = self.string()
        self.space()
        if self.peek() != ":":
            raise self.error("Missing a colon after a name of object member.")
        self.position += 1
        self.space()
        self.require_value()
        return name

    def string(self) -> str:
        """Parses a string; the position is at its opening quote."""
        self.position += 1
        pieces: list[str] = []
        while True:
            match = _PLAIN.match(self.text, self.position)
            assert match is not None  # the pattern matches nothing too
            pieces.append(match[0])
            self.position = match.end()
            character = self.peek()
            if character == '"':
                self.position += 1
                return "".join(pieces)
            if character == "\\":
                pieces.append(self.escape())
            elif character in ("", "\0"):
                raise self.error("Missing a closing quotation mark in string.")
            else:
                raise self.error("Invalid encoding in string.")

    def escape(self) -> str:
        """Parses an escape sequence; the position is at its backslash."""
        start = self.position
        letter = self.text[start + 1 : start + 2]
        if letter in _ESCAPES and letter:
            self.position += 2
            return _ESCAPES[letter]
        if letter != "u":
            raise self.error("Invalid escape character in string.", start)
        unit = self.hexadecimal(start)
        if not 0xD800 <= unit <= 0xDFFF:
            return chr(unit)
        if unit > 0xDBFF or not self.text.startswith("\\u", self.position):
            raise self.error("The surrogate pair in string is invalid.", start)
        low = self.hexadecimal(start)
        if not 0xDC00 <= low <= 0xDFFF:
            raise self.error("The surrogate pair in string is invalid.", start)
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))

    def hexadecimal(self, start: int) -> int:
        """Parses `\\uXXXX` at the position; `start` is where an error is reported."""
        digits = self.text[self.position + 2 : self.position + 6]
        if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
            raise self.error("Incorrect hex digit after \\u escape in string.", start)
        self.position += 6
        return int(digits, 16)

    def require_value(self) -> None:
        """Refuses what cannot start a value."""
        if self.peek() in ("", "]", "}", ",", ":"):
            raise self.error("Invalid value.")

    def space(self) -> None:
        """Skips white space."""
        match = _SPACE.match(self.text, self.position)
        assert match is not None  # the pattern matches nothing too
        self.position = match.end()

    def peek(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.position : self.position + 1]

    def error(self, text: str, position: int | None = None) -> RequestError:
        """The error at a position, by default the present one."""
        before = self.text[: self.position if position is None else position]
        offset = self.skipped_bytes + len(before.encode("utf-8", "surrogateescape"))
        return invalid_argument(f"JSON Parse error: {text} at offset: {offset}")
