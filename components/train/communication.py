"""What goes over the network in a round: bytes of a client, down and up."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from privet.components.shared.sparsity import is_prunable
from privet.components.train.config import TrainConfig
from privet.components.train.pruning import kept_by_round

LEVEL_BYTES = 8
"""Least value and distance of two levels of a quantized tensor, float32 both."""

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
    """What a client receives and sends in a round.

    Down go the weights, with mime_lite the optimizer's state and with scaffold the control variate
    besides; up goes the update, with these two algorithms a second array of its size besides. Of
    pruned weights neither side sends a value: down go the others, and a bit for each weight that
    can be pruned, by which the client knows which they are; unless all values take less.

    Args:
      config: settings.
      shapes: of the trainable weights.
      kept: how many of the prunable ones are not pruned; None for all.
    """
    optimizer, down, up = config.client_optimizer, 1, 1
    if config.algorithm == "mime_lite":
        down += _OPTIMIZER_COPIES[optimizer.name or "sgd"] + (optimizer.momentum > 0)
        up = 2
    if config.algorithm == "scaffold":
        down = up = 2
    whole, update = update_bytes(shapes, None), update_bytes(shapes, config.update_bits)
    if kept is None:
        return Traffic(down * whole, up * update)
    prunable = sum(math.prod(shape) for shape in shapes if is_prunable(shape))
    pruned = prunable - kept
    sparse = down * (whole - 4 * pruned) + math.ceil(prunable / 8)
    bits = config.update_bits or 32
    return Traffic(min(down * whole, sparse), up * (update - pruned * bits // 8))


def update_bytes(shapes: Iterable[tuple[int, ...]], bits: int | None) -> int:
    """Bytes of an update: levels packed tensor by tensor, or float32 without `bits`.

    >>> update_bytes([(3, 3), (3,)], None), update_bytes([(3, 3), (3,)], 4)
    (48, 23)
    """
    sizes = [math.prod(shape) for shape in shapes]
    if bits is None:
        return 4 * sum(sizes)
    return sum(LEVEL_BYTES + math.ceil(size * bits / 8) for size in sizes)
