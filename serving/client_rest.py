"""REST requests to a serving process, by the standard library: JSON in and out.

It speaks to `privet serve` and to tensorflow/serving alike. `client.PrivetClient` is built on it
and takes arrays.
"""

import base64
import contextlib
import http.client
import json
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from privet.components.shared.errors import ServingError
from privet.serving.client_errors import client_error
from privet.serving.client_tls import ClientTls, ssl_context
from privet.serving.status import Code

# The codes that TF Serving's HTTP statuses stand for; other 4xx are wrong requests too.
_CODES = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}

# How a server ends a connection that was kept alive too long, seen when it is used again.
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class RestClient:
    """REST requests to one server. Threads may share it: each has its own kept connection."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout_seconds: float = 30.0,
        *,
        token: str | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._context = None if tls is None else ssl_context(tls)
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._local = threading.local()
        self._lock = threading.Lock()
        # The connection of a thread that has ended closes with it.
        self._connections: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()

    def predict(
        self,
        model_name: str,
        *,
        instances: Sequence[Any] | None = None,
        inputs: Any = None,
        signature_name: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Predicts, in row format (`instances`) or column format (`inputs`).

        Returns:
          The value of `predictions` or of `outputs`.

        Raises:
          ServingError: both or none of `instances` and `inputs` are given.
          ClientError: the server cannot be reached or refuses, with its message.
        """
        if (instances is None) == (inputs is None):
            raise ServingError("Wanted one of instances and inputs; got both or neither.")
        body: dict[str, Any] = {"inputs": inputs} if instances is None else {"instances": instances}
        if signature_name is not None:
            body["signature_name"] = signature_name
        path = model_path(model_name, version, label) + ":predict"
        answer = self.request("POST", path, body, timeout_seconds)
        return answer["outputs" if instances is None else "predictions"]

    def classify(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Classifies examples (feature name -> value or flat list).

        Returns:
          For each example its (label, score) pairs.

        Raises:
          ClientError: the server cannot be reached or refuses, with its message.
        """
        body = _example_body(examples, context, signature_name)
        path = model_path(model_name, version, label) + ":classify"
        answer = self.request("POST", path, body, timeout_seconds)
        return [[(label, score) for label, score in example] for example in answer["results"]]

    def regress(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> list[float]:
        """Regresses examples (feature name -> value or flat list).

        Returns:
          One number for each example.

        Raises:
          ClientError: the server cannot be reached or refuses, with its message.
        """
        body = _example_body(examples, context, signature_name)
        path = model_path(model_name, version, label) + ":regress"
        results: list[float] = self.request("POST", path, body, timeout_seconds)["results"]
        return results

    def status(
        self,
        model_name: str,
        version: int | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> list[dict[str, Any]]:
        """The states of a model's versions, newest first.

        Returns:
          For each `{"version": "1", "state": "AVAILABLE", "status": {...}}`.

        Raises:
          ClientError: the server cannot be reached, or does not know the model.
        """
        answer = self.request("GET", model_path(model_name, version), None, timeout_seconds)
        statuses: list[dict[str, Any]] = answer["model_version_status"]
        return statuses

    def metadata(
        self,
        model_name: str,
        version: int | None = None,
        label: str | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        """The model's signatures: `{"model_spec": ..., "metadata": {"signature_def": ...}}`.

        Raises:
          ClientError: the server cannot be reached, or does not know the model.
        """
        path = model_path(model_name, version, label) + "/metadata"
        answer: dict[str, Any] = self.request("GET", path, None, timeout_seconds)
        return answer

    def wait_until_available(
        self, model_name: str, timeout_seconds: float, version: int | None = None
    ) -> int:
        """Waits until a version of the model answers requests.

        Status alone is not enough: a server answers it while it still loads.

        Returns:
          The version that is AVAILABLE: the newest, or the one asked for.

        Raises:
          ServingError: none was in time, with what was last seen.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                statuses = self.status(model_name, version)
            except ServingError as error:
                seen = str(error)
            else:
                for status in statuses:
                    if status["state"] == "AVAILABLE":
                        return int(status["version"])
                seen = ", ".join(
                    f"version {status['version']} {status['state']} "
                    f"{status['status'].get('error_message', '')}".strip()
                    for status in statuses
                )
            if time.monotonic() >= deadline:
                raise ServingError(
                    f"Wanted model {model_name!r} to be AVAILABLE at {self._host}:{self._port} "
                    f"within {timeout_seconds} seconds; last seen: {seen}. Look at the server's "
                    "output, or wait longer."
                )
            time.sleep(0.05)

    def request(
        self, method: str, path: str, body: Any = None, timeout_seconds: float | None = None
    ) -> Any:
        """Sends one request, and returns the JSON of a response that is no error.

        Args:
          method, path: of the request.
          body: a JSON document that may hold arrays and bytes; None for none.
          timeout_seconds: how long each wait for the server may take, if not as usual.

        Raises:
          ClientError: the server cannot be reached or refuses, with its message.
        """
        scheme = "http" if self._context is None else "https"
        where = f"{method} {scheme}://{self._host}:{self._port}{path}"
        content = None if body is None else json.dumps(body, default=_plain).encode()
        timeout = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            status, text, retry_after = self._exchange(method, path, content, timeout)
        except TimeoutError as error:
            raise client_error(
                where, Code.DEADLINE_EXCEEDED, f"no answer within {timeout:.3g} seconds"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise client_error(
                f"Wanted an answer from {where}",
                Code.UNAVAILABLE,
                f"{type(error).__name__}: {error}. Is the server running there?",
            ) from error
        answer = None
        with contextlib.suppress(ValueError):
            answer = json.loads(text)
        if status != 200 or answer is None:
            message = answer.get("error", text) if isinstance(answer, dict) else text
            code = _CODES.get(
                status, Code.INVALID_ARGUMENT if 400 <= status < 500 else Code.UNKNOWN
            )
            raise client_error(f"{where} answered {status}", code, message, retry_after)
        return answer

    def close(self) -> None:
        """Closes the connections of all threads."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(
        self, method: str, path: str, content: bytes | None, timeout_seconds: float
    ) -> tuple[int, str, float]:
        """Sends a request on this thread's connection: status, text, seconds to wait."""
        connection = self._connection()
        was_open = connection.sock is not None
        connection.timeout = timeout_seconds
        if connection.sock is not None:
            connection.sock.settimeout(timeout_seconds)
        try:
            connection.request(method, path, content, self._headers)
            response = connection.getresponse()
            # Strings that are no UTF-8 pass through JSON as lone surrogates.
            text = response.read().decode("utf-8", "surrogateescape")
        except BaseException as error:
            connection.close()  # opens again by itself
            if was_open and isinstance(error, _STALE):
                return self._exchange(method, path, content, timeout_seconds)
            raise
        wait = response.getheader("Retry-After", "")
        return response.status, text, float(wait) if wait.isdecimal() else 0.0

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection, opened or not."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            if self._context is None:
                connection = http.client.HTTPConnection(self._host, self._port)
            else:
                connection = http.client.HTTPSConnection(
                    self._host, self._port, context=self._context
                )
            self._local.connection = connection
            with self._lock:
                self._connections.add(connection)
        return connection


def model_path(model_name: str, version: int | None = None, label: str | None = None) -> str:
    """The path of a model, of one version, or of what a label names."""
    path = f"/v1/models/{quote(model_name, safe='')}"
    if version is not None:
        return f"{path}/versions/{version}"
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def _example_body(
    examples: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any] | None,
    signature_name: str | None,
) -> dict[str, Any]:
    """The body of a classify or regress request."""
    body: dict[str, Any] = {"examples": list(examples)}
    if context is not None:
        body["context"] = context
    if signature_name is not None:
        body["signature_name"] = signature_name
    return body


def _plain(value: Any) -> Any:
    """Arrays as lists, NumPy numbers as numbers, and bytes as TF Serving's base64 objects."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
