"""A pool of worker processes for runners elsewhere: Beam calls it an EXTERNAL environment."""

from concurrent import futures
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from privet.components.shared.errors import ConfigError, PipelineError
from privet.pipeline.workers.processes import PROCESSES


class _Door(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a worker for whoever asks."""

    def __init__(self, count: int):
        self._count = count

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        """Starts a worker in the process whose turn it is."""
        del context
        try:
            PROCESSES.ensure(self._count)
            PROCESSES.start_worker(request.worker_id, request.control_endpoint.url, {})
        except PipelineError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        """The worker itself ends when the runner hangs up."""
        del request, context
        return beam_fn_api_pb2.StopWorkerResponse()


def start_pool(address: str, count: int) -> tuple[grpc.Server, int]:
    """Opens worker processes to runners elsewhere.

    Workers run whatever code a pipeline sends them, and nothing asks who sends it: an address that
    others can reach must be on a network that only the runner's machines are on.

    Args:
      address: host:port to listen on; port 0 for a free one.
      count: of processes.

    Returns:
      The server, which has started, and its port.

    Raises:
      ConfigError: nobody can listen there, or there is no process.
      PipelineError: a process does not start.
    """
    if count < 1:
        raise ConfigError(f"--processes {count} must be >= 1")
    PROCESSES.ensure(count)
    server = grpc.server(futures.ThreadPoolExecutor(count))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(_Door(count), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(
            f"--address {address} cannot be listened on. Wanted host:port, with a port that is "
            "free and a host of this machine (0.0.0.0 for all of its networks)."
        ) from error
    server.start()
    return server, port
