"""What goes over the network in a round: bytes of a client, down and up."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from privet.components.train.config import TrainConfig
from privet.components.train.wire import Message, encode, message_bytes

NOTHING_SENT = np.zeros(2, np.int64)
"""Messages that were sent, and their bytes together."""

_OPTIMIZER_COPIES = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "adam": 2, "yogi": 2}
"""Arrays of the size of the weights in the state of an optimizer, momentum apart."""


class Traffic(NamedTuple):
    """Bytes of a client in a round; the examples stay where they are."""

    down: int
    up: int


def traffic_of(config: TrainConfig, shapes: Sequence[tuple[int, ...]]) -> Traffic:
    """What a client receives and sends in a round; with update_code, what it sends at most.

    Down go the weights, with mime_lite the optimizer's state and with scaffold the control variate
    besides; up goes the update, with these two algorithms a second array of its size besides. Each
    way is one message of wire.py.

    Args:
      config: settings.
      shapes: of the trainable weights.
    """
    optimizer, down = config.client_optimizer, 1
    if config.algorithm == "mime_lite":
        down += _OPTIMIZER_COPIES[optimizer.name or "sgd"] + (optimizer.momentum > 0)
    if config.algorithm == "scaffold":
        down = 2
    rotated = config.update_rotation is not None
    up = message_bytes(_sent_shapes(config, shapes), config.update_bits, rotated=rotated)
    return Traffic(message_bytes([*shapes] * down), up)


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
