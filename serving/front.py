"""The server's ASGI application: what stands between the HTTP server and TF Serving's REST API.

In this order: pages that are open to all, the token, other pages, the limit on requests under way,
the body within its limit. What a client has to wait for, or takes its time to send, `http_protocol`
limits.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from privet.serving import gzip_bodies, short_requests, tokens
from privet.serving.config import ServerConfig
from privet.serving.gzip_bodies import TooLargeError
from privet.serving.page_paths import HEALTH_PATH, READINESS_PATH
from privet.serving.rest import Response, RestApi, error_body, error_response
from privet.serving.short_requests import ShortRequests
from privet.serving.status import Code, RequestError, WouldBlockError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
AnswerNow = Callable[[Scope, bytes], Response | None]
Page = Callable[[], Response]

# A refused request's body of up to this length is thrown away, and the connection goes on. Before
# a longer one the connection ends, a moment later: closed over bytes not read it would be reset,
# and the answer lost with it.
_DISCARDED_BYTES = 64 * 1024
_LINGER_BYTES = 1024 * 1024
_LINGER_SECONDS = 1.0


class Front:
    """The ASGI application over a REST API and the pages beside it."""

    def __init__(
        self,
        api: RestApi,
        pool: ThreadPoolExecutor,
        config: ServerConfig,
        *,
        is_ready: Callable[[], bool],
        pages: Mapping[str, Page],
        open_pages: Mapping[str, Page] = MappingProxyType({}),
        token: bytes | None = None,
        count_response: Callable[[int], None] = lambda _status: None,
    ) -> None:
        """Serves `api`.

        Args:
          api: answers the paths under /v1/, and those that nothing else answers.
          pool: where requests run that may take long.
          config: the limits.
          is_ready: whether every model can answer.
          pages: GET path -> what gives its page; for paths outside /v1/.
          open_pages: the same, for pages that are given without the token.
          token: what every request must bear, health pages excepted; None for nothing.
          count_response: told the status of each response.
        """
        self._api = api
        self._pool = pool
        self._is_ready = is_ready
        self._open_pages: Mapping[str, Page] = {
            HEALTH_PATH: _health,
            READINESS_PATH: self._readiness,
            **open_pages,
        }
        self._pages = pages
        self._count_response = count_response
        self._token = token
        self._timeout_seconds = config.rest_api_timeout_in_ms / 1000
        self._max_body_bytes = config.max_body_bytes
        self._inline_bytes = min(short_requests.LONGEST_BYTES, config.max_body_bytes)
        self._max_under_way = config.max_concurrent_requests
        self._under_way = 0
        self._draining = False
        self._short = ShortRequests()  # by path
        self._too_large = _error(
            413,
            f"Wanted a request body of at most {config.max_body_bytes} bytes, before and after "
            "decompression (--max_body_bytes). Send fewer instances at a time.",
        )
        self._cors: tuple[tuple[bytes, bytes], ...] = ()
        if config.rest_api_enable_cors_support:  # as TF Serving, which has no tokens
            allowed = b"Content-Type" if token is None else b"Content-Type, Authorization"
            self._cors = (
                (b"access-control-allow-origin", b"*"),
                (b"access-control-allow-methods", b"POST, GET"),
                (b"access-control-allow-headers", allowed),
            )

    def drain(self) -> None:
        """Makes /readyz answer 503 from now on: the server is about to stop."""
        self._draining = True

    def answer_now(self, scope: Scope, body: bytes) -> Response | None:
        """Answers a request that is known to be short, whose body has come; None for all others.

        What asyncio and ASGI cost for such a request is as much as its answer.
        """
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        if path not in self._short:
            return None
        headers = dict(scope["headers"])
        if not self._runs_inline(method, path, headers, body):
            return None
        if self._early_response(method, path, headers) is not None:
            return None
        try:
            return self._complete(path, self._respond(method, path, headers, body))
        except WouldBlockError:
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI 3)."""
        start = time.monotonic()
        method, path = scope["method"], scope["raw_path"].decode("latin-1")
        headers: Headers = dict(scope["headers"])
        early = self._early_response(method, path, headers)
        if early is not None:
            await self._send_early(headers, path, early, receive, send)
            return
        self._under_way += 1
        try:
            body = await self._read_body(receive)
            response = None
            if self._runs_inline(method, path, headers, body):
                with contextlib.suppress(WouldBlockError):
                    response = self._respond(method, path, headers, body)
            if response is None:
                response = await self._respond_in_pool(method, path, headers, body, start)
        except _DisconnectedError:
            return
        except TooLargeError:
            await self._send_early(headers, path, self._too_large, receive, send)
            return
        except asyncio.CancelledError:
            response = _STOPPING  # the time for requests under way is over
        finally:
            self._under_way -= 1
        await self._send(path, response, send)

    def _early_response(self, method: str, path: str, headers: Headers) -> Response | None:
        """The response to a request whose body is of no interest; None where it has to be read."""
        page_wanted = method in ("GET", "HEAD")
        if page_wanted and path in self._open_pages:
            return self._open_pages[path]()
        if method == "OPTIONS" and _is_of_api(path):
            # Browsers ask so before the real request, and without its token.
            allowed = re.search(rb"https?://", headers.get(b"origin", b""))
            return Response(200 if allowed else 400, b"", None)
        if self._token is not None and not tokens.matches(
            headers.get(b"authorization", b""), self._token
        ):
            return _UNAUTHENTICATED
        if page_wanted and path in self._pages:
            return self._pages[path]()
        if self._under_way >= self._max_under_way:
            return _BUSY
        if int(headers.get(b"content-length", 0)) > self._max_body_bytes:
            return self._too_large
        return None

    async def _read_body(self, receive: Receive) -> bytes:
        """The whole body.

        Raises:
          _DisconnectedError: the client went away before it was complete.
          TooLargeError: it is longer than the limit.
        """
        chunks, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _DisconnectedError
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_body_bytes:
                raise TooLargeError(f"Wanted at most {self._max_body_bytes} bytes; got more")
            if not message.get("more_body"):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _runs_inline(self, method: str, path: str, headers: Headers, body: bytes) -> bool:
        """Whether the request is known to be short."""
        return (
            method == "POST"
            and path in self._short
            and len(body) <= self._inline_bytes
            and b"content-encoding" not in headers  # a few bytes may unpack to many
        )

    def _respond(self, method: str, path: str, headers: Headers, body: bytes) -> Response:
        """Answers a request of the API, and notes how long that took."""
        started = time.thread_time()
        if headers.get(b"content-encoding", b"").lower() == b"gzip":
            try:
                body = gzip_bodies.unpack(body, self._max_body_bytes)
            except RequestError as error:
                return error_response(error)
            except TooLargeError:
                return self._too_large
        response = self._api.respond(method, path, body)
        if len(response.body) >= gzip_bodies.MINIMUM_BYTES:
            response = gzip_bodies.pack(response, headers.get(b"accept-encoding", b""))
        if response.may_block:
            self._short.forget(path)
        elif response.status == 200:
            self._short.note(path, started)
        else:
            self._short.note_error(path, started)
        return response

    async def _respond_in_pool(
        self, method: str, path: str, headers: Headers, body: bytes, start: float
    ) -> Response:
        """Answers in another thread; gives up waiting when the time since `start` is over."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._respond, method, path, headers, body)
        try:
            return await asyncio.wait_for(future, start + self._timeout_seconds - time.monotonic())
        except TimeoutError:
            # A model that runs cannot be interrupted; its result is thrown away.
            return error_response(
                RequestError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
            )

    async def _send(self, path: str, response: Response, send: Send) -> None:
        """Sends a response."""
        await send(_head(self._complete(path, response)))
        await send({"type": "http.response.body", "body": response.body})

    async def _send_early(
        self, headers: Headers, path: str, response: Response, receive: Receive, send: Send
    ) -> None:
        """Sends a response to a request whose body was not read, or not to its end."""
        if (
            b"transfer-encoding" not in headers
            and int(headers.get(b"content-length", 0)) <= _DISCARDED_BYTES
        ):
            await self._send(path, response, send)
            return
        closing = response._replace(headers=(*response.headers, (b"connection", b"close")))
        await send(_head(self._complete(path, closing)))
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        discarded = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while discarded < _LINGER_BYTES:
                    message = await receive()
                    if not message.get("more_body"):
                        break
                    discarded += len(message["body"])
        await send({"type": "http.response.body", "body": b""})

    def _complete(self, path: str, response: Response) -> Response:
        """The response with the headers that its path wants; counted, since it is about to go."""
        self._count_response(response.status)
        if self._cors and _is_of_api(path):
            return response._replace(headers=response.headers + self._cors)
        return response

    def _readiness(self) -> Response:
        """Whether requests should be sent here."""
        if self._draining:
            return _plain(503, b"The server is stopping.\n")
        if not self._is_ready():
            return _plain(503, b"A model has no version that is loaded and warmed up.\n")
        return _plain(200, b"ready\n")


class _DisconnectedError(Exception):
    """The client went away."""


def _head(response: Response) -> Message:
    """The message that starts a response."""
    headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
    if response.content_type is not None:
        headers.append((b"content-type", response.content_type))
    return {"type": "http.response.start", "status": response.status, "headers": headers}


def _is_of_api(path: str) -> bool:
    """Whether TF Serving's API answers a path."""
    return path[:4].lower() == "/v1/"


def _plain(status: int, body: bytes) -> Response:
    return Response(status, body, b"text/plain")


def _health() -> Response:
    """That the server answers says it all."""
    return _plain(200, b"ok\n")


def _error(status: int, message: str, *headers: tuple[bytes, bytes]) -> Response:
    """An error that TF Serving has no code for."""
    return Response(status, error_body(message), headers=headers)


_UNAUTHENTICATED = _error(
    401,
    "Wanted the header 'Authorization: Bearer TOKEN' with this server's token.",
    (b"www-authenticate", b"Bearer"),
)
_BUSY = _error(
    503,
    "The server has as many requests under way as it takes (--max_concurrent_requests). "
    "Try again in a second.",
    (b"retry-after", b"1"),
)
_STOPPING = _error(503, "The server stopped before the request was done. Try again.")
