"""JSON read as RapidJSON reads it: the exact path behind a fast parser that refused a body.

TF Serving parses with RapidJSON 1.1.0's iterative parser, NaN and infinities allowed, and stops
after the first value. Its error texts and offsets reach clients, so they are kept.
"""

import json
import re
from typing import Any

from privet.serving.status import RequestError, invalid_argument

_SPACE = re.compile(r"[ \n\r\t]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_COMMON_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?![0-9.eE])")
_FRACTION = re.compile(r"\.([0-9]*)")
_EXPONENT = re.compile(r"[eE][+-]?([0-9]*)")
# NaN and infinities as RapidJSON's look-ahead reads them, and as much of one as it got through.
_SPECIAL = re.compile(r"(NaN)|(?:Na?)?Inf(?:inity|(?!i))")
_BROKEN_SPECIAL = re.compile(r"(?:Na?)?(?:I(?:n(?:f(?:i(?:n(?:i(?:t)?)?)?)?)?)?)?")
_CONSTANTS: dict[str, tuple[str, Any]] = {
    "n": ("null", None), "t": ("true", True), "f": ("false", False),
}  # fmt: skip
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
# What the standard library reads otherwise than RapidJSON: escaped surrogates, which may be lone;
# exponents and digits that may be beyond a double. Digits are looked at from their first one only:
# from each, runs of 299 would take 300 times as long, in which no other thread gets a turn.
_NOT_STANDARD = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?[0-9]{3}|(?<![0-9])[0-9]{300}")
# RapidJSON skips each byte of a byte order mark by itself.
_BYTE_ORDER_MARK = re.compile(rb"\xef?\xbb?\xbf?")
# What cannot start a value. RapidJSON takes a NUL byte for the end, and so there is one.
_NO_VALUE = "\0]},:"
# TensorFlow's tensors have at most 254 dimensions; this only bounds the memory of nothing at all.
_MAXIMUM_DEPTH = 100_000

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
    mark = _BYTE_ORDER_MARK.match(body)
    assert mark is not None  # the pattern matches nothing too
    text = body[mark.end() :].decode("utf-8", "surrogateescape")
    if not _NOT_STANDARD.search(body):
        # In C: a body of a million numbers and one NaN should not take a second.
        try:
            return _STANDARD.raw_decode(text, _space_end(text, 0))[0]
        except (ValueError, RecursionError):
            pass  # an error to be told in RapidJSON's words, or what only RapidJSON reads
    return _Parser(text, mark.end()).value()


def _integer(literal: str) -> int | float:
    """An integer, or the nearest double of one that 64 bits cannot hold."""
    if len(literal) <= 20:
        integer = int(literal)
        if _INT64_MIN <= integer <= _UINT64_MAX:
            return integer
    return float(literal)


def _first_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, the first of equal keys counting."""
    members = dict(pairs)
    if len(members) != len(pairs):
        members.clear()
        for key, value in pairs:
            members.setdefault(key, value)
    return members


_STANDARD = json.JSONDecoder(object_pairs_hook=_first_members, parse_int=_integer)


class _Parser:
    """A position in a text. Nesting is kept in a list, so that no depth overflows a stack."""

    def __init__(self, text: str, skipped_bytes: int) -> None:
        self.text = text + "\0"
        self.position = 0
        self.skipped_bytes = skipped_bytes

    def value(self) -> Any:
        """Parses one value, however deeply nested."""
        # Each open container: itself, and the key that waits for a value (objects only).
        open_containers: list[tuple[Any, str | None]] = []
        self.space()
        if self.peek() in _NO_VALUE:
            raise self.error("The document is empty.")
        while True:
            character = self.peek()
            if character in "[{" and len(open_containers) >= _MAXIMUM_DEPTH:
                raise self.error(f"Nested deeper than {_MAXIMUM_DEPTH} levels.")
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
                    closing, text = "]", "Missing a comma or ']' after an array element."
                else:
                    container.setdefault(key, done)
                    closing, text = "}", "Missing a comma or '}' after an object member."
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
        if character not in _CONSTANTS:
            return self.number()
        word, constant = _CONSTANTS[character]
        for expected in word:
            if self.peek() != expected:
                raise self.error("Invalid value.")
            self.position += 1
        return constant

    def number(self) -> int | float:
        """Parses a number, NaN or an infinity."""
        start = self.position
        common = _COMMON_INTEGER.match(self.text, start)
        if common is not None:
            self.position = common.end()
            return int(common[0])
        negative = self.text.startswith("-", start)
        after_sign = start + negative
        special = _SPECIAL.match(self.text, after_sign)
        if special is not None:
            self.position = special.end()
            value = float("nan") if special[1] else float("inf")
            return -value if negative else value
        match = _NUMBER.match(self.text, start)
        if match is None:
            broken = _BROKEN_SPECIAL.match(self.text, after_sign)
            assert broken is not None  # the pattern matches nothing too
            self.position = broken.end()
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
        number = _integer(literal) if is_integer else float(literal)
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
            elif character == "\0":
                raise self.error("Missing a closing quotation mark in string.")
            else:
                raise self.error("Invalid escape character in string.")

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
        if not 0xD800 <= unit <= 0xDBFF:
            # A lone low surrogate passes, as the three bytes that encode it.
            return chr(unit).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
        if not self.text.startswith("\\u", self.position):
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
        if self.peek() in _NO_VALUE:
            raise self.error("Invalid value.")

    def space(self) -> None:
        """Skips white space."""
        if self.text[self.position] in " \n\r\t":
            self.position = _space_end(self.text, self.position)

    def peek(self) -> str:
        """The next character; NUL at the end."""
        return self.text[self.position]

    def error(self, text: str, position: int | None = None) -> RequestError:
        """The error at a position, by default the present one."""
        before = self.text[: self.position if position is None else position]
        offset = self.skipped_bytes + len(before.encode("utf-8", "surrogateescape"))
        return invalid_argument(f"JSON Parse error: {text} at offset: {offset}")


def _space_end(text: str, position: int) -> int:
    """Where the white space at a position ends."""
    match = _SPACE.match(text, position)
    assert match is not None  # the pattern matches nothing too
    return match.end()
