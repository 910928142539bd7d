"""The server's ASGI application: what stands between the HTTP server and TF Serving's REST API."""

import asyncio
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from privet.serving.config import ServerConfig
from privet.serving.rest import Response, RestApi, error_response
from privet.serving.status import Code, RequestError, invalid_argument

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Page = Callable[[], Response]

_MAXIMUM_UNPACKED_BYTES = 100 * 1024 * 1024

# A request that answered within this many seconds last time, with no more bytes than these, runs
# in the event loop: a hop to another thread and back would cost more than it saves. All others
# run in a pool, so that status and short requests do not wait behind them.
_INLINE_SECONDS = 0.001
_INLINE_BYTES = 64 * 1024
_TIMED_PATHS = 256


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
          token: what every request must bear, health pages excepted; None for nothing.
          count_response: told the status of each response.
        """
        self._api = api
        self._pool = pool
        self._pages = pages
        self._count_response = count_response
        self._timeout_seconds = config.rest_api_timeout_in_ms / 1000
        self._seconds_by_path: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        if body is None:
            return  # the client went away
        headers = dict(scope["headers"])
        method = scope["method"]
        path = scope["raw_path"].split(b"?", 1)[0].decode("latin-1")
        if method == "GET" and (page := self._pages.get(path)) is not None:
            response = page()
        elif method == "OPTIONS" and path[:4].lower() == "/v1/":
            allowed = re.search(rb"https?://", headers.get(b"origin", b""))
            response = Response(200 if allowed else 400, b"", None)
        elif self._runs_inline(method, path, body):
            response = self._respond(method, path, headers, body)
        else:
            response = await self._respond_in_pool(method, path, headers, body)
        self._count_response(response.status)
        await _send(send, response)

    def _respond(
        self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes
    ) -> Response:
        """Answers a request of the API, and notes how long that took."""
        start = time.perf_counter()
        if headers.get(b"content-encoding", b"").lower() == b"gzip":
            try:
                body = _unpack(body)
            except RequestError as error:
                return error_response(error)
        response = self._api.respond(method, path, body)
        if response.status == 200:
            if len(self._seconds_by_path) >= _TIMED_PATHS:
                self._seconds_by_path.clear()
            self._seconds_by_path[path] = time.perf_counter() - start
        return response

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
        self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes
    ) -> Response:
        """Answers in another thread; gives up waiting after the timeout."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._respond, method, path, headers, body)
        try:
            return await asyncio.wait_for(future, self._timeout_seconds)
        except TimeoutError:
            # A model that runs cannot be interrupted; its result is thrown away.
            return error_response(
                RequestError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
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
    headers = [(b"content-length", b"%d" % len(response.body)), *response.headers]
    if response.content_type is not None:
        headers.append((b"content-type", response.content_type))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
