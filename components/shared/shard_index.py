"""The index of a shard: client id -> offset, length and number of examples, sorted by client id.

A NumPy array file (.npy). Its head tells the number of clients; on a local disk the rest is
memory-mapped, so that nothing is read before it is needed.
"""

from collections.abc import Sequence

import numpy as np

from privet.components.shared import files
from privet.components.shared.errors import StoreError

_VERSION = (1, 0)  # of the .npy format


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
    index = np.empty(len(ids), [("client_id", ids.dtype), *((name, "<i8") for name in numbers)])
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
        try:
            if np.lib.format.read_magic(file) != _VERSION:
                raise ValueError("another version")
            ((clients,), _, _) = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise StoreError(f"{path} is no index. Ingest the data again.") from error
    return int(clients)


def load_index(path: str) -> np.ndarray:
    """The index in a file, memory-mapped where that is possible.

    Raises:
      StoreError: part of it is missing.
    """
    try:
        if files.is_local(path):
            # (The view without np.memmap's own class answers three times as fast.)
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        with files.open_read(path) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise StoreError(f"{path} is no whole index. Ingest the data again.") from error


def find_client(index: np.ndarray, key: bytes) -> int | None:
    """The position of a key, by binary search; None if it is not there."""
    ids = index["client_id"]
    if len(key) > ids.dtype.itemsize:
        return None
    wanted = np.array(key, ids.dtype)  # of another type, the search would copy the whole column
    position = int(np.searchsorted(ids, wanted))
    return position if position < len(ids) and ids[position] == key else None
