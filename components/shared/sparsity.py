"""Magnitude pruning: which weights of a model are set to zero."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Scope = Literal["layer", "global"]
Pattern = Literal["unstructured", "2:4", "block"]

_GONE = -1.0
"""In the place of a magnitude: smaller than any, of what was pruned before."""


def is_prunable(shape: Sequence[int]) -> bool:
    """Whether pruning takes weights of this shape: of kernels and embeddings, not of biases.

    >>> is_prunable((3, 4)), is_prunable((4,))
    (True, False)
    """
    return len(shape) >= 2


def share_of_zeros(weights: Sequence[np.ndarray]) -> float:
    """How many of the prunable weights are zero, as a fraction of them; 0 if there are none.

    >>> share_of_zeros([np.array([[0, 2], [0, 4]]), np.zeros(2)])
    0.5
    """
    prunable = [weight for weight in weights if is_prunable(weight.shape)]
    zeros = sum(weight.size - np.count_nonzero(weight) for weight in prunable)
    return zeros / max(1, sum(weight.size for weight in prunable))


def masked(weights: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The weights with an exact 0 where their mask is False."""
    pairs = zip(weights, masks, strict=True)
    return [np.where(mask, weight, np.zeros((), weight.dtype)) for weight, mask in pairs]


def magnitude_masks(
    weights: Sequence[np.ndarray],
    sparsity: float,
    *,
    scope: Scope = "layer",
    pattern: Pattern = "unstructured",
    block: tuple[int, int] = (1, 4),
    earlier: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Which weights stay: those of the largest magnitude.

    They are those of tfmot.sparsity.keras.prune_low_magnitude (with block_size and AVG pooling, or
    sparsity_m_by_n=(2, 4)), but that of equal magnitudes the first stay and no more. So the number
    of those that go is exact: round(size * sparsity), or one less where nothing would stay.

    - `2:4`: of four in a row along the last axis but one (the inputs of a Dense or Conv kernel),
      the two smallest go. At the end of a row with a rest of three, one goes; of two or one, none.
    - `block`: blocks of a kernel as the matrix [all axes but the last, last axis], by the mean of
      the magnitudes; round(blocks * sparsity) of them go. Blocks begin in the first row and column;
      those at the end may be smaller.

    Args:
      weights: of a model, in Keras' order. Those with fewer than two axes (biases) all stay.
      sparsity: share of the others that goes.
      scope: whether each of them loses this share, or all of them together.
      pattern: which weights go together.
      block: [rows, columns] of a block, for that pattern.
      earlier: masks of which what is False stays False, and counts as what goes.

    Returns:
      bool arrays of the same shapes, False where a weight is to be zero.

    >>> (mask,) = magnitude_masks([np.array([[1.0, -4.0], [3.0, -2.0]])], 0.5)
    >>> mask.tolist()
    [[False, True], [True, False]]
    """
    masks = [np.ones(weight.shape, bool) for weight in weights]
    places = [place for place, weight in enumerate(weights) if is_prunable(weight.shape)]
    # What is no number stays, so that a model that has diverged is seen to have.
    magnitudes = [np.nan_to_num(np.abs(weights[place]), nan=np.inf) for place in places]
    if earlier is not None:
        kept = [earlier[place] for place in places]
        magnitudes = [np.where(*pair, _GONE) for pair in zip(kept, magnitudes, strict=True)]
    if pattern == "2:4":
        found = [_two_of_four(one) for one in magnitudes]
    elif pattern == "block":
        means = [_block_means(one, block) for one in magnitudes]
        pairs = zip(_largest(means, sparsity, scope), magnitudes, strict=True)
        found = [_spread(kept, one.shape, block) for kept, one in pairs]
    else:
        found = _largest(magnitudes, sparsity, scope)
    for place, mask in zip(places, found, strict=True):
        masks[place] = mask if earlier is None else mask & earlier[place]
    return masks


def weights_kept(
    shapes: Sequence[Sequence[int]],
    sparsity: float,
    *,
    scope: Scope = "layer",
    pattern: Pattern = "unstructured",
    block: tuple[int, int] = (1, 4),
) -> int:
    """How many prunable weights magnitude_masks lets stay.

    Blocks count as equally large: where some at the end are smaller, the number is an estimate.

    Args:
      shapes: of the weights of a model.
      sparsity, scope, pattern, block: as for magnitude_masks.

    >>> weights_kept([(4, 5), (5,)], 0.5), weights_kept([(7, 2)], 0.5, pattern="2:4")
    (10, 8)
    """
    prunable = [tuple(shape) for shape in shapes if is_prunable(shape)]
    sizes = [math.prod(shape) for shape in prunable]
    if pattern == "2:4":
        rows = [shape[-2] for shape in prunable]
        return sum(
            size // row * _kept_of_row(row) for size, row in zip(sizes, rows, strict=True) if row
        )
    units = sizes
    if pattern == "block":
        units = [math.prod(_grid(shape, block)) for shape in prunable]
    if scope == "global":
        units, sizes = [sum(units)], [sum(sizes)]
    return sum(
        round(size * (1 - _count(unit, sparsity) / unit))
        for size, unit in zip(sizes, units, strict=True)
        if unit
    )


def _count(size: int, sparsity: float) -> int:
    """How many of so many go."""
    return max(0, min(round(size * sparsity), size - 1))


def _kept_of_row(length: int) -> int:
    """How many of a row stay under 2:4."""
    return length // 4 * 2 + min(length % 4, 2)


def _largest(magnitudes: Sequence[np.ndarray], sparsity: float, scope: Scope) -> list[np.ndarray]:
    """Where the largest are, tensor by tensor or of all of them."""
    if scope == "layer" or not magnitudes:
        rows = [_largest_of(one.ravel(), sparsity) for one in magnitudes]
    else:
        everything = np.concatenate([one.ravel() for one in magnitudes])
        ends = np.cumsum([one.size for one in magnitudes])
        rows = np.split(_largest_of(everything, sparsity), ends[:-1])
    return [row.reshape(one.shape) for row, one in zip(rows, magnitudes, strict=True)]


def _largest_of(row: np.ndarray, sparsity: float) -> np.ndarray:
    """Where the largest of a row are."""
    count = _count(row.size, sparsity)
    if not count:
        return np.ones(row.shape, bool)
    threshold = np.partition(row, count - 1)[count - 1]
    stays = row >= threshold
    equal = np.flatnonzero(row == threshold)
    stays[equal[row.size - count - np.count_nonzero(row > threshold) :]] = False
    return stays


def _two_of_four(magnitudes: np.ndarray) -> np.ndarray:
    """Where the two largest of each four along the last axis but one are."""
    rows = np.moveaxis(magnitudes, -2, -1)
    length = rows.shape[-1]
    room = [(0, 0)] * (rows.ndim - 1) + [(0, -length % 4)]
    fours = np.pad(rows, room).reshape(*rows.shape[:-1], -1, 4)
    order = np.argsort(-fours, axis=-1, kind="stable")
    stays = np.zeros(fours.shape, bool)
    np.put_along_axis(stays, order[..., :2], True, axis=-1)
    stays = stays.reshape(*rows.shape[:-1], -1)[..., :length]
    return np.ascontiguousarray(np.moveaxis(stays, -1, -2))


def _grid(shape: Sequence[int], block: tuple[int, int]) -> tuple[int, int]:
    """[rows, columns] of the blocks of a kernel."""
    return -(-math.prod(shape[:-1]) // block[0]), -(-shape[-1] // block[1])


def _block_means(magnitudes: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """The mean of each block, of those of its places that the kernel has."""
    matrix = magnitudes.reshape(-1, magnitudes.shape[-1])
    grid = _grid(magnitudes.shape, block)
    shape = (grid[0], block[0], grid[1], block[1])

    def total(values: np.ndarray) -> np.ndarray:
        room = [(0, -size % side) for size, side in zip(matrix.shape, block, strict=True)]
        return np.pad(values, room).reshape(shape).sum(axis=(1, 3))

    return total(matrix) / total(np.ones(matrix.shape, matrix.dtype))


def _spread(kept: np.ndarray, shape: tuple[int, ...], block: tuple[int, int]) -> np.ndarray:
    """The mask of a kernel by that of its blocks."""
    every = kept.repeat(block[0], axis=0).repeat(block[1], axis=1)
    return every[: math.prod(shape[:-1]), : shape[-1]].reshape(shape)
