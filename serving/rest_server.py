"""The REST API's HTTP server: uvicorn in a thread of its own, over `front`."""

import asyncio
import functools
import math
import resource
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import uvicorn

from privet.components.shared.errors import ServingError
from privet.serving.access_log import logged
from privet.serving.config import ServerConfig
from privet.serving.front import AnswerNow, Application, Front, Page, Scope
from privet.serving.http_protocol import ConnectionLimits, LimitedProtocol
from privet.serving.metrics import Metrics
from privet.serving.models import Models
from privet.serving.rest import Response, RestApi
from privet.serving.tls import TlsConfig, server_context

_HEAD_BYTES = 64 * 1024
_IDLE_SECONDS = 60.0
_CONNECTIONS_PER_REQUEST = 4  # most connections are idle at any time
_SPARE_FILES = 64  # for models, the watch of their directories and gRPC
_TICKS_PER_SWEEP = 5  # a tick of uvicorn is 0.1 seconds


class RestServer:
    """Serves from its making until `join` returns."""

    def __init__(
        self,
        models: Models,
        listener: socket.socket,
        config: ServerConfig,
        *,
        pages: Mapping[str, Page],
        open_pages: Mapping[str, Page],
        metrics: Metrics,
        token: bytes | None = None,
        tls: TlsConfig | None = None,
    ) -> None:
        """Starts to serve; returns when it answers.

        Args:
          models: what the API serves.
          listener: a bound socket.
          config: the limits.
          pages: GET path -> what gives its page; for paths outside /v1/.
          open_pages: the same, for pages that are given without the token.
          metrics: where requests are counted.
          token: what every request must bear; None for nothing.
          tls: the key and certificates; None for plain HTTP.

        Raises:
          ServingError: it ended at once.
        """
        self._pool = ThreadPoolExecutor(config.rest_api_num_threads, thread_name_prefix="rest")
        self._front = Front(
            RestApi(models, metrics),
            self._pool,
            config,
            is_ready=models.is_ready,
            pages=pages,
            open_pages=open_pages,
            token=token,
            count_response=metrics.responded,
        )
        application: Application = self._front
        answer_now: AnswerNow = self._front.answer_now
        if config.access_log:
            application, answer_now = logged(application, _write_line), _answer_nothing
        self._server = _Server(
            uvicorn.Config(
                application,
                access_log=False,  # --access_log is ours
                lifespan="off",
                log_config=None,
                log_level="error",  # what clients do wrong is told to them
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, math.ceil(config.drain_seconds)),
                ws="none",
            ),
            listener,
            server_context(tls) if tls is not None else None,
            functools.partial(
                LimitedProtocol, limits=_connection_limits(config), answer_now=answer_now
            ),
            config.header_timeout_seconds,
        )
        self._thread = threading.Thread(target=self._server.run, name="rest", daemon=True)
        self._thread.start()
        self._server.started_or_ended.wait()
        if not self._server.started:
            self._pool.shutdown()
            raise ServingError(
                f"Wanted to listen on {config.host}:{config.rest_api_port}; the HTTP server "
                "ended at once. Its error is in the log above."
            )

    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def ask_to_stop(self) -> None:
        """Makes it take no more connections, and answer that it is not ready."""
        self._front.drain()
        self._server.should_exit = True

    def join(self) -> None:
        """Waits until the requests under way are answered."""
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)


class _Server(uvicorn.Server):
    """uvicorn's server over connections with limits."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        context: ssl.SSLContext | None,
        protocol: Callable[..., LimitedProtocol],
        handshake_seconds: float,
    ) -> None:
        super().__init__(config)
        self.started_or_ended = threading.Event()
        self._listener = listener
        self._context = context
        self._protocol = protocol
        self._handshake_seconds = handshake_seconds

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.started_or_ended.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; it would limit neither a connection nor the time of a TLS handshake."""
        make_protocol = functools.partial(
            self._protocol,
            config=self.config,
            server_state=self.server_state,
            app_state={},
        )
        server = await asyncio.get_running_loop().create_server(
            make_protocol,
            sock=self._listener,
            ssl=self._context,
            ssl_handshake_timeout=self._handshake_seconds if self._context else None,
            backlog=self.config.backlog,
        )
        self.servers = [server]
        self.started = True
        self.started_or_ended.set()

    async def on_tick(self, counter: int) -> bool:
        """Ends overdue connections, now and then."""
        if counter % _TICKS_PER_SWEEP == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(LimitedProtocol, connection).close_if_overdue(now)
        return await super().on_tick(counter)


def _connection_limits(config: ServerConfig) -> ConnectionLimits:
    """The limits of each connection, and on their number."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = _CONNECTIONS_PER_REQUEST * config.max_concurrent_requests
    if files != resource.RLIM_INFINITY:
        # A process that can open no more files could not load the next version either.
        connections = min(connections, max(files - _SPARE_FILES, files // 2))
    return ConnectionLimits(
        head_bytes=_HEAD_BYTES,
        head_seconds=config.header_timeout_seconds,
        body_seconds=config.rest_api_timeout_in_ms / 1000,
        idle_seconds=_IDLE_SECONDS,
        connections=connections,
    )


def _answer_nothing(_scope: Scope, _body: bytes) -> Response | None:
    """Leaves every request to the application, which logs it."""
    return None


def _write_line(line: str) -> None:
    """Standard output is left to the lines that say what serves."""
    sys.stderr.write(line)
    sys.stderr.flush()
