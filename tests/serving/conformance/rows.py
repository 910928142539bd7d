"""What a row of the specification is: a request, and TF Serving's answer to the byte."""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest


@dataclass(frozen=True)
class Row:
    """A request and its answer.

    Attributes:
      name: the test's id.
      path: from `/v1/models/` on if it does not start with a slash.
      body: of the request; anything but bytes is written as JSON.
      answer: the body of the response in full; a text is the message of an error.
      status: of the response.
      method: of the request.
      differs: what tensorflow_model_server answers instead, if Privet differs on purpose.
    """

    name: str
    path: str
    body: Any
    answer: bytes | str
    status: int = 400
    method: str = "POST"
    differs: str = ""


@dataclass(frozen=True)
class Target:
    """A server under test.

    Attributes:
      url: scheme, host and port.
      is_privet: False for a server that the environment names.
    """

    url: str
    is_privet: bool


def request(
    target: Target,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Sends one request; returns status, headers in lower case, and body."""
    connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


def check(target: Target, row: Row) -> None:
    """Asserts that the target answers as the row says."""
    if row.differs and not target.is_privet:
        pytest.skip(f"Privet differs: {row.differs}")
    path = row.path if row.path.startswith("/") else f"/v1/models/{row.path}"
    body = row.body if isinstance(row.body, bytes | None) else json.dumps(row.body).encode()
    answer = row.answer if isinstance(row.answer, bytes) else error(row.answer)
    status, headers, found = request(target, row.method, path, body)

    assert found.decode() == answer.decode()
    assert status == row.status
    assert headers["content-type"] == "application/json"


def parametrize(rows: list[Row]) -> pytest.MarkDecorator:
    """A test for each row."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def body(signature: str, **members: Any) -> dict[str, Any]:
    """A predict request to a signature."""
    return {"signature_name": signature, **members}


def element(number: int, message: str) -> str:
    """The message of an error in one row."""
    return (
        f"Failed to process element: {number} of 'instances' list. Error: INVALID_ARGUMENT: "
        f"{message}"
    )


def error(message: str) -> bytes:
    """The body of an error."""
    return f'{{\n    "error": {json.dumps(message, ensure_ascii=False)}\n}}'.encode()


def predictions(rows: str) -> bytes:
    """The body of a row-format answer whose rows are on one line."""
    return f'{{\n    "predictions": [{rows}\n    ]\n}}'.encode()


def outputs(value: str) -> bytes:
    """The body of a column-format answer."""
    return f'{{\n    "outputs": {value}\n}}'.encode()


def results(value: str) -> bytes:
    """The body of a classify answer whose rows are on one line."""
    return f'{{\n    "results": [{value}\n    ]\n}}'.encode()
