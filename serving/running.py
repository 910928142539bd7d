"""A running server: the models it has loaded, its REST API and its gRPC API, from start to stop."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from privet.components.shared.errors import ServingError
from privet.serving import ports
from privet.serving.config import ServerConfig
from privet.serving.loading import serve_models
from privet.serving.models import Models

if TYPE_CHECKING:
    from privet.serving.grpc_service import GrpcServer


class RunningServer:
    """A server that answers requests until `stop`. Also a context manager."""

    def __init__(
        self, config: ServerConfig, announce: Callable[[str], None] = lambda _line: None
    ) -> None:
        """Starts to serve; returns when both APIs answer.

        Args:
          config: what to serve, and where.
          announce: told, in a line each, when other versions or models serve, or fail to.

        Raises:
          ConfigError: a file that a flag names cannot be read, or is wrong.
          ServingError: a port is in use, or a model has no version that can be loaded.
        """
        self.config = config
        self._rest: _RestServer | None = None
        self._grpc: GrpcServer | None = None
        with contextlib.ExitStack() as stack:
            # Ports first: a port in use should not take as long to tell as TensorFlow to load.
            rest_socket = None
            if config.rest_api_port:
                rest_socket = ports.claim_port(config.host, config.rest_api_port, "--rest_api_port")
                stack.callback(rest_socket.close)
            if config.port:
                ports.check_port(config.host, config.port, "--port")
            models = stack.enter_context(serve_models(config, announce))
            self.models: Models = models
            stack.callback(self._drain)
            if config.port:
                from privet.serving import grpc_service  # imports TensorFlow

                self._grpc = grpc_service.GrpcServer(
                    models, config.host, config.port, config.grpc_max_threads
                )
            if rest_socket is not None:
                self._rest = _RestServer(models, rest_socket, config)
            self._stack = stack.pop_all()

    @property
    def rest_url(self) -> str | None:
        """The REST URL of the model, or of all; None if the REST API is off."""
        if not self.config.rest_api_port:
            return None
        address = _address(self.config.host, self.config.rest_api_port)
        names = self.models.names()
        name = f"/{quote(names[0], safe='')}" if len(names) == 1 else ""
        return f"http://{address}/v1/models{name}"

    @property
    def grpc_address(self) -> str | None:
        """The gRPC address; None if the gRPC API is off."""
        return _address(self.config.host, self.config.port) if self.config.port else None

    def check(self) -> None:
        """Does nothing while the server runs.

        Raises:
          ServingError: the REST API has ended by itself.
        """
        if self._rest is not None and not self._rest.is_alive():
            raise ServingError(
                "The REST API has stopped by itself. Its error is in the log above; start again."
            )

    def stop(self) -> None:
        """Stops taking requests, lets those under way finish, and drops the models."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _drain(self) -> None:
        """Stops both APIs at the same time, and waits for the requests under way."""
        if self._rest is not None:
            self._rest.ask_to_stop()
        if self._grpc is not None:
            self._grpc.ask_to_stop(self.config.drain_seconds)
            self._grpc.join()
        if self._rest is not None:
            self._rest.join()


class _RestServer:
    """uvicorn in a thread of its own, over the REST application."""

    def __init__(self, models: Models, listener: socket.socket, config: ServerConfig) -> None:
        import uvicorn

        from privet.serving.rest import RestApplication

        self._pool = ThreadPoolExecutor(config.rest_api_num_threads, thread_name_prefix="rest")
        application: Any = RestApplication(models, self._pool, config.rest_api_timeout_in_ms / 1000)
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                access_log=False,  # payloads and paths are nobody's business
                lifespan="off",
                log_config=None,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(config.drain_seconds)),
                timeout_keep_alive=60,
                ws="none",
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="rest", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self._pool.shutdown()
                raise ServingError(
                    f"Wanted to listen on {config.host}:{config.rest_api_port}; the HTTP server "
                    "ended at once. Its error is in the log above."
                )
            time.sleep(0.005)

    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def ask_to_stop(self) -> None:
        """Makes it take no more connections."""
        self._server.should_exit = True

    def join(self) -> None:
        """Waits until the requests under way are answered."""
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)


def _address(host: str, port: int) -> str:
    """Host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
