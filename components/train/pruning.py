"""Pruning in training: what is pruned to after which round, and the masks that come of it.

The server makes masks of the weights that it would release anyhow, noised ones in a private run, so
masks are post-processing and cost nothing. Clients and server apply them (see client_update.py and
server_update.py), and what was pruned stays pruned.
"""

import functools
from collections.abc import Sequence

import numpy as np

from privet.components.shared.sparsity import magnitude_masks, weights_kept
from privet.components.train.pruning_config import PruningConfig


@functools.lru_cache(8)
def sparsity_by_round(config: PruningConfig, rounds: int) -> tuple[float, ...]:
    """What share of the weights is pruned when a round has ended.

    Where it rises, masks are made.

    Args:
      config: settings.
      rounds: of the training.

    Returns:
      The share before the first round, after it, and so on to the last one.
    """
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

    begin, end = config.span(rounds)
    if config.schedule == "constant":
        schedule = tfmot.sparsity.keras.ConstantSparsity(config.sparsity, begin, frequency=1)
    else:
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            config.initial_sparsity,
            config.sparsity,
            begin,
            end,
            power=config.power,
            frequency=config.every,
        )
    due, sparsity = (np.array(part) for part in schedule(tf.range(rounds + 1)))
    due[end] = True
    # As it is written: 0.8, where the nearest float32 number is 0.800000012.
    wanted = [float(str(number)) for number in np.broadcast_to(sparsity, due.shape)]
    reached, found = 0.0, []
    for is_due, number in zip(due, wanted, strict=True):
        reached = max(reached, number) if is_due else reached
        found.append(reached)
    return tuple(found)


def masks_after(
    config: PruningConfig,
    rounds: int,
    number: int,
    weights: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
) -> tuple[np.ndarray, ...]:
    """The masks when a round has ended: new ones if it is due, of which none brings a weight back.

    Args:
      config: settings.
      rounds: of the training.
      number: of the round; 0 for before the first.
      weights: after it.
      masks: until then.
    """
    reached = sparsity_by_round(config, rounds)
    before = reached[number - 1] if number else 0.0
    if reached[number] == before:
        return tuple(masks)
    return tuple(
        magnitude_masks(
            weights,
            reached[number],
            scope=config.scope,
            pattern=config.pattern,
            block=config.block,
            earlier=masks,
        )
    )


def kept_by_round(
    config: PruningConfig, rounds: int, shapes: Sequence[tuple[int, ...]]
) -> list[int]:
    """How many prunable weights clients get in each round, by the schedule."""
    return [
        weights_kept(
            shapes, reached, scope=config.scope, pattern=config.pattern, block=config.block
        )
        if reached
        else weights_kept(shapes, 0.0)
        for reached in sparsity_by_round(config, rounds)[:-1]
    ]
