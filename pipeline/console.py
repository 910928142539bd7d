"""Keeping the terminal quiet: libraries write to the run's log, people see the progress."""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging as absl_logging

_NODE = re.compile(r"^Component (?P<node>\S+) is (?P<what>running|finished)\.$")


@contextlib.contextmanager
def redirect_noise(log: Path) -> Iterator[None]:
    """Sends everything that libraries say to a file, until the end of the block.

    Python's logging and warnings go there through a handler, and so does what C++ code writes
    to file descriptor 2 (TensorFlow and TFLite announce themselves there, and no setting stops
    them all). `sys.stderr` keeps leading to the terminal, for our own progress and messages.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    root, absl = logging.getLogger(), logging.getLogger("absl")
    before = (root.handlers[:], root.level, absl.handlers[:], absl.propagate)
    verbosity = absl_logging.get_verbosity()
    with log.open("w", encoding="utf-8") as file, _redirected_descriptor(file.fileno()):
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.handlers, absl.handlers, absl.propagate = [handler], [], True
        root.setLevel(logging.INFO)
        # Through absl, not setLevel: TFX parses absl's flags before a Beam step, and absl then
        # sets the level again to what it believes is wanted.
        absl_logging.set_verbosity(absl_logging.INFO)
        logging.captureWarnings(True)
        try:
            with warnings.catch_warnings():
                yield
        finally:
            logging.captureWarnings(False)
            root.handlers, level, absl.handlers, absl.propagate = before
            root.setLevel(level)
            absl_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _redirected_descriptor(target: int) -> Iterator[None]:
    """File descriptor 2 leads to `target`; sys.stderr to where it led before."""
    sys.stderr.flush()
    terminal = os.dup(2)
    python_stderr = sys.stderr
    with os.fdopen(terminal, "w", buffering=1, encoding="utf-8") as stream:
        try:
            if python_stderr is sys.__stderr__:  # else a test or notebook has its own already
                sys.stderr = stream
            os.dup2(target, 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            sys.stderr = python_stderr


class NodeWatcher(logging.Handler):
    """Learns from TFX's own log which node is running, and collects its errors.

    Args:
      finished: is told the name of a node that has finished.
      started: is told the name of a node that starts.
    """

    def __init__(self, started: Callable[[str], None], finished: Callable[[str], None]):
        super().__init__(logging.INFO)
        self._started, self._finished = started, finished
        self.current: str | None = None
        self.errors: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Handles one record of the `absl` logger."""
        message = record.getMessage()
        match = _NODE.match(message)
        if match and match["what"] == "running":
            self.current = match["node"]
            self._started(match["node"])
        elif match:
            self._finished(match["node"])
            self.current = None
        elif record.levelno >= logging.ERROR and self.current:
            self.errors.setdefault(self.current, []).append(message)
