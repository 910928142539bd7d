"""How wide a dense model may be to have no more weights than a pruned one keeps."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from privet.components.shared.errors import ConfigError
from privet.pipeline.grid import DenseSmallConfig

Shapes = Sequence[tuple[int, ...]]


def sparsity_of(settings: Mapping[str, Any]) -> float:
    """The share of weights that training prunes.

    Args:
      settings: of a whole configuration, as plain values.

    Example:
      >>> sparsity_of({"train": {"pruning": {"sparsity": 0.8}}})
      0.8
      >>> sparsity_of({"train": {"pruning": None}})
      0.0
    """
    pruning = settings["train"].get("pruning") or {}
    return float(pruning.get("sparsity", 0.0))


def number_of_weights(shapes: Shapes, sparsity: float = 0.0) -> int:
    """How many weights are not zero.

    Args:
      shapes: of the weights.
      sparsity: share of each tensor with two axes or more that is zero, rounded to whole weights.

    Example:
      >>> number_of_weights([(3, 5), (5,)])
      20
      >>> number_of_weights([(3, 5), (5,)], sparsity=0.5)  # round(7.5) of the kernel go
      12
    """
    return sum(
        math.prod(shape) - (round(math.prod(shape) * sparsity) if len(shape) > 1 else 0)
        for shape in shapes
    )


def widest_within(weights_at: Callable[[int], int], wanted: int, limits: DenseSmallConfig) -> int:
    """The largest value of the argument with which a model has no more weights than wanted.

    Args:
      weights_at: the number of weights by the argument's value; a model is built for each.
      wanted: number of weights.
      limits: where to look.

    Raises:
      ConfigError: there is no such value within the limits, or the number does not grow with it.
    """
    argument, low, high = limits.argument, limits.least, limits.most
    found = {value: weights_at(value) for value in (low, high)}
    if found[low] >= found[high]:
        raise ConfigError(
            f"the number of weights must grow with dense_small.argument={argument}, but it is "
            f"{found[low]:,} at {low} and {found[high]:,} at {high}. Name the argument of the "
            "model function that makes the model wider."
        )
    if found[low] > wanted:
        raise ConfigError(
            f"the pruned model keeps {wanted:,} weights, but the smallest dense one, {argument}="
            f"{low}, has {found[low]:,}. Lower train.pruning.sparsity or dense_small.least."
        )
    if found[high] < wanted:
        raise ConfigError(
            f"the pruned model keeps {wanted:,} weights, but the largest dense one, {argument}="
            f"{high}, has {found[high]:,}. Raise dense_small.most."
        )
    if found[high] == wanted:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        found[middle] = weights_at(middle)
        if found[middle] <= wanted:
            low = middle
        else:
            high = middle
    counts = [found[value] for value in sorted(found)]
    if counts != sorted(counts):
        raise ConfigError(
            f"the number of weights must grow with dense_small.argument={argument}, but it is "
            + ", ".join(f"{found[value]:,} at {value}" for value in sorted(found))
        )
    return low
