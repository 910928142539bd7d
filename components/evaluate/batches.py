"""Whole clients side by side, so that a model is called once for many of them."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from privet.components.shared.storage import ClientData

BATCH_EXAMPLES = 4096
"""A batch ends with the client that brings it to so many examples."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples of whole clients.

    Attributes:
      client_ids: of the clients.
      sizes: int64 [clients], number of examples of each.
      features: name -> [examples, *shape], client after client.
      labels: [examples].
    """

    client_ids: Sequence[str]
    sizes: np.ndarray
    features: Mapping[str, np.ndarray]
    labels: np.ndarray

    @property
    def owners(self) -> np.ndarray:
        """int64 [examples]: the position of the example's client."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def parts(self) -> Iterator[slice]:
        """The examples of each client."""
        ends = np.cumsum(self.sizes).tolist()
        return (slice(start, end) for start, end in zip([0, *ends], ends, strict=False))


def batch_of(clients: Sequence[ClientData]) -> Batch:
    """The clients as one batch."""
    names = clients[0].features
    return Batch(
        [client.client_id for client in clients],
        np.array([len(client) for client in clients]),
        {name: np.concatenate([client.features[name] for client in clients]) for name in names},
        np.concatenate([client.labels for client in clients]),
    )


def batches_of(
    clients: Iterable[ClientData], examples: int = BATCH_EXAMPLES
) -> Iterator[list[ClientData]]:
    """Clients in lists of so many examples, or with one client more; those without are left out."""
    found: list[ClientData] = []
    count = 0
    for client in clients:
        if not len(client):
            continue
        found.append(client)
        count += len(client)
        if count >= examples:
            yield found
            found, count = [], 0
    if found:
        yield found
