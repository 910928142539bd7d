"""Reading cohorts: clients that come again are kept decoded, up to a bound."""

import threading
from collections.abc import Iterable, Iterator

from privet.components.shared.storage import ClientData, ClientStore

_KEPT_BYTES = 256 << 20
_OVERHEAD = 1024  # of a client's objects, beside its values


class CohortReader:
    """Reads clients by position.

    Clients are kept as they come until `kept_bytes` are full, and never given up: of a population
    that fits nothing is read twice, and of a larger one not the part that fits. (The most recently
    read ones would be gone before they are drawn again.)
    """

    def __init__(self, store: ClientStore, kept_bytes: int = _KEPT_BYTES):
        self.schema = store.schema
        self._store = store
        self._room = kept_bytes
        self._kept: dict[int, ClientData] = {}
        self._lock = threading.Lock()

    def read(self, positions: Iterable[int]) -> Iterator[ClientData]:
        """The clients at the positions, in their order."""
        for position in positions:
            client = self._kept.get(position)
            if client is None:
                client = self._store.read(self._store[position])
                self._keep(position, client)
            yield client

    def _keep(self, position: int, client: ClientData) -> None:
        values = client.labels.nbytes + sum(one.nbytes for one in client.features.values())
        size = values + _OVERHEAD
        with self._lock:  # the next cohort is read while this one still is
            if size <= self._room and position not in self._kept:
                self._room -= size
                self._kept[position] = client
