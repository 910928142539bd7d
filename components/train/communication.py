"""What goes over the network in a round: bytes of a client, down and up."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from privet.components.train.config import TrainConfig

LEVEL_BYTES = 8
"""Least value and distance of two levels of a quantized tensor, float32 both."""

_OPTIMIZER_COPIES = {"sgd": 0, "adagrad": 1, "rmsprop": 1, "adam": 2, "yogi": 2}
"""Arrays of the size of the weights in the state of an optimizer, momentum apart."""


class Traffic(NamedTuple):
    """Bytes of a client in a round; the examples stay where they are."""

    down: int
    up: int


def traffic_of(config: TrainConfig, shapes: Sequence[tuple[int, ...]]) -> Traffic:
    """What a client receives and sends in a round.

    Down go the weights, with mime_lite the optimizer's state and with scaffold the control variate
    besides; up goes the update, with these two algorithms a second array of its size besides.

    Args:
      config: settings.
      shapes: of the trainable weights.
    """
    optimizer, down, up = config.client_optimizer, 1, 1
    if config.algorithm == "mime_lite":
        down += _OPTIMIZER_COPIES[optimizer.name or "sgd"] + (optimizer.momentum > 0)
        up = 2
    if config.algorithm == "scaffold":
        down = up = 2
    return Traffic(down * update_bytes(shapes, None), up * update_bytes(shapes, config.update_bits))


def update_bytes(shapes: Iterable[tuple[int, ...]], bits: int | None) -> int:
    """Bytes of an update: levels packed tensor by tensor, or float32 without `bits`.

    >>> update_bytes([(3, 3), (3,)], None), update_bytes([(3, 3), (3,)], 4)
    (48, 23)
    """
    sizes = [math.prod(shape) for shape in shapes]
    if bits is None:
        return 4 * sum(sizes)
    return sum(LEVEL_BYTES + math.ceil(size * bits / 8) for size in sizes)
