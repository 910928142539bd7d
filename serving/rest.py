"""TF Serving's REST API: from a request's method, path and body to the response in full."""

import logging
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from privet.components.shared.signatures import SERVING_DEFAULT
from privet.serving import codec, examples, inference, metadata
from privet.serving.document import parse_document
from privet.serving.json_writer import PrettyWriter
from privet.serving.metrics import Metrics
from privet.serving.models import ModelRequest, Models
from privet.serving.status import Code, RequestError, WouldBlockError, invalid_argument
from privet.serving.versions import Servable

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

_log = logging.getLogger(__name__)


class Response(NamedTuple):
    """A response in full.

    Attributes:
      headers: those beside the content's type and length.
      may_block: the same request may wait for others next time (see `Engine.may_block`).
    """

    status: int
    body: bytes
    content_type: bytes | None = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    may_block: bool = False


class RestApi:
    """The answers of TF Serving's REST API over a server's models."""

    def __init__(self, models: Models, metrics: Metrics | None = None) -> None:
        self._models = models
        self._metrics = metrics or Metrics(is_read=False)

    def respond(self, method: str, path: str, body: bytes) -> Response:
        """Answers one request.

        Args:
          method: in capitals.
          path: as it was sent, with its percent signs, without the query.
          body: in full, and unpacked.

        Raises:
          WouldBlockError: an event loop called, and would have to wait.
        """
        if path[:4].lower() != "/v1/":
            return _not_found()
        try:
            with self._metrics.call("REST") as call:
                resource, request = _route(method, path)
                call.model_name = request.name
                match resource:
                    case "predict":
                        call.api = resource
                        return self._predict(request, body)
                    case "classify":
                        call.api = resource
                        return self._classify(request, body)
                    case "regress":
                        call.api = resource
                        return self._regress(request, body)
                    case "metadata":
                        return self._metadata(request)
                    case _:
                        return self._status(request)
        except RequestError as error:
            return error_response(error)
        except WouldBlockError:
            raise
        except Exception as error:
            _log.exception("%s %s failed", method, path)
            return error_response(RequestError(Code.INTERNAL, f"{type(error).__name__}: {error}"))

    def _predict(self, request: ModelRequest, body: bytes) -> Response:
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
        return _inference_response(servable, codec.write_outputs(outputs, form))

    def _classify(self, request: ModelRequest, body: bytes) -> Response:
        document = parse_document(body)
        name = document.signature_name
        serialized = examples.read_examples(document)
        with self._models.use(request) as servable:
            result = inference.classify(servable.engine, name, serialized)
        return _inference_response(servable, examples.write_classifications(result))

    def _regress(self, request: ModelRequest, body: bytes) -> Response:
        document = parse_document(body)
        name = document.signature_name
        serialized = examples.read_examples(document)
        with self._models.use(request) as servable:
            values = inference.regress(servable.engine, name, serialized)
        return _inference_response(servable, examples.write_regressions(values))

    def _status(self, request: ModelRequest) -> Response:
        versions = [
            {
                "version": str(status.version),
                "state": status.state.name,
                "status": {"error_code": status.code.name, "error_message": status.message},
            }
            for status in self._models.statuses(request)
        ]
        return Response(200, metadata.message_text({"model_version_status": versions}))

    def _metadata(self, request: ModelRequest) -> Response:
        with self._models.use(request) as servable:
            return Response(200, metadata.metadata_json(servable))


@lru_cache(maxsize=256)
def _route(method: str, path: str) -> tuple[str, ModelRequest]:
    """What a request is for: `predict`, `status` and so on, and of which model.

    Raises:
      RequestError: INVALID_ARGUMENT, there is no such route.
    """
    if method == "POST" and (match := _INFERENCE_PATH.fullmatch(path)):
        name, version, label, verb = match.groups()
        request = _model_request(name, version, label)
        # The path matches in any case, but TF Serving then compares the verb exactly.
        if verb == verb.lower():
            return verb, request
    elif method == "GET" and (match := _STATUS_PATH.fullmatch(path)):
        name, version, label, resource = match.groups()
        request = _model_request(name or "", version, label)
        if not request.name:
            raise invalid_argument("Missing model name in request.")
        # Likewise.
        return "metadata" if resource == "metadata" else "status", request
    raise invalid_argument(f"Malformed request: {method} {path}")


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


def _inference_response(servable: Servable, body: bytes) -> Response:
    """A response that says which version of the model gave it."""
    engine = servable.engine
    headers = _servable_headers(servable.version, engine.kind)
    return Response(200, body, headers=headers, may_block=engine.may_block)


@lru_cache(maxsize=256)
def _servable_headers(version: int, kind: str) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-model-version", str(version).encode()),
        (b"x-model-engine", kind.encode()),
    )


def error_response(error: RequestError) -> Response:
    """The response to a request that failed."""
    return Response(_HTTP_STATUS.get(error.code, 500), error_body(error.message))


def error_body(message: str) -> bytes:
    """The body of every error."""
    writer = PrettyWriter()
    writer.start_object()
    writer.string("error")
    writer.string(message)
    writer.end_object()
    return writer.text().encode("utf-8", "surrogateescape")


def _not_found() -> Response:
    """The response to a path outside the API, as libevent gives it."""
    body = (
        b"<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
    )
    return Response(404, body, b"text/html")
