"""Reading a store from end to end in pieces of bounded size."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData, ClientStore

BLOCK_BYTES = 8 << 20
"""Bytes of the values in a block, about."""

_ROW_OVERHEAD = 64  # bytes that a row costs besides its features, roughly


@dataclasses.dataclass(frozen=True)
class Block:
    """Some clients of a split, one after the other; a large client takes blocks of its own.

    Attributes:
      split: name of the split.
      client_ids: of the clients in the block.
      counts: int64 [clients]; rows of each.
      features: name -> array [rows, *shape].
      labels: array [rows].
    """

    split: str
    client_ids: tuple[str, ...]
    counts: np.ndarray
    features: dict[str, np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def row_ids(self) -> list[str]:
        """The client of each row."""
        return np.repeat(np.array(self.client_ids, object), self.counts).tolist()


def read_blocks(store: ClientStore, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """All examples of a split, client by client in the order of the store.

    Args:
      store: the split.
      block_bytes: a block holds about so much; more only if a single row does.
    """
    most = max(1, block_bytes // _row_bytes(store.schema))
    held: list[ClientData] = []
    rows = 0
    for client in store.read_many(store):
        if held and rows + len(client) > most:
            yield _block(store.split, held)
            held, rows = [], 0
        if len(client) > most:
            for start in range(0, len(client), most):
                yield _block(store.split, [_part(client, start, start + most)])
        elif len(client):
            held.append(client)
            rows += len(client)
    if held:
        yield _block(store.split, held)


def _row_bytes(schema: Schema) -> int:
    features = schema.features.values()
    values = sum(np.dtype(one.dtype).itemsize * math.prod(one.example_shape) for one in features)
    return values + _ROW_OVERHEAD


def _part(client: ClientData, start: int, stop: int) -> ClientData:
    features = {name: values[start:stop] for name, values in client.features.items()}
    return ClientData(client.client_id, features, client.labels[start:stop])


def _block(split: str, clients: Sequence[ClientData]) -> Block:
    return Block(
        split=split,
        client_ids=tuple(client.client_id for client in clients),
        counts=np.array([len(client) for client in clients]),
        features={
            name: np.concatenate([client.features[name] for client in clients])
            for name in clients[0].features
        },
        labels=np.concatenate([client.labels for client in clients]),
    )
