"""A running server: the models it has loaded, its REST API and its gRPC API, from start to stop."""

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from privet.components.shared.errors import ServingError
from privet.serving import ports
from privet.serving.config import ServerConfig
from privet.serving.engine import Engine, load_engine
from privet.serving.metrics import Metrics
from privet.serving.models import Models
from privet.serving.monitoring import read_metrics_path
from privet.serving.tls import read_tls
from privet.serving.tokens import read_token
from privet.serving.versions import ModelVersions, RetryPolicy, Servable

if TYPE_CHECKING:
    from privet.serving.grpc_service import GrpcServer
    from privet.serving.rest_server import RestServer


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
          ConfigError: the token, the TLS or the monitoring configuration cannot be read.
          ServingError: a port is in use, or no version can be loaded.
        """
        self.config = config
        self._rest: RestServer | None = None
        self._grpc: GrpcServer | None = None
        token = read_token(config.auth_token_file) if config.auth_token_file else None
        metrics = Metrics()
        metrics_path = read_metrics_path(config.monitoring_config_file)
        tls = read_tls(config.ssl_config_file) if config.ssl_config_file else None
        with contextlib.ExitStack() as stack:
            # Ports first: a port in use should not take as long to tell as TensorFlow to load.
            rest_socket = None
            if config.rest_api_port:
                rest_socket = ports.claim_port(config.host, config.rest_api_port, "--rest_api_port")
                stack.callback(rest_socket.close)
            if config.port:
                ports.check_port(config.host, config.port, "--port")
            versions = self._versions(metrics, announce)
            stack.callback(versions.stop)
            self.servable: Servable = versions.start()
            models = Models({config.model_name: versions})
            stack.callback(self._drain)
            if config.port:
                from privet.serving import grpc_service  # imports TensorFlow

                self._grpc = grpc_service.GrpcServer(
                    models, metrics, config.host, config.port, config.grpc_max_threads
                )
            if rest_socket is not None:
                from privet.serving import pages, rest_server

                self._rest = rest_server.RestServer(
                    models,
                    metrics,
                    rest_socket,
                    config,
                    pages=pages.make_pages(models, metrics, metrics_path),
                    token=token,
                    tls=tls,
                )
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

    def _versions(self, metrics: Metrics, announce: Callable[[str], None]) -> ModelVersions:
        """The versions of the model, not started."""
        config = self.config

        def load(path: Path, version: int) -> Engine:
            quiet_tensorflow()
            with metrics.loading(path):
                engine = load_engine(path, config.prefer_tflite_model)
            if config.enable_model_warmup:
                from privet.serving.warmup import warm_up

                try:
                    metrics.warming_up(path, lambda: warm_up(engine, path, version))
                except BaseException:
                    engine.close()
                    raise
            return metrics.observe(engine, config.model_name, version)

        assert config.model_base_path is not None  # several models are not served yet
        return ModelVersions(
            config.model_name,
            config.model_base_path,
            load,
            poll_seconds=config.file_system_poll_wait_seconds,
            retry=RetryPolicy(config.max_num_load_retries, config.load_retry_interval_micros / 1e6),
            announce=announce,
        )


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
