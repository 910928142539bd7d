"""A running server: the models it has loaded, its REST API and its gRPC API, from start to stop."""

import contextlib
import ipaddress
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from privet.components.shared.errors import ServingError
from privet.serving import ports
from privet.serving.config import ServerConfig
from privet.serving.loading import serve_models
from privet.serving.metrics import Metrics
from privet.serving.models import Models
from privet.serving.monitoring import read_metrics_path
from privet.serving.tls import TlsConfig, read_tls
from privet.serving.tokens import read_token

if TYPE_CHECKING:
    from privet.serving.grpc_server import GrpcServer
    from privet.serving.rest_server import RestServer


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
        self._rest: RestServer | None = None
        self._grpc: GrpcServer | None = None
        token = read_token(config.auth_token_file) if config.auth_token_file else None
        metrics_path = read_metrics_path(config.monitoring_config_file)
        metrics = Metrics(is_read=metrics_path is not None)
        tls = read_tls(config.ssl_config_file) if config.ssl_config_file else None
        with contextlib.ExitStack() as stack:
            # Ports first: a port in use should not take as long to tell as TensorFlow to load.
            rest_socket = None
            if config.rest_api_port:
                rest_socket = ports.claim_port(config.host, config.rest_api_port, "--rest_api_port")
                stack.callback(rest_socket.close)
            if config.port:
                ports.check_port(config.host, config.port, "--port")
            models = stack.enter_context(serve_models(config, metrics, announce))
            self.models: Models = models
            stack.callback(self._drain)
            if config.port:
                from privet.serving import grpc_server, grpc_service  # import TensorFlow

                self._grpc = grpc_server.GrpcServer(
                    grpc_service.GrpcApi(
                        models, metrics, may_reload=knows_clients(config.host, token, tls)
                    ),
                    config,
                    is_ready=models.is_ready,
                    token=token,
                    tls=tls,
                )
            if rest_socket is not None:
                from privet.serving import pages, rest_server

                self._rest = rest_server.RestServer(
                    models,
                    rest_socket,
                    config,
                    pages=pages.make_pages(models, metrics, metrics_path),
                    open_pages=pages.make_open_pages(),
                    metrics=metrics,
                    token=token,
                    tls=tls,
                )
            self._stack = stack.pop_all()

    @property
    def rest_url(self) -> str | None:
        """The REST URL of the model, or of all; None if the REST API is off."""
        if not self.config.rest_api_port:
            return None
        address = _address(self.config.host, self.config.rest_api_port)
        scheme = "https" if self.config.ssl_config_file else "http"
        names = self.models.names()
        name = f"/{quote(names[0], safe='')}" if len(names) == 1 else ""
        return f"{scheme}://{address}/v1/models{name}"

    @property
    def grpc_address(self) -> str | None:
        """The gRPC address; None if the gRPC API is off."""
        return _address(self.config.host, self.config.port) if self.config.port else None

    def check(self) -> None:
        """Does nothing while the server runs.

        Raises:
          ServingError: one of the APIs has ended by itself.
        """
        for name, server in (("REST", self._rest), ("gRPC", self._grpc)):
            if server is not None and not server.is_alive():
                raise ServingError(
                    f"The {name} API has stopped by itself. Its error is in the log above; start "
                    "again."
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


def knows_clients(host: str, token: bytes | None, tls: TlsConfig | None) -> bool:
    """Whether clients have to show who they are, or are on this machine."""
    if token is not None or (tls is not None and tls.client_verify):
        return True
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # the name of a machine
        return False


def _address(host: str, port: int) -> str:
    """Host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
