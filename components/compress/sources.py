"""What variants are made of: the trained model, and examples to measure its activations on."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from privet.components.shared import storage
from privet.components.shared.errors import DataError
from privet.components.shared.schema import Schema
from privet.components.shared.storage import SPLITS, ClientData, ClientStore


@dataclasses.dataclass(frozen=True)
class Sources:
    """What variants are made of.

    Attributes:
      model: folder of the FederatedModel.
      schema: of one example.
      public: folder of the public ClientExamples, if there are any.
      clients: folder of the clients' ClientExamples, in a run without privacy only.
      seed: of synthetic inputs and fine-tuning.
    """

    model: str
    schema: Schema
    public: str | None = None
    clients: str | None = None
    seed: int = 0


class Examples(NamedTuple):
    """Examples of a client store, whoever's they are.

    Attributes:
      features: by name, [examples, *shape].
      labels: [examples].
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray


def read_examples(folder: str, limit: int, splits: Iterable[str] = SPLITS) -> Examples:
    """The first examples of a client store, as many of each client as of any other where possible.

    Args:
      folder: of a ClientExamples artifact.
      limit: how many at most.
      splits: to read, those that are there.

    Raises:
      DataError: there is none.
    """
    clients = list(_some_clients(folder, splits, limit))
    each = _shares([len(client) for client in clients], limit)
    taken = [(client, count) for client, count in zip(clients, each, strict=True) if count]
    if not taken:
        raise DataError(
            f"{folder} holds no example to measure activations on. Check public_data.files."
        )
    names = taken[0][0].features
    return Examples(
        {name: np.concatenate([c.features[name][:count] for c, count in taken]) for name in names},
        np.concatenate([client.labels[:count] for client, count in taken]),
    )


def _some_clients(folder: str, splits: Iterable[str], limit: int) -> Iterator[ClientData]:
    """As many clients as examples are wanted, at most; all are read at once."""
    left = limit
    for split in splits:
        if left and storage.has_split(folder, split):
            with ClientStore(folder, split) as store:
                references = store[:left]
                left -= len(references)
                yield from store.read_many(references)


def _shares(sizes: list[int], limit: int) -> list[int]:
    """How many examples to take of each, as equal as their sizes allow.

    >>> _shares([5, 1, 5], 7), _shares([2, 2], 10)
    ([3, 1, 3], [2, 2])
    """
    shares = [0] * len(sizes)
    left, order = limit, sorted(range(len(sizes)), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        shares[place] = min(sizes[place], left // (len(order) - done))
        left -= shares[place]
    return shares
