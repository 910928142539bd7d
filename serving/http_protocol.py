"""uvicorn's HTTP protocol with limits on what a client may send, and on how long it may take.

uvicorn alone waits for ever for a request's head and body, holds a head of any length, and a
response that nobody fetches. Here one deadline for each connection says until when the client must
have moved; the server looks through them now and then, which costs a request nothing but to set
it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from privet.serving.front import AnswerNow, Scope
from privet.serving.rest import Response, error_body

# Requests that a client may send before the response to an earlier one. uvicorn keeps all.
_MAXIMUM_AHEAD = 100

_RETRY_AFTER = b"retry-after: 1\r\n"


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may take.

    Attributes:
      head_bytes: the length of a request's head: its first line and headers.
      head_seconds: the time to send a head, from its first byte or the connection's start.
      body_seconds: the time to send a body.
      idle_seconds: the time between a response and the next request, and for which a client may
        not fetch what it asked for.
      connections: how many there may be.
    """

    head_bytes: int
    head_seconds: float
    body_seconds: float
    idle_seconds: float
    connections: int


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        *args: Any,
        limits: ConnectionLimits,
        answer_now: AnswerNow,
        **settings: Any,
    ) -> None:
        """Takes a connection.

        Args:
          limits: what it may take.
          answer_now: asked for the response to each request that came whole, before the
            application is; None if it has none.
          args, settings: uvicorn's own.
        """
        super().__init__(*args, **settings)
        self._limits = limits
        self._answer_now = answer_now
        self._parsing = False
        self._starting: tuple[RequestResponseCycle, Any] | None = None  # found while parsing
        self._deadline = self.loop.time() + limits.head_seconds
        self._head_bytes = 0  # of a head that is not complete
        self._in_body = False
        self._trailer_bytes = 0  # that came since the last ones of a body

    def connection_made(self, transport: Any) -> None:
        """Begins; refuses one connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(503, "The server has as many connections as it takes.", _RETRY_AFTER)

    def data_received(self, data: bytes) -> None:
        """Parses what came; what is begun by it runs later."""
        head_starts = not self._in_body and not self._head_bytes
        cycle_of_body, body_bytes, data_bytes = None, 0, len(data)
        if self._in_body:
            cycle_of_body, body_bytes = self.cycle, len(self.cycle.body)
        else:
            self._head_bytes += len(data)
        self._parsing = True
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse(400, "Wanted an HTTP/1.1 request; got something else.")
                return
        self._parsing = False
        if self._starting is not None:
            cycle, application = self._starting
            self._starting = None
            self._start_asgi_task(cycle, application)
        if cycle_of_body is not None and self._in_body and self.cycle is cycle_of_body:
            grew = len(self.cycle.body) > body_bytes
            self._trailer_bytes = 0 if grew else self._trailer_bytes + data_bytes
        if max(self._head_bytes, self._trailer_bytes) > self._limits.head_bytes:
            self._refuse_head()
        elif self._head_bytes and head_starts:
            self._deadline = min(self._deadline, self.loop.time() + self._limits.head_seconds)

    def on_headers_complete(self) -> None:
        """Starts the request, unless its head breaks a rule."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _RefusedError
            return  # data_received gives the head to a new parser, without the upgrade
        if self._head_bytes > self._limits.head_bytes:  # or a body came with it
            pairs = sum(len(name) + len(value) + 4 for name, value in self.headers)
            if len(self.url) + pairs > self._limits.head_bytes:
                self._refuse_head()
                raise _RefusedError
        if len(self.pipeline) >= _MAXIMUM_AHEAD:
            self._refuse(400, f"Wanted at most {_MAXIMUM_AHEAD} requests ahead of a response.")
            raise _RefusedError
        self._head_bytes = 0
        self._in_body = True
        self._trailer_bytes = 0
        self._deadline = self.loop.time() + self._limits.body_seconds
        super().on_headers_complete()
        self.headers = []  # for trailers, which are no headers (RFC 9110, section 6.5.1)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Answers at once what can be, else starts the application; not before all is parsed."""
        if self._parsing:
            self._starting = cycle, app
            return
        if not cycle.more_body and not self.flow.write_paused:
            response = self._answer_now(cast(Scope, cycle.scope), bytes(cycle.body))
            if response is not None:
                self._write(cycle, response)
                return
        super()._start_asgi_task(cycle, app)

    def _write(self, cycle: RequestResponseCycle, response: Response) -> None:
        """Sends a response in one piece."""
        date = [name + b": " + value + b"\r\n" for name, value in cycle.default_headers]
        cycle.response_started = cycle.response_complete = True
        self.transport.write(
            b"".join(
                (
                    STATUS_LINE[response.status],
                    *date,
                    _header_lines(response.content_type, response.headers),
                    b"" if cycle.keep_alive else b"connection: close\r\n",
                    b"content-length: %d\r\n\r\n" % len(response.body),
                    response.body,
                )
            )
        )
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_message_complete(self) -> None:
        """Ends the request's body."""
        if not self.parser.should_upgrade():
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Goes on with the next request; as uvicorn, but without a timer for each response."""
        self.server_state.total_requests += 1
        self._deadline = self.loop.time() + self._limits.idle_seconds
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._deadline = self.loop.time() + self._limits.body_seconds
            self._start_asgi_task(*self.pipeline.pop())

    def pause_writing(self) -> None:
        """Waits for the client to fetch what was sent."""
        super().pause_writing()
        self._deadline = self.loop.time() + self._limits.idle_seconds

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps a connection whose client sends no more, as long as it waits for a response."""
        waits = self.cycle is not None and not self.cycle.response_started
        if not waits or self.cycle.more_body or self.scheme == "https":  # TLS cannot be half-closed
            return False
        self.cycle.keep_alive = False
        return True

    def close_if_overdue(self, now: float) -> None:
        """Ends the connection if the client should have moved by `now` (the loop's time)."""
        if now < self._deadline:
            return
        cycle = self.cycle
        if self.transport.is_closing() or self.flow.write_paused:
            self.transport.abort()  # nobody fetches the response
        elif cycle is None or cycle.response_complete:
            if self._head_bytes:
                self._refuse(408, "The request's head took too long.")
            else:
                self.transport.close()
        elif cycle.more_body and not self.pipeline:
            if not cycle.response_started:
                self._refuse(408, "The request's body took too long.")
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.close()

    def _head_without_upgrade(self) -> bytes:
        """The head just parsed, without its wish for another protocol; to a new parser.

        A server may ignore that wish (RFC 9110, section 7.8), and TF Serving does; Java's client
        sends it (h2c) with every first request. httptools takes the body for the other protocol.
        """
        lines = [self.parser.get_method() + b" " + self.url]
        lines[0] += b" HTTP/" + self.parser.get_http_version().encode()
        lines += (name + b": " + value for name, value in self.headers if name != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"\r\n"])

    def _refuse_head(self) -> None:
        self._refuse(431, f"Wanted a head of at most {self._limits.head_bytes} bytes; got more.")

    def _refuse(self, status: int, message: str, header: bytes = b"") -> None:
        """Answers for the application, and ends the connection."""
        if self.transport.is_closing():
            return
        body = error_body(message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(
            STATUS_LINE[status] + head + header + b"connection: close\r\n\r\n" + body
        )
        self.transport.close()


@lru_cache(maxsize=256)
def _header_lines(content_type: bytes | None, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Headers that many responses share, as they are sent."""
    pairs = headers if content_type is None else ((b"content-type", content_type), *headers)
    return b"".join(name + b": " + value + b"\r\n" for name, value in pairs)


class _RefusedError(Exception):
    """Stops the parser."""
