"""Points of a sweep at the same time, each in a process that stays warm for the next one."""

import collections
import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from privet.components.shared.errors import PipelineError
from privet.pipeline.point import Order, failed

_BYTES_OF_PROCESS = 1_500_000_000  # with TensorFlow and a model that fits a client
_SECONDS_TO_END = 20

Event = tuple[int, dict[str, Any] | None]
"""Number of a point, and its outcome, or None when it starts."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def default_workers() -> int:
    """One for each core, if the memory that is left is enough."""
    return max(1, min(cores(), psutil.virtual_memory().available // _BYTES_OF_PROCESS))


def run_in_processes(orders: Sequence[Order], workers: int, log: Path) -> Iterator[Event]:
    """Runs points side by side.

    A process that dies takes its point with it, and no other.

    Args:
      orders: the points.
      workers: how many run at a time; each computes on its share of the cores.
      log: what the processes say while they run no point is appended to it.

    Yields:
      That a point starts, and that it has ended, as it happens. However the iteration ends, all
      processes have ended then.
    """
    crew = _Crew(orders, workers, log)
    try:
        yield from crew.events()
    finally:
        crew.close()


class _Process:
    """A process that runs one point after the other, in a process group of its own."""

    def __init__(self, threads: int, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "privet.pipeline.point_worker", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # Ctrl-C is for the parent, which then ends the group.
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        self._log = log
        self._closed = False

    def run(self, order: Order) -> dict[str, Any]:
        """Runs a point.

        Raises:
          PipelineError: the process has ended instead.
        """
        answer = ""
        with contextlib.suppress(OSError, ValueError):  # it has ended: the pipe is closed
            print(json.dumps(order.to_plain()), file=self._orders, flush=True)
            answer = self._answers.readline()
        if not answer.endswith("\n"):
            self.close()
            raise PipelineError(self._end(order))
        return json.loads(answer)

    def dismiss(self) -> None:
        """Tells the process to end."""
        with contextlib.suppress(OSError):
            self._orders.close()

    def close(self) -> None:
        """Ends the process, and what it has started."""
        if self._closed:  # its number may be another's by now
            return
        self._closed = True
        self.dismiss()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            logging.getLogger(__name__).debug("%d is killed", self._process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _end(self, order: Order) -> str:
        code = self._process.returncode
        if code >= 0:
            how = f"ended with exit code {code}"
        else:
            name = signal.Signals(-code).name
            memory = ". Was it out of memory? Lower --workers" if name == "SIGKILL" else ""
            how = f"was killed by {name}{memory}"
        return f"the process that ran it {how} (see {order.workdir.log} and {self._log})"


class _Crew:
    """Threads that each order points from a process of their own."""

    def __init__(self, orders: Sequence[Order], workers: int, log: Path) -> None:
        self._orders, self._log = orders, log
        self._left = collections.deque(range(len(orders)))
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._threads_each = max(1, cores() // workers)
        self._lock = threading.Lock()
        self._closed = False
        self._processes: list[_Process] = []
        self._hands = [
            threading.Thread(target=self._work, daemon=True)
            for _ in range(min(workers, len(orders)))
        ]

    def events(self) -> Iterator[Event]:
        for hand in self._hands:
            hand.start()
        ended = 0
        while ended < len(self._orders):
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            ended += event[1] is not None
            yield event

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for process in self._processes:
            process.dismiss()
        for process in self._processes:
            process.close()
        for hand in self._hands:
            if hand.ident is not None:
                hand.join()

    def _work(self) -> None:
        try:
            process = None
            while (number := self._next()) is not None:
                process = process or self._start()
                if process is None:
                    return
                self._events.put((number, None))
                try:
                    outcome = process.run(self._orders[number])
                except PipelineError as error:
                    process, outcome = None, failed(str(error))
                self._events.put((number, outcome))
        except BaseException as error:
            self._events.put(error)

    def _next(self) -> int | None:
        with self._lock:
            return None if self._closed or not self._left else self._left.popleft()

    def _start(self) -> _Process | None:
        """A new process; None if all is to end."""
        with self._lock:
            if self._closed:
                return None
            process = _Process(self._threads_each, self._log)
            self._processes.append(process)
            return process
