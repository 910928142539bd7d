"""The index of a shard: client id -> offset, length and number of examples, sorted by client id.

A NumPy array file (.npy). Its head tells the number of clients; on a local disk the rest is
memory-mapped, so that nothing is read before it is needed.
"""

import re
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from privet.components.shared import files
from privet.components.shared.errors import StoreError

_VERSION = (1, 0)  # of the .npy format
_HEAD = re.compile(
    rb"\{'descr': \[\('client_id', '\|S(?P<width>\d+)'\), \('offset', '<i8'\), "
    rb"\('length', '<i8'\), \('examples', '<i8'\)\], "
    rb"'fortran_order': False, 'shape': \((?P<clients>\d+),\), \} *\n"
)


def build_index(
    keys: Sequence[bytes],
    offsets: Sequence[int],
    lengths: Sequence[int],
    examples: Sequence[int],
) -> np.ndarray:
    """The sorted index.

    Args:
      keys: client ids, in UTF-8.
      offsets, lengths, examples: see ClientReference; as many as keys.

    Returns:
      A structured array [clients] with client_id, offset, length and examples.

    Raises:
      StoreError: a key occurs twice.
    """
    ids = np.array(keys, f"S{max(map(len, keys), default=1)}")
    order = np.argsort(ids, kind="stable")
    numbers = {"offset": offsets, "length": lengths, "examples": examples}
    index = np.empty(len(ids), _dtype(ids.dtype.itemsize))
    index["client_id"] = ids[order]
    for name, values in numbers.items():
        index[name] = np.asarray(values, np.int64)[order]
    if np.any(index["client_id"][1:] == index["client_id"][:-1]):
        raise StoreError(
            "a client was written to a shard twice. Merge the examples of a client before they "
            "are written."
        )
    return index


def write_index(path: str, index: np.ndarray) -> None:
    """Writes an index file."""
    with files.open_write(path) as file:
        np.lib.format.write_array(file, index, version=_VERSION, allow_pickle=False)


def read_count(path: str) -> int:
    """The number of clients in an index file; reads its head only.

    Raises:
      StoreError: it is no index file.
    """
    with files.open_read(path) as file:
        return _read_head(file, path)[1]


def load_index(path: str) -> np.ndarray:
    """The index in a file, memory-mapped where that is possible.

    Raises:
      StoreError: part of it is missing.
    """
    with files.open_read(path) as file:
        dtype, clients = _read_head(file, path)
        try:
            if files.is_local(path) and clients:
                mapped = np.memmap(path, dtype, "r", offset=file.tell(), shape=(clients,))
                return np.asarray(mapped)  # without np.memmap's class it answers 3 times as fast
            return np.frombuffer(file.read(clients * dtype.itemsize), dtype, clients)
        except ValueError as error:
            raise StoreError(f"{path} is no whole index. Ingest the data again.") from error


def _dtype(width: int) -> np.dtype:
    numbers = [(name, "<i8") for name in ("offset", "length", "examples")]
    return np.dtype([("client_id", f"S{width}"), *numbers])


def _read_head(file: BinaryIO, path: str) -> tuple[np.dtype, int]:
    """Dtype and length of the array that follows.

    NumPy's own reader parses the head with `ast`, which fails now and then where several threads
    do so at once (Python's issue 106905), as those that read clients and those that trace models.
    """
    try:
        if np.lib.format.read_magic(file) != _VERSION:
            raise ValueError("another version")
        size = int.from_bytes(file.read(2), "little")
        head = _HEAD.fullmatch(file.read(size))
    except ValueError as error:
        raise StoreError(f"{path} is no index. Ingest the data again.") from error
    if not head:
        raise StoreError(f"{path} is no index. Ingest the data again.")
    return _dtype(int(head["width"])), int(head["clients"])


def find_client(index: np.ndarray, key: bytes) -> int | None:
    """The position of a key, by binary search; None if it is not there."""
    ids = index["client_id"]
    if len(key) > ids.dtype.itemsize:
        return None
    wanted = np.array(key, ids.dtype)  # of another type, the search would copy the whole column
    position = int(np.searchsorted(ids, wanted))
    return position if position < len(ids) and ids[position] == key else None
