"""How wide a dense model may be to have no more weights than a pruned one keeps."""

import math
from collections.abc import Callable, Sequence

from privet.components.shared.errors import ConfigError
from privet.components.shared.sparsity import is_prunable, weights_kept
from privet.components.train.pruning_config import PruningConfig
from privet.pipeline.grid import DenseSmallConfig

Shapes = Sequence[tuple[int, ...]]


def number_of_weights(shapes: Shapes, pruning: PruningConfig | None = None) -> int:
    """How many weights are not zero when training ends.

    Args:
      shapes: of the weights.
      pruning: how training prunes; None for not at all.

    Example:
      >>> number_of_weights([(3, 5), (5,)])
      20
      >>> number_of_weights([(3, 5), (5,)], PruningConfig(sparsity=0.5))  # round(7.5) go
      12
    """
    if pruning is None:
        return sum(map(math.prod, shapes))
    whole = sum(math.prod(shape) for shape in shapes if not is_prunable(shape))
    return whole + weights_kept(
        shapes,
        pruning.sparsity,
        scope=pruning.scope,
        pattern=pruning.pattern,
        block=pruning.block,
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
