"""Reading ahead: the next item is made in a thread while this one is worked on."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def prefetched(items: Iterator[Item], pool: ThreadPoolExecutor | None = None) -> Iterator[Item]:
    """The items, each made while the one before is used; errors come in their place.

    The first one is begun at once, not when it is asked for. It pays because Arrow, NumPy and
    TensorFlow decode, copy and compute outside of Python's lock.

    Args:
      items: what is to be made.
      pool: of the thread that makes them, for who prefetches so often that starting one each time
        would take long; by default one of its own.

    >>> list(prefetched(iter([1, 2, 3])))
    [1, 2, 3]
    """
    own = None if pool else ThreadPoolExecutor(max_workers=1)
    pool = pool or own
    assert pool is not None
    return _following(items, pool, pool.submit(next, items, _END), own or nullcontext())


def _following(
    items: Iterator[Item],
    pool: ThreadPoolExecutor,
    following: Future[Item],
    lifetime: AbstractContextManager[Any],
) -> Iterator[Item]:
    with lifetime:
        while (item := following.result()) is not _END:
            following = pool.submit(next, items, _END)
            yield item
