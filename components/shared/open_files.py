"""Files kept open between reads, since opening one costs more than reading a client from it."""

import collections
import os
import threading
import weakref
from typing import BinaryIO

from privet.components.shared import files


class OpenFiles:
    """Reads parts of files and keeps the last ones open. Any number of threads may read.

    Args:
      limit: how many files to keep open; the one used longest ago is closed first.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._open: collections.OrderedDict[str, BinaryIO] = collections.OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def __len__(self) -> int:
        """Number of files that are open."""
        return len(self._open)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Part of a file; shorter if the file ends before.

        Raises:
          StoreError: the file cannot be opened or read.
        """
        with self._lock:
            file = self._open.pop(path, None) or files.open_read(path)
            self._open[path] = file  # the last in order is the one used last
            while len(self._open) > self._limit:
                self._open.popitem(last=False)[1].close()
            if files.is_local(path):
                return os.pread(file.fileno(), size, offset)
            file.seek(offset)
            return file.read(size)

    def close(self) -> None:
        """Closes all files; reading again opens them again."""
        with self._lock:
            _close_all(self._open)


def _close_all(opened: collections.OrderedDict[str, BinaryIO]) -> None:
    while opened:
        opened.popitem()[1].close()
