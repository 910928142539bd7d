"""The gRPC API on a port: grpc.aio on an event loop in a thread of its own.

A call takes no thread, as with grpcio's server of threads, so none is woken for each of its
messages: that is a quarter of the processor's time that a short call costs.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
from grpc import aio

from privet.components.shared.errors import ServingError
from privet.serving import grpc_service, short_requests, tokens
from privet.serving.config import ServerConfig
from privet.serving.grpc_service import GrpcApi, Method
from privet.serving.health_service import HEALTH_SERVICE, HealthService
from privet.serving.short_requests import ShortRequests
from privet.serving.status import RequestError, WouldBlockError
from privet.serving.tls import TlsConfig

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # grpcio shares a port with any other process that asks for it, without a word.
    ("grpc.so_reuseport", 0),
)

Handler = Callable[[bytes, aio.ServicerContext], Awaitable[bytes]]


class GrpcServer:
    """Serves from its making until `join` returns."""

    def __init__(
        self,
        api: GrpcApi,
        config: ServerConfig,
        *,
        is_ready: Callable[[], bool],
        token: bytes | None = None,
        tls: TlsConfig | None = None,
    ) -> None:
        """Starts to serve; returns when it answers.

        Args:
          api: what is served.
          config: the address and the limits.
          is_ready: whether every model can answer, for grpc.health.v1.
          token: what every request must bear, health checks excepted; None for nothing.
          tls: the key and certificates; None for plain text.

        Raises:
          ServingError: the port is in use.
        """
        self._calls = _Calls(api, config)
        self._health = HealthService(is_ready) if config.enable_grpc_healthcheck_service else None
        self._config = config
        self._token = token
        self._tls = tls
        started: Future[tuple[asyncio.AbstractEventLoop, aio.Server]] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(started,), name="grpc", daemon=True
        )
        self._thread.start()
        try:
            self._loop, self._server = started.result()
        except BaseException:
            self.join()
            raise

    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    @property
    def under_way(self) -> int:
        """How many calls are being answered."""
        return self._calls.under_way

    def ask_to_stop(self, drain_seconds: float) -> None:
        """Makes it take no more requests; those under way have this long to finish."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(drain_seconds), self._loop)

    def join(self) -> None:
        """Waits until the requests under way are answered, or have had their time."""
        self._thread.join()
        self._calls.close()

    async def _stop(self, drain_seconds: float) -> None:
        if self._health is not None:
            self._health.stop()
        await self._server.stop(drain_seconds)

    def _serve(self, started: "Future[tuple[asyncio.AbstractEventLoop, aio.Server]]") -> None:
        """The thread: an event loop until the server has stopped."""
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._run(started))

    async def _run(self, started: "Future[tuple[asyncio.AbstractEventLoop, aio.Server]]") -> None:
        try:
            server = self._make_server()
            await server.start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result((asyncio.get_running_loop(), server))
        asyncio.get_running_loop().set_exception_handler(_report)
        await server.wait_for_termination()

    def _make_server(self) -> aio.Server:
        """The server, on its port, not started."""
        interceptors = [_TokenInterceptor(self._token)] if self._token else []
        server = aio.server(interceptors=interceptors, options=_OPTIONS)
        handlers = [
            grpc.method_handlers_generic_handler(
                service,
                {
                    method.name: grpc.unary_unary_rpc_method_handler(self._calls.handler(method))
                    for method in methods
                },
            )
            for service, methods in self._calls.services.items()
        ]
        server.add_generic_rpc_handlers(handlers)
        if self._health is not None:
            self._health.add_to(server)
        host, port = self._config.host, self._config.port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        bound = 0
        with contextlib.suppress(RuntimeError):
            if self._tls is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, _credentials(self._tls))
        if not bound:
            raise ServingError(
                f"Wanted to listen for gRPC on {address}; the port cannot be bound. Stop what "
                "uses it, or choose another with --port."
            )
        return server


class _Calls:
    """Runs the calls of all methods: the short ones in the event loop, the others in a pool."""

    def __init__(self, api: GrpcApi, config: ServerConfig) -> None:
        self.services = api.services
        self._api = api
        self._pool = ThreadPoolExecutor(config.grpc_max_threads, thread_name_prefix="grpc")
        self._maximum = config.max_concurrent_requests
        self.under_way = 0  # only the event loop's thread changes it
        self._short = ShortRequests()

    def close(self) -> None:
        """Ends the pool's threads; grpcio has no more calls for them."""
        self._pool.shutdown(cancel_futures=True)

    def handler(self, method: Method) -> Handler:
        """What answers the calls of one method, on serialized requests and responses."""

        async def handle(content: bytes, context: aio.ServicerContext) -> bytes:
            if self.under_way >= self._maximum:
                await context.abort(
                    grpc.StatusCode.UNAVAILABLE,
                    f"{self._maximum} requests are under way, as many as "
                    "--max_concurrent_requests allows. Try again later.",
                )
            if context.time_remaining() == 0:  # nobody waits for the answer any more
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            self.under_way += 1
            try:
                return await self._respond(method, content)
            except RequestError as error:
                status, message = _STATUS_CODES[int(error.code)], error.message
            finally:
                self.under_way -= 1
            await context.abort(status, message)
            raise AssertionError("abort raises")

        return handle

    async def _respond(self, method: Method, content: bytes) -> bytes:
        """Answers a call, here or in the pool. If it is cancelled meanwhile, so is its turn there.

        A model that already runs cannot be interrupted; its result is thrown away.
        """
        if len(content) <= short_requests.LONGEST_BYTES:
            request = grpc_service.parse(method, content)
            kind = grpc_service.kind(method, request)
            if kind in self._short and not grpc_service.has_more_elements(
                request, short_requests.LONGEST_BYTES
            ):
                with contextlib.suppress(WouldBlockError):
                    return self._timed(method, kind, request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._parsed, method, content)

    def _parsed(self, method: Method, content: bytes) -> bytes:
        """Answers a request that is not parsed."""
        request = grpc_service.parse(method, content)
        return self._timed(method, grpc_service.kind(method, request), request)

    def _timed(self, method: Method, kind: tuple[str, str, str], request: Any) -> bytes:
        """Answers a request, and notes how long requests of its kind take."""
        started = time.thread_time()
        try:
            response, may_block = self._api.respond(method, request)
        except RequestError:
            self._short.note_error(kind, started)
            raise
        if may_block:
            self._short.forget(kind)
        else:
            self._short.note(kind, started)
        return response


class _TokenInterceptor(aio.ServerInterceptor):
    """Lets no call pass without the token, but health checks."""

    def __init__(self, token: bytes) -> None:
        self._token = token

        async def refuse(_requests: Any, context: aio.ServicerContext) -> bytes:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "Wanted the server's token in the metadata, as authorization: Bearer <token>.",
            )
            raise AssertionError("abort raises")

        # As a stream its messages are left unread, of which one may have any size.
        self._refuse = grpc.stream_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        if details.method.startswith(f"/{HEALTH_SERVICE}/"):
            return await continuation(details)
        for name, value in details.invocation_metadata:
            if name == "authorization" and tokens.matches(value, self._token):
                return await continuation(details)
        return self._refuse


def _credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    """TLS for gRPC."""
    authorities = tls.custom_ca or None
    if tls.client_verify and authorities is None:
        trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).get_ca_certs(binary_form=True)
        authorities = "".join(map(ssl.DER_cert_to_PEM_cert, trusted)).encode()
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], authorities, require_client_auth=tls.client_verify
    )


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what goes wrong in the event loop.

    But not this: servers of one process, as in tests, share the socket by which grpcio wakes event
    loops. The loop that comes second finds it empty, which is of no consequence.
    """
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, or Python's own loop where uvloop has no wheel."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
