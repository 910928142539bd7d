"""A client's part in a round: its examples in the order in which it trains on them."""

from collections.abc import Sequence

import numpy as np

from privet.components.shared.storage import ClientData, stable_hash, stable_hashes
from privet.components.train.config import TrainConfig


def training_orders(
    clients: Sequence[ClientData], *, seed: int, round_number: int, epochs: int
) -> np.ndarray:
    """Indices of each client's examples for all local epochs, each epoch a new permutation.

    A client's order depends on the seed, the round and the client alone, so that every engine
    trains on the same batches, whatever clients are read together. Examples are sorted by a
    pseudo-random number of their position (SplitMix64: Steele, Lea, Flood, 2014, "Fast splittable
    pseudorandom number generators"), which costs far less than a generator for each client.

    Returns:
      int64 [sum over clients of epochs * examples], counted from 0 in each client.
    """
    if not clients:
        return np.zeros(0, np.int64)
    lengths = np.repeat([len(client) for client in clients], epochs)
    streams = _streams("order", clients, seed, round_number)
    streams = _mix(
        np.repeat(streams, epochs) + np.tile(np.arange(epochs, dtype=np.uint64), len(clients))
    )
    starts = np.cumsum(lengths) - lengths
    group = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(group)) - starts[group]
    ranks = _mix(streams[group] + position.astype(np.uint64) * _GOLDEN)
    return position[np.lexsort((ranks, group))]


def client_seeds(clients: Sequence[ClientData], *, seed: int, round_number: int) -> np.ndarray:
    """Seeds of what each client draws at random in a round, int32 [clients, 2]."""
    return _streams("draws", clients, seed, round_number).view(np.int32).reshape(-1, 2)


def _streams(name: str, clients: Sequence[ClientData], seed: int, round_number: int) -> np.ndarray:
    """A pseudo-random number for each client, uint64 [clients]."""
    hashes = stable_hashes(name, seed, each=[client.client_id.encode() for client in clients])
    return _mix(hashes + np.uint64(stable_hash("round", round_number)))


def examples_taken(examples: np.ndarray, config: TrainConfig) -> np.ndarray:
    """How many examples the steps of clients take in a round, each as often as it is taken.

    Args:
      examples: int64 [clients], how many they have.
      config: local epochs, batch size, bound on the steps.

    >>> config = TrainConfig.from_mapping(
    ...     {"privacy": {"mechanism": "none"}, "local_epochs": 3, "max_steps": 2, "batch_size": 4}
    ... )
    >>> examples_taken(np.array([2, 5]), config).tolist()
    [6, 8]
    """
    taken = examples * config.local_epochs
    if config.max_steps is not None:
        taken = np.minimum(taken, config.max_steps * config.batch_size)
    return taken


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer: a bijection of uint64 that leaves no pattern."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
