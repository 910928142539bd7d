"""A running server: the models it has loaded, its REST API and its gRPC API, from start to stop."""

import contextlib
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from privet.components.shared.errors import ServingError
from privet.serving import ports
from privet.serving.batching import BatchingEngine
from privet.serving.batching_config import ServerBatching
from privet.serving.config import ServerConfig
from privet.serving.engine import Engine, load_engine
from privet.serving.models import Models
from privet.serving.versions import ModelVersions, RetryPolicy, Servable
from privet.serving.warmup import warm_up

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
          announce: told, in a line each, when another version serves or one fails to load.

        Raises:
          ServingError: a port is in use, or no version can be loaded.
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
            versions = self._versions(announce)
            stack.callback(versions.stop)
            self.servable: Servable = versions.start()
            models = Models({config.model_name: versions})
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
        """The model's REST URL; None if the REST API is off."""
        if not self.config.rest_api_port:
            return None
        address = _address(self.config.host, self.config.rest_api_port)
        return f"http://{address}/v1/models/{self.config.model_name}"

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

    def _versions(self, announce: Callable[[str], None]) -> ModelVersions:
        """The versions of the model, not started."""
        config = self.config
        batching = ServerBatching.from_flags(config)

        def load(path: Path, version: int) -> Engine:
            quiet_tensorflow()
            batches = batching.config_of(path)
            engine = load_engine(path, config.prefer_tflite_model)
            if batches is not None:
                engine = BatchingEngine(engine, batches)
            if config.enable_model_warmup:
                try:
                    warm_up(engine, path, version, batches.warm_up_sizes if batches else (1,))
                except BaseException:
                    engine.close()
                    raise
            return engine

        assert config.model_base_path is not None  # several models are not served yet
        return ModelVersions(
            config.model_name,
            config.model_base_path,
            load,
            poll_seconds=config.file_system_poll_wait_seconds,
            retry=RetryPolicy(config.max_num_load_retries, config.load_retry_interval_micros / 1e6),
            announce=announce,
        )


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


def quiet_tensorflow() -> None:
    """Keeps TensorFlow from filling the log with its start-up notes.

    Only what is about to import TensorFlow calls this; a level that the user set stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # google.api_core, about Python's age
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")


def _address(host: str, port: int) -> str:
    """Host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
