"""Blocks: the clients that one call of a compiled program trains, as a few dense arrays."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData
from privet.components.train.client_order import client_seeds, training_orders
from privet.components.train.config import TrainConfig

_BLOCK_BYTES = 32 << 20
_BLOCK_CLIENTS = 512
_ORDER_BYTES = 64  # that finding the place of an example in an epoch takes
_LEAST_CAPACITY = 16


@dataclasses.dataclass(frozen=True)
class Block:
    """Clients, one after the other, and the batches on which they train.

    Every row of `order` names examples of one client only: where a batch is not full, the rest
    repeats an example of the same client (which the mask leaves out). No client's numbers thus
    come near the arithmetic of another one, finite or not.

    Attributes:
      features: by name, [examples, ...].
      labels: [examples, 1].
      order: int32 [batches, batch size], the examples of each batch.
      sizes: int32 [batches], how many of them count.
      steps: int32 [clients], how many of the batches are each client's.
      clients: how many clients there are; more rows of `steps` are padding.
      seeds: int32 [clients, 2], of what a client draws at random in the round.
      states: float32 [clients, weights], what clients keep from round to round; else
        [clients, 0].
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    order: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray
    clients: int
    seeds: np.ndarray
    states: np.ndarray

    def arrays(self) -> tuple[np.ndarray, ...]:
        """What a program is fed, features by name."""
        features = [self.features[name] for name in sorted(self.features)]
        count = np.array(self.clients, np.int32)
        mine = (count, self.seeds, self.states)
        return (*features, self.labels, self.order, self.sizes, self.steps, *mine)

    def padded(self, *, rows: bool = False) -> "Block":
        """The same block in arrays of one of few sizes, as programs of fixed shapes want it.

        Args:
          rows: whether the program has a row of numbers for each client, which makes `states` worth
            a size of their own.
        """
        capacity = _capacity(max(len(self.order), self.clients))
        examples = _capacity(len(self.labels))
        return Block(
            features={name: _pad(values, examples) for name, values in self.features.items()},
            labels=_pad(self.labels, examples),
            order=_pad(self.order, capacity),
            sizes=_pad(self.sizes, capacity),
            steps=_pad(self.steps, capacity),
            clients=self.clients,
            seeds=_pad(self.seeds, capacity),
            states=_pad(self.states, _capacity(self.clients) if rows else capacity),
        )

    def head(self, batches: int) -> "Block":
        """The first clients of the block, with so many batches at most."""
        ends = np.cumsum(self.steps)
        clients = min(self.clients, int(np.searchsorted(ends, batches)) + 1)
        steps = self.steps[:clients].copy()
        steps[-1] -= max(0, int(ends[clients - 1]) - batches)
        order = self.order[: int(steps.sum())]
        examples = int(order.max(initial=-1)) + 1
        return Block(
            features={name: values[:examples] for name, values in self.features.items()},
            labels=self.labels[:examples],
            order=order,
            sizes=self.sizes[: len(order)],
            steps=steps,
            clients=clients,
            seeds=self.seeds[:clients],
            states=self.states[:clients],
        )


def pack(
    clients: Sequence[ClientData],
    schema: Schema,
    config: TrainConfig,
    *,
    seed: int,
    round_number: int,
) -> Block:
    """Packs clients into a block.

    Args:
      clients: at least one; some may have no example.
      schema: of their examples.
      config: local epochs, batch size.
      seed: of the order of examples.
      round_number: also of their order.
    """
    batch_size, epochs = config.batch_size, config.local_epochs
    order = training_orders(clients, seed=seed, round_number=round_number, epochs=epochs)
    examples = np.array([len(client) for client in clients])
    firsts = np.cumsum(examples) - examples
    trained = examples * epochs
    if config.max_steps is not None:
        every, limit = trained, config.max_steps * batch_size
        trained = np.minimum(every, limit)
        place = np.arange(len(order)) - np.repeat(np.cumsum(every) - every, every)
        order = order[place < limit]
    steps = -(-trained // batch_size)
    room = steps * batch_size
    slots = np.repeat(firsts, room)  # padding: the client's first example
    offset = np.repeat(np.cumsum(room) - room - (np.cumsum(trained) - trained), trained)
    slots[np.arange(len(order)) + offset] = order + np.repeat(firsts, trained)
    sizes = np.full(int(steps.sum()), batch_size)
    last = np.cumsum(steps)[steps > 0] - 1
    sizes[last] -= (room - trained)[steps > 0]
    features = {
        name: np.concatenate([client.features[name] for client in clients])
        for name in schema.features
    }
    labels = np.concatenate([client.labels for client in clients])[:, None]
    return Block(
        features=features,
        labels=labels.astype(np.int64 if schema.task == "multiclass" else np.float32),
        order=slots.reshape(-1, batch_size).astype(np.int32),
        sizes=sizes.astype(np.int32),
        steps=steps.astype(np.int32),
        clients=len(clients),
        seeds=client_seeds(clients, seed=seed, round_number=round_number),
        states=np.zeros((len(clients), 0), np.float32),
    )


def read_blocks(
    clients: Iterable[ClientData],
    schema: Schema,
    config: TrainConfig,
    *,
    seed: int,
    round_number: int,
    row_bytes: int = 0,
) -> Iterator[Block]:
    """A cohort as blocks of bounded size, so that memory does not grow with it; see `pack`.

    Args:
      row_bytes: what a client takes in and out of a program beside its examples.
    """
    for group in _groups(clients, config.local_epochs, row_bytes):
        yield pack(group, schema, config, seed=seed, round_number=round_number)


def _groups(
    clients: Iterable[ClientData], epochs: int, row_bytes: int
) -> Iterator[list[ClientData]]:
    held: list[ClientData] = []
    size = 0
    for client in clients:
        held.append(client)
        size += sum(values.nbytes for values in client.features.values())
        size += len(client) * epochs * _ORDER_BYTES + row_bytes
        if size >= _BLOCK_BYTES or len(held) >= _BLOCK_CLIENTS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _capacity(wanted: int) -> int:
    """The next power of two, so that few shapes are compiled."""
    return 1 << (max(wanted, _LEAST_CAPACITY) - 1).bit_length()


def _pad(values: np.ndarray, rows: int) -> np.ndarray:
    padded = np.zeros((rows, *values.shape[1:]), values.dtype)
    padded[: len(values)] = values
    return padded
