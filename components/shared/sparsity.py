"""Magnitude pruning: which weights of a model are set to zero."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Scope = Literal["layer", "global"]
Pattern = Literal["unstructured", "2:4", "block"]


def magnitude_masks(
    weights: Sequence[np.ndarray],
    sparsity: float,
    *,
    scope: Scope = "layer",
    pattern: Pattern = "unstructured",
    block: tuple[int, int] = (1, 4),
) -> list[np.ndarray]:
    """Which weights stay: those of the largest magnitude.

    Args:
      weights: of a model, in Keras' order. Those with fewer than two axes (biases) all stay.
      sparsity: share of the others that goes.
      scope: whether each of them loses this share, or all of them together.
      pattern: which weights go together.
      block: [rows, columns] of a block, for that pattern.

    Returns:
      bool arrays of the same shapes, False where a weight is to be zero.
    """
    raise NotImplementedError
