"""What a worker process runs: Beam's harness in a thread for each worker that is ordered."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker.channel_factory import GRPCChannelFactory
from apache_beam.runners.worker.sdk_worker import SdkHarness

from privet.pipeline.workers.processes import READY

_STATE_CACHE_BYTES = 100 << 20  # Beam's own default for a worker
_SECONDS_TO_HANG_UP = 5


class Connections(grpc.StreamStreamClientInterceptor):
    """The connections of harnesses, closed when no harness is left.

    Beam leaves them open for the end of the process. Here that does not come, and the runner, when
    a pipeline is done, would wait up to five seconds for each of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._channels: list[grpc.Channel] = []
        self._calls: list[Any] = []

    def open(self, target: str, options: Any = None) -> grpc.Channel:
        """GRPCChannelFactory.insecure_channel, remembered."""
        options = [*(options or ()), *GRPCChannelFactory.DEFAULT_OPTIONS]
        channel = grpc.insecure_channel(target, options=options)
        self._channels.append(channel)
        return grpc.intercept_channel(channel, self)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], details: Any, requests: Any
    ) -> Any:
        """Remembers the call."""
        call = continuation(details, requests)
        self._calls.append(call)
        return call

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """For the time of one harness."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            calls, channels = self._leave()
            for call in calls:  # first let both sides say good-bye, or each complains of the other
                with contextlib.suppress(grpc.FutureTimeoutError, grpc.FutureCancelledError):
                    call.exception(_SECONDS_TO_HANG_UP)
            for channel in channels:
                channel.close()

    def _leave(self) -> tuple[list[Any], list[grpc.Channel]]:
        with self._lock:
            self._users -= 1
            if self._users:
                return [], []
            left = self._calls, self._channels
            self._calls, self._channels = [], []
            return left


def take_orders() -> None:
    """Starts workers until the parent closes the pipe, or ends."""
    print(READY, flush=True)
    os.dup2(2, 1)  # what code of pipelines prints is for the log
    connections = Connections()
    GRPCChannelFactory.insecure_channel = staticmethod(connections.open)
    for order in sys.stdin:
        arguments = (connections, *json.loads(order))
        threading.Thread(target=_work, args=arguments, daemon=True).start()
    os._exit(0)  # without waiting for threads: nobody wants their results any more


def _work(
    connections: Connections, worker_id: str, control: str, options: Mapping[str, Any]
) -> None:
    """Works for one runner until it hangs up."""
    FileSystems.set_options(PipelineOptions.from_dictionary(dict(options)))
    with connections.used():
        SdkHarness(control, worker_id=worker_id, state_cache_size=_STATE_CACHE_BYTES).run()
