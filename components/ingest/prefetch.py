"""Reading ahead: the next item is made in a thread while this one is worked on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made while the one before is used; errors come in their place.

    It pays because Arrow and NumPy decode and copy outside of Python's lock.

    >>> list(prefetched(iter([1, 2, 3])))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = pool.submit(next, items, _END)
            yield item
