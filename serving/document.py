"""The body of an inference request: a JSON object, and what all requests have in it."""

import re
from typing import Any, NamedTuple

import orjson

from privet.serving import json_parser
from privet.serving.json_writer import debug_text
from privet.serving.status import RequestError, invalid_argument

_ESCAPE = re.compile(rb"\\.", re.DOTALL)

# What numbers, lists and white space are made of; and what is left of a body without these if it
# holds numbers only: keys, braces, constants that are numbers, and the signature's name. It never
# goes back (*+): to remember each step for that takes a hundred times the body's memory.
_NUMBERS_AND_LISTS = b"0123456789+-.eE[], \n\r\t"
_SIGNATURE_NAME = b'"signature_name":'.translate(None, _NUMBERS_AND_LISTS)
_KEYS_ONLY = re.compile(rb'(?:%b"[^"\\]*"|"[^"\\]*":|[{}]|NaN|Inf(?:inity)?)*+' % _SIGNATURE_NAME)


class Document(NamedTuple):
    """A parsed body.

    Attributes:
      members: the top-level object.
      numbers_only: True if the tensors in it are nothing but lists of numbers. Converting a whole
        list at once would take true for 1; so this is done only where there is no such thing.
    """

    members: dict[str, Any]
    numbers_only: bool

    @property
    def signature_name(self) -> str:
        """The signature that the request asks for; empty for the default one.

        Raises:
          RequestError: INVALID_ARGUMENT, it is not a string.
        """
        name = self.members.get("signature_name", "")
        if not isinstance(name, str):
            raise self.format_error(
                "not formatted correctly. 'signature_name' key must be a string value."
            )
        return name

    def format_error(self, text: str) -> RequestError:
        """The error that this body is not of the wanted form."""
        return invalid_argument(f"JSON Value: {debug_text(self.members)} {text}")


def parse_document(body: bytes) -> Document:
    """Parses the body of a request.

    Raises:
      RequestError: INVALID_ARGUMENT, it is not JSON or not an object.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        value, exact = orjson.loads(body), False
    except orjson.JSONDecodeError:
        # NaN and infinities, text after the object, broken UTF-8: all fine for TF Serving. And if
        # it is an error, then in RapidJSON's words.
        value, exact = json_parser.parse(body), True
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {debug_text(value)} Is not object")
    rest = body.translate(None, _NUMBERS_AND_LISTS)
    numbers_only = _KEYS_ONLY.fullmatch(rest) is not None
    if (
        not exact
        and not (numbers_only and _are_all_keys(value, rest))
        and _has_repeated_keys(value, body)
    ):
        value = json_parser.parse(body)
    return Document(value, numbers_only)


def _has_repeated_keys(members: dict[str, Any], body: bytes) -> bool:
    """Whether keys and strings account for fewer quotes than there are: orjson kept a last key."""
    if b"\\" in body:
        body = _ESCAPE.sub(b"", body)
    strings = 0
    values: list[Any] = [members]
    while values:
        value = values.pop()
        if isinstance(value, str):
            strings += 1
        elif isinstance(value, list):
            values.extend(value)
        elif isinstance(value, dict):
            strings += len(value)
            values.extend(value.values())
    return body.count(b'"') != 2 * strings


def _are_all_keys(members: dict[str, Any], rest: bytes) -> bool:
    """Whether a body of numbers has no other keys than `members` and its named inputs."""
    inputs = members.get("inputs")
    strings = len(members) + (len(inputs) if isinstance(inputs, dict) else 0)
    if isinstance(members.get("signature_name"), str):
        strings += 1
    return rest.count(b'"') == 2 * strings
