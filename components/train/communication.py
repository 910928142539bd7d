"""What goes over the network in a round: bytes of a client, down and up."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from privet.components.shared.sparsity import is_prunable
from privet.components.train.config import TrainConfig
from privet.components.train.pruning import kept_by_round
from privet.components.train.wire import Message, encode, message_bytes

NOTHING_SENT = np.zeros(2, np.int64)
"""Messages that were sent, and their bytes together."""

_OPTIMIZER_COPIES = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "adam": 2, "yogi": 2}
"""Arrays of the size of the weights in the state of an optimizer, momentum apart."""


class Traffic(NamedTuple):
    """Bytes of a client in a round; the examples stay where they are."""

    down: float
    up: float


def mean_traffic(config: TrainConfig, shapes: Sequence[tuple[int, ...]], rounds: int) -> Traffic:
    """What a client receives and sends in a round: the mean over the first rounds of a training.

    It is the same in all rounds unless training prunes.

    Args:
      config: settings.
      shapes: of the trainable weights.
      rounds: at least one.
    """
    if config.pruning is None:
        return traffic_of(config, shapes)
    kept = kept_by_round(config.pruning, config.rounds, shapes)[:rounds]
    each = [traffic_of(config, shapes, one) for one in kept]
    return Traffic(*(sum(side) / len(each) for side in zip(*each, strict=True)))


def traffic_of(
    config: TrainConfig, shapes: Sequence[tuple[int, ...]], kept: int | None = None
) -> Traffic:
    """What a client receives and sends in a round; with update_code, what it sends at most.

    Each way is one message of wire.py. Down go the weights, with mime_lite the optimizer's state
    and with scaffold the control variate besides; up goes the update, with these two algorithms a
    second array of its size besides. Of pruned weights neither side sends a value: down go the
    others, and a bit for each weight that can be pruned, by which the client knows which they are;
    unless all values take less.

    Args:
      config: settings.
      shapes: of the trainable weights.
      kept: how many of the prunable ones are not pruned; None for all.
    """
    optimizer, down = config.client_optimizer, 1
    if config.algorithm == "mime_lite":
        down += _OPTIMIZER_COPIES[optimizer.name or "sgd"] + (optimizer.momentum > 0)
    if config.algorithm == "scaffold":
        down = 2
    rotated = config.update_rotation is not None
    sent = _sent_shapes(config, shapes)
    whole = message_bytes([*shapes] * down)
    update = message_bytes(sent, config.update_bits, rotated=rotated)
    if kept is None:
        return Traffic(whole, update)
    prunable = sum(math.prod(shape) for shape in shapes if is_prunable(shape))
    pruned, bits = prunable - kept, config.update_bits or 32
    sparse = whole - 4 * pruned * down + math.ceil(prunable / 8)
    return Traffic(min(whole, sparse), update - pruned * bits // 8 * (len(sent) // len(shapes)))


def measured(
    config: TrainConfig, shapes: Sequence[tuple[int, ...]], rows: np.ndarray, seeds: np.ndarray
) -> np.ndarray:
    """The messages that clients send, and their bytes, by encoding them: int64 [2].

    Args:
      config: settings, with update_code.
      shapes: of the trainable weights.
      rows: float32 [clients, values], of each client the levels, least values and distances.
      seeds: int32 [clients or more, 2], of what they draw at random.
    """
    sizes = [math.prod(shape) for shape in _sent_shapes(config, shapes)]
    *ends, end = np.cumsum(sizes)
    total = NOTHING_SENT.copy()
    for row, seed in zip(rows, seeds, strict=False):
        message = Message(
            np.split(row[:end].astype(np.uint8), ends),
            config.update_bits,
            row[end:].reshape(2, -1).T,
            None if config.update_rotation is None else seed,
        )
        total += (1, len(encode(message, deflate=True)))
    return total


def _sent_shapes(config: TrainConfig, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Of the arrays that a client sends."""
    return [*shapes] * (2 if config.algorithm in ("mime_lite", "scaffold") else 1)
