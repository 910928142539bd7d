"""The body of an inference request: a JSON object, and what all requests have in it."""

from dataclasses import dataclass
from typing import Any

import orjson

from privet.serving import json_parser
from privet.serving.json_writer import debug_text
from privet.serving.status import RequestError, invalid_argument


@dataclass(frozen=True)
class Document:
    """A parsed body.

    Attributes:
      members: the top-level object.
      numbers_only: True if the tensors in it are nothing but lists of numbers. NumPy would read
        true as 1, null as NaN and "2" as 2, and would give all of a list's strings the length of
        the longest; so it is asked to convert only where there are none.
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
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        # NaN and infinities, text after the object, broken UTF-8: all fine for TF Serving. And if
        # it is an error, then in RapidJSON's words.
        value = json_parser.parse(body)
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {debug_text(value)} Is not object")
    return Document(value, _numbers_only(value, body))


def _numbers_only(members: dict[str, Any], body: bytes) -> bool:
    """Whether keys and the signature's name account for every quote, and there are no words."""
    inputs = members.get("inputs")
    strings = len(members) + (len(inputs) if isinstance(inputs, dict) else 0)
    if isinstance(members.get("signature_name"), str):
        strings += 1
    return body.count(b'"') == 2 * strings and not any(
        word in body for word in (b"true", b"false", b"null")
    )
