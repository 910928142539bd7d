"""Reading ahead: the next item is made in a thread while this one is worked on."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made while the one before is used; errors come in their place.

    The first one is begun at once, not when it is asked for. It pays because Arrow, NumPy and
    TensorFlow decode, copy and compute outside of Python's lock.

    >>> list(prefetched(iter([1, 2, 3])))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(max_workers=1)
    return _following(items, pool, pool.submit(next, items, _END))


def _following(
    items: Iterator[Item], pool: ThreadPoolExecutor, following: Future[Item]
) -> Iterator[Item]:
    with pool:
        while (item := following.result()) is not _END:
            following = pool.submit(next, items, _END)
            yield item
