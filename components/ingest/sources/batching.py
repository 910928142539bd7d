"""Putting the rows of a source together into batches of bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from privet.components.ingest.batches import BATCH_BYTES, BATCH_ROWS

Item = TypeVar("Item")


def in_batches(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Lists of consecutive items: at most BATCH_ROWS of them and about BATCH_BYTES.

    What came before an error of `items` is given before the error goes on.

    Args:
      items: what to put together.
      size: bytes that an item takes in memory, about.

    >>> [len(batch) for batch in in_batches(range(20_000), size=lambda item: 28)]
    [8192, 8192, 3616]
    """
    iterator = iter(items)
    ended = False
    while not ended:
        batch: list[Item] = []
        total = 0
        error: Exception | None = None
        try:
            for item in iterator:
                batch.append(item)
                total += size(item)
                if len(batch) == BATCH_ROWS or total >= BATCH_BYTES:
                    break
            else:
                ended = True
        except Exception as failure:
            error = failure
        if batch:
            yield batch
        if error is not None:
            raise error


def size_of(value: object) -> int:
    """Bytes that a value takes in memory, about."""
    if isinstance(value, (bytes, bytearray, memoryview, str)):
        return 50 + len(value)
    if isinstance(value, (list, tuple)):
        return 50 + sum(map(size_of, value))
    return 50 + int(getattr(value, "nbytes", 0))
