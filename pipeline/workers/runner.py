"""Beam's local runner on processes that stay."""

import json
import threading
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    GrpcWorkerHandler,
    WorkerHandler,
)

from privet.components.shared.errors import PipelineError
from privet.pipeline.workers.processes import PROCESSES, Process

_ENVIRONMENT = "beam:env:privet_process:v1"
_SECONDS_TO_NOTICE = 0.5


class ProcessesRunner(FnApiRunner):
    """FnApiRunner in its `multi_processing` mode, but for the processes, which are ours."""

    def run_via_runner_api(self, pipeline_proto: Any, options: Any) -> Any:
        """Runs a pipeline.

        Raises:
          PipelineError: a worker process ended.
        """
        settings = json.dumps(options.get_all_options(drop_default=True))
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.urn, environment.payload = _ENVIRONMENT, settings.encode()
        PROCESSES.ensure(self._num_workers)
        try:
            return super().run_via_runner_api(pipeline_proto, options)
        except Exception:
            PROCESSES.check()  # all that Beam says of an ended process is that a channel closed
            raise


@WorkerHandler.register_environment(_ENVIRONMENT, bytes)
class _Handler(GrpcWorkerHandler):
    """A worker, as the runner sees it in one pipeline."""

    def __init__(self, settings: bytes, state: Any, provision_info: Any, grpc_server: Any):
        super().__init__(state, provision_info, grpc_server)
        self._settings = settings
        self._stopped = threading.Event()

    def start_worker(self) -> None:
        """Starts it."""
        options = json.loads(self._settings)
        process = PROCESSES.start_worker(self.worker_id, self.control_address, options)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def stop_worker(self) -> None:
        """The worker itself ends when its connection does."""
        self._stopped.set()

    def _watch(self, process: Process) -> None:
        """Ends the waiting for a process that is no more; Beam would wait for ever."""
        while not self._stopped.wait(_SECONDS_TO_NOTICE):
            if end := process.end():
                self.control_conn.abort(PipelineError(end))
