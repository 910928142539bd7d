"""TF Serving's REST API as an ASGI application: routes, bodies and status codes."""

import asyncio
import json
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from privet.components.shared.signatures import SERVING_DEFAULT
from privet.serving import codec, examples, inference
from privet.serving.document import parse_document
from privet.serving.json_writer import PrettyWriter
from privet.serving.models import ModelRequest, Models
from privet.serving.status import Code, RequestError, invalid_argument

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_API_PATH = re.compile(r"/v1/.*", re.IGNORECASE)
_VERSION_OR_LABEL = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_INFERENCE_PATH = re.compile(
    rf"/v1/models/([^/:]+){_VERSION_OR_LABEL}:(classify|regress|predict)", re.IGNORECASE
)
_STATUS_PATH = re.compile(
    rf"/v1/models(?:/([^/:]+))?{_VERSION_OR_LABEL}(?:/(metadata))?", re.IGNORECASE
)

_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}  # the rest are 500

_INT64_MAX = 2**63 - 1
_MAXIMUM_UNPACKED_BYTES = 100 * 1024 * 1024

# A request that answered within this many seconds last time, with no more bytes than these, runs
# in the event loop: a hop to another thread and back would cost more than it saves. All others
# run in a pool, so that status and short requests do not wait behind them.
_INLINE_SECONDS = 0.001
_INLINE_BYTES = 64 * 1024
_TIMED_PATHS = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """A response in full."""

    status: int
    body: bytes
    content_type: str | None = "application/json"


class RestApplication:
    """The ASGI application over a server's models."""

    def __init__(self, models: Models, pool: ThreadPoolExecutor, timeout_seconds: float) -> None:
        """Serves `models`, running what may take long in `pool`, for at most the timeout."""
        self._models = models
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._seconds_by_path: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        if body is None:
            return  # the client went away
        headers = dict(scope["headers"])
        path = scope["raw_path"].split(b"?", 1)[0].decode("latin-1")
        if self._runs_inline(scope["method"], path, body):
            response = self.respond(scope["method"], path, headers, body)
        else:
            response = await self._respond_in_pool(scope["method"], path, headers, body)
        await _send(send, response)

    def respond(
        self, method: str, path: str, headers: MutableMapping[bytes, bytes], body: bytes
    ) -> Response:
        """Answers a request given by its parts.

        Args:
          method: in capitals.
          path: as it was sent, with its percent signs, without the query.
          headers: names in lower case.
          body: as it was sent.
        """
        if not _API_PATH.fullmatch(path):
            return _not_found()
        if method == "OPTIONS":
            allowed = re.search(rb"https?://", headers.get(b"origin", b""))
            return Response(200 if allowed else 400, b"", None)
        start = time.perf_counter()
        try:
            if headers.get(b"content-encoding", b"").lower() == b"gzip":
                body = _unpack(body)
            answer = self._answer(method, path, body)
        except RequestError as error:
            return _error(error)
        except Exception as error:
            _log.exception("%s %s failed", method, path)
            return _error(RequestError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        if len(self._seconds_by_path) >= _TIMED_PATHS:
            self._seconds_by_path.clear()
        self._seconds_by_path[path] = time.perf_counter() - start
        return Response(200, answer)

    def _runs_inline(self, method: str, path: str, body: bytes) -> bool:
        """Whether the request is known to be short."""
        known = self._seconds_by_path.get(path)
        return (
            method == "POST"
            and known is not None
            and known < _INLINE_SECONDS
            and len(body) <= _INLINE_BYTES
        )

    async def _respond_in_pool(
        self, method: str, path: str, headers: MutableMapping[bytes, bytes], body: bytes
    ) -> Response:
        """Answers in another thread; gives up waiting after the timeout."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self.respond, method, path, headers, body)
        try:
            return await asyncio.wait_for(future, self._timeout_seconds)
        except TimeoutError:
            # A model that runs cannot be interrupted; its result is thrown away.
            return _error(
                RequestError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
            )

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        """The body of a successful response."""
        if method == "POST" and (match := _INFERENCE_PATH.fullmatch(path)):
            name, version, label, verb = match.groups()
            request = _model_request(name, version, label)
            # The path matches in any case, but TF Serving then compares the verb exactly.
            if verb == "predict":
                return self._predict(request, body)
            if verb == "classify":
                return self._classify(request, body)
            if verb == "regress":
                return self._regress(request, body)
        elif method == "GET" and (match := _STATUS_PATH.fullmatch(path)):
            name, version, label, resource = match.groups()
            request = _model_request(name or "", version, label)
            if not request.name:
                raise invalid_argument("Missing model name in request.")
            if resource == "metadata":
                return self._metadata(request)
            return self._status(request)
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, request: ModelRequest, body: bytes) -> bytes:
        document = parse_document(body)
        name = document.signature_name or SERVING_DEFAULT
        with self._models.use(request) as servable:
            signature = servable.engine.signatures.get(name)
            if signature is None:
                raise invalid_argument(
                    f'Serving signature name: "{name}" not found in signature def'
                )
            inputs, form = codec.read_inputs(document, signature)
            outputs = inference.predict(servable.engine, signature, inputs)
        return codec.write_outputs(outputs, form)

    def _classify(self, request: ModelRequest, body: bytes) -> bytes:
        document = parse_document(body)
        name = document.signature_name
        serialized = examples.read_examples(document)
        with self._models.use(request) as servable:
            result = inference.classify(servable.engine, name, serialized)
        return examples.write_classifications(result)

    def _regress(self, request: ModelRequest, body: bytes) -> bytes:
        document = parse_document(body)
        name = document.signature_name
        serialized = examples.read_examples(document)
        with self._models.use(request) as servable:
            values = inference.regress(servable.engine, name, serialized)
        return examples.write_regressions(values)

    def _status(self, request: ModelRequest) -> bytes:
        versions = [
            {
                "version": str(status.version),
                "state": status.state.name,
                "status": {"error_code": status.code.name, "error_message": status.message},
            }
            for status in self._models.statuses(request)
        ]
        return json.dumps({"model_version_status": versions}, indent=1).encode() + b"\n"

    def _metadata(self, request: ModelRequest) -> bytes:
        from google.protobuf import json_format
        from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

        from privet.serving import protos

        with self._models.use(request) as servable:
            metadata = protos.metadata(servable.engine, servable.model_name, servable.version)
        signatures = SignatureDefMap()
        metadata.metadata["signature_def"].Unpack(signatures)
        model_spec, signature_def = (
            json_format.MessageToJson(
                message,
                including_default_value_fields=True,
                preserving_proto_field_name=True,
                indent=1,
            )
            for message in (metadata.model_spec, signatures)
        )
        body = f'"model_spec":{model_spec},\n"metadata": {{"signature_def": {signature_def}}}'
        return f"{{\n{body}\n}}\n".encode()


def _model_request(name: str, version: str | None, label: str | None) -> ModelRequest:
    """The model that a path names."""
    digits = (version or "0").lstrip("0") or "0"
    if len(digits) > 19 or int(digits) > _INT64_MAX:
        # TF Serving answers with an empty body here; an error that says so helps more.
        raise invalid_argument(f"Failed to convert version: {digits[:40]} to numeric.")
    return ModelRequest(
        name=unquote(name, errors="surrogateescape"),
        version=None if version is None else int(digits),
        label=None if label is None else unquote(label, errors="surrogateescape"),
    )


def _unpack(body: bytes) -> bytes:
    """Decompresses a gzip body."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, _MAXIMUM_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise invalid_argument(f"Failed to decompress the gzip request body: {error}") from error
    if len(unpacked) > _MAXIMUM_UNPACKED_BYTES or not unpacker.eof:
        raise invalid_argument(
            "Failed to decompress the gzip request body: wanted a whole stream of at most "
            f"{_MAXIMUM_UNPACKED_BYTES} bytes"
        )
    return unpacked


def _error(error: RequestError) -> Response:
    """The response to a request that failed."""
    writer = PrettyWriter()
    writer.start_object()
    writer.string("error")
    writer.string(error.message)
    writer.end_object()
    body = writer.text().encode("utf-8", "surrogateescape")
    return Response(_HTTP_STATUS.get(error.code, 500), body)


def _not_found() -> Response:
    """The response to a path outside the API, as libevent gives it."""
    body = (
        b"<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
    )
    return Response(404, body, "text/html")


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None if the client went away before it was complete."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _send(send: Send, response: Response) -> None:
    """Sends a response."""
    headers = [(b"content-length", str(len(response.body)).encode())]
    if response.content_type is not None:
        headers.append((b"content-type", response.content_type.encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
