"""Processes in which Beam's workers run, as their parent sees them."""

import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privet.components.shared.errors import PipelineError

READY = "ready"
"""What a process says when it can take orders."""

_SECONDS_TO_END = 10


class Process:
    """A process that runs Beam's workers as threads, until its parent ends or closes it.

    It takes its orders from a pipe, so nobody else can give it any, and lives as long as the pipe:
    it ends with its parent, however that ends.
    """

    def __init__(self) -> None:
        level = max(logging.WARNING, logging.getLogger().getEffectiveLevel())
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "privet.pipeline.workers", str(level)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            },
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def wait_until_ready(self) -> None:
        """Waits for its imports.

        Raises:
          PipelineError: it ended instead.
        """
        if self._answers.readline().strip() != READY:
            self.close()
            raise PipelineError(f"{self.end()} before it could work")

    def start_worker(self, worker_id: str, control: str, options: Mapping[str, Any]) -> None:
        """Starts one of Beam's workers.

        Args:
          worker_id: its name.
          control: address of the runner.
          options: Beam's options, for the filesystems.

        Raises:
          PipelineError: the process has ended.
        """
        try:
            print(json.dumps([worker_id, control, options]), file=self._orders, flush=True)
        except BrokenPipeError as error:
            raise PipelineError(self.end() or "a worker process of Beam took no order") from error

    def end(self) -> str | None:
        """How the process ended; None if it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"a worker process of Beam ended with exit code {code}; run.log has what it said"
        name = signal.Signals(-code).name
        memory = ". Was it out of memory? Lower beam.workers" if name == "SIGKILL" else ""
        return f"a worker process of Beam was killed by {name}{memory}"

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()


class Processes:
    """Processes that take turns in running Beam's workers."""

    def __init__(self) -> None:
        self._running: list[Process] = []
        self._turn = 0
        self._lock = threading.Lock()

    def ensure(self, count: int) -> None:
        """Starts what is missing of so many processes.

        Raises:
          PipelineError: one does not start.
        """
        with self._lock:
            self._running = [process for process in self._running if process.end() is None]
            started = [Process() for _ in range(count - len(self._running))]
            self._running += started
            for process in started:
                process.wait_until_ready()

    def start_worker(self, worker_id: str, control: str, options: Mapping[str, Any]) -> Process:
        """Starts one of Beam's workers in the process whose turn it is; see Process."""
        with self._lock:
            process = self._running[self._turn % len(self._running)]
            self._turn += 1
        process.start_worker(worker_id, control, options)
        return process

    def check(self) -> None:
        """Raises a PipelineError if a process has ended."""
        for process in self._running:
            if end := process.end():
                raise PipelineError(end)

    def close(self) -> None:
        """Ends all processes."""
        with self._lock:
            for process in self._running:
                process.close()
            self._running = []


PROCESSES = Processes()
"""Those of this process. Beam makes a new runner for each pipeline, so none of them owns any."""

atexit.register(PROCESSES.close)
