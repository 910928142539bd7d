"""The REST API's HTTP server: uvicorn in a thread of its own, over `front`."""

import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from privet.components.shared.errors import ServingError
from privet.serving.config import ServerConfig
from privet.serving.front import Front, Page
from privet.serving.metrics import Metrics
from privet.serving.models import Models
from privet.serving.rest import RestApi
from privet.serving.tls import TlsConfig


class RestServer:
    """Serves from its making until `join` returns."""

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        listener: socket.socket,
        config: ServerConfig,
        *,
        pages: Mapping[str, Page],
        token: bytes | None = None,
        tls: TlsConfig | None = None,
    ) -> None:
        """Starts to serve; returns when it answers.

        Args:
          models: what the API serves.
          metrics: where requests are counted.
          listener: a bound socket.
          config: the limits.
          pages: GET path -> what gives its page; for paths outside /v1/.
          token: what every request must bear; None for nothing.
          tls: the key and certificates; None for plain HTTP.

        Raises:
          ServingError: it ended at once.
        """
        self._pool = ThreadPoolExecutor(config.rest_api_num_threads, thread_name_prefix="rest")
        application: Any = Front(
            RestApi(models, metrics),
            self._pool,
            config,
            is_ready=lambda: True,
            pages=pages,
            token=token,
            count_response=metrics.responded,
        )
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
