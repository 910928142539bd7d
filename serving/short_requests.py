"""Which requests are known to be short, and so may run in an event loop.

A hop to another thread and back costs more than a small model's answer. All requests that are not
known to be short run in a pool, so that short ones do not wait behind them.
"""

import time
from collections.abc import Hashable

LONGEST_BYTES = 64 * 1024
"""A request of more bytes is not short, whatever its kind."""

_LONGEST_SECONDS = 0.001
_MOST_KINDS = 256  # clients name them


class ShortRequests:
    """How long requests of each kind took the last time.

    Seconds are those of the thread's own work. By the clock on the wall one delay would send a kind
    to the pool, where its requests wait for each other, look long and stay.
    """

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def __contains__(self, kind: Hashable) -> bool:
        """Whether requests of this kind are short."""
        return self._seconds.get(kind, _LONGEST_SECONDS) < _LONGEST_SECONDS

    def note(self, kind: Hashable, started: float) -> None:
        """Notes a request that was answered.

        Args:
          kind: of the request.
          started: this thread's time (`time.thread_time`) when it began.
        """
        if len(self._seconds) >= _MOST_KINDS:
            self._seconds.clear()
        self._seconds[kind] = time.thread_time() - started

    def note_error(self, kind: Hashable, started: float) -> None:
        """Notes a request that was refused; arguments as of `note`.

        To find an error may take long too. A quick one tells nothing of those that run.
        """
        if time.thread_time() - started >= _LONGEST_SECONDS:
            self.forget(kind)

    def forget(self, kind: Hashable) -> None:
        """Takes a kind for long from now on: it may wait for others."""
        self._seconds.pop(kind, None)
