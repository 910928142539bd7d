"""grpc.health.v1: what load balancers and Kubernetes ask, answered from the models' readiness."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

HEALTH_SERVICE = "grpc.health.v1.Health"

# The server as a whole, the services' full names, and the names that TF Serving registers.
_NAMES = frozenset(
    {
        "",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "PredictionService",
        "ModelService",
    }
)
_WATCH_SECONDS = 0.5
_MAXIMUM_WATCHERS = 100

_Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):
    """SERVING while every model can answer, and NOT_SERVING otherwise and from `stop` on.

    The package's own servicer has to be told of each change; this one looks when it is asked.
    """

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._stopping = asyncio.Event()
        self._watchers = 0

    def add_to(self, server: aio.Server) -> None:
        """Adds the service to a server that has not started."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def stop(self) -> None:
        """Answers NOT_SERVING from now on, and ends the streams, which a server would wait for."""
        self._stopping.set()

    async def Check(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        if request.service not in _NAMES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return _Response(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: Any, context: aio.ServicerContext
    ) -> AsyncIterator[Any]:
        if self._watchers >= _MAXIMUM_WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._watchers} clients watch already. Use Check.",
            )
        self._watchers += 1
        try:
            last = None
            while True:
                stopping = self._stopping.is_set()
                status = self._status(request.service)
                if status != last:
                    yield _Response(status=status)
                    last = status
                if stopping:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _WATCH_SECONDS)
        finally:
            self._watchers -= 1

    def _status(self, service: str) -> Any:
        """The status of one name."""
        if service not in _NAMES:
            return _Response.SERVICE_UNKNOWN
        if self._is_ready() and not self._stopping.is_set():
            return _Response.SERVING
        return _Response.NOT_SERVING
