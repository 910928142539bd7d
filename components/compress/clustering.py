"""Clustering: the weights of a kernel moved to a few shared values, found by k-means.

tfmot's `cluster_weights` starts from k-means++ and leaves the rest to training, which would need
data: without it, its squared error on a convolutional network of 1.2 million normal weights is 19
to 60% above the best, with 16 and 32 clusters. It also leaves depthwise kernels as they are, stops
at layers that it does not know, and holds every weight once per cluster: 2.5 GB for 256 of them.
So the values here come from k-means itself, whose optimum in one dimension can be computed, and go
into the model as plain weights. That is all that tfmot needs where it does add something: its
cluster-preserving quantization-aware training finds the clusters in the weights.
"""

import numpy as np
import tensorflow as tf

from privet.components.shared.keras_models import with_weights
from privet.components.shared.sparsity import is_prunable

_GROUPS = 1024  # of neighbouring values, of which the optimum is found; its cost grows squared
_REFINEMENTS = 1000  # on all values, after that; dozens suffice but for hundreds of clusters


def clustered(model: tf.keras.Model, clusters: int) -> tf.keras.Model:
    """A copy of the model with at most `clusters` distinct values in every kernel.

    Kernels are the trainable weights with two axes or more. Zeros of a pruned kernel stay zero.

    Args:
      model: stays as it is.
      clusters: at least 2.
    """
    weights = [variable.numpy() for variable in model.trainable_variables]
    moved = [cluster_weights(one, clusters) if is_prunable(one.shape) else one for one in weights]
    return with_weights(model, moved)


def cluster_weights(weights: np.ndarray, clusters: int) -> np.ndarray:
    """The weights, each replaced by the nearest of the centroids that serve them all best.

    Args:
      weights: floats of any shape.
      clusters: how many distinct values there may be. Where a weight is zero, zero is one of them.

    Example:
      >>> cluster_weights(np.array([0.0, 1.0, 1.5, 7.0, 9.0]), 3).tolist()
      [0.0, 1.25, 1.25, 8.0, 8.0]
    """
    centroids = _centroids(weights, clusters).astype(weights.dtype)
    middles = (centroids[1:].astype(np.float64) + centroids[:-1]) / 2
    return centroids[np.searchsorted(middles, weights)]


def _centroids(weights: np.ndarray, clusters: int) -> np.ndarray:
    """Ascending centroids of the smallest squared error, found on groups and refined on all."""
    values, counts = np.unique(weights.astype(np.float64), return_counts=True)
    if len(values) <= clusters:
        return values
    errors = _SquaredErrors(values, counts)
    groups = _groups(values, counts, max(_GROUPS, 4 * clusters))
    cuts = groups[_best_cuts(errors.between(groups[None, :], groups[:, None]), clusters)]
    for _ in range(_REFINEMENTS):  # Lloyd's algorithm
        centroids = errors.centroids(cuts[:-1], cuts[1:])
        nearest = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
        if np.array_equal(nearest, cuts[1:-1]):
            break
        cuts = np.unique([0, *nearest, len(values)])
    return centroids


class _SquaredErrors:
    """Centroids and squared errors of clusters, which are ranges [first, last) of sorted values.

    A cluster with the value zero has zero as its centroid, others have their mean.
    """

    def __init__(self, values: np.ndarray, counts: np.ndarray):
        moments = np.stack([counts, counts * values, counts * values**2])
        self._moments = np.pad(np.cumsum(moments, axis=1), ((0, 0), (1, 0)))
        self._zero = np.searchsorted(values, 0.0)
        self._has_zero = self._zero < len(values) and values[self._zero] == 0

    def centroids(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        size, total, _ = self._moments[:, last] - self._moments[:, first]
        means = total / np.maximum(size, 1)
        holds_zero = (first <= self._zero) & (self._zero < last) & self._has_zero
        return np.where(holds_zero, 0.0, means)

    def between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Squared errors; infinite for a range without a value."""
        size, total, squares = self._moments[:, last] - self._moments[:, first]
        centroids = self.centroids(first, last)
        errors = squares - 2 * centroids * total + centroids**2 * size
        return np.where(first < last, np.maximum(errors, 0), np.inf)


def _groups(values: np.ndarray, counts: np.ndarray, most: int) -> np.ndarray:
    """Where groups of neighbouring values begin, and the end of the last.

    Three of four cuts are as dense as the best centroids of very many would be: as the cube root of
    the weights' density (Panter and Dite, "Quantization distortion in pulse-count modulation with
    nonuniform spacing of levels", 1951). The others are equally many values apart, so that there
    are enough groups whatever the weights are.
    """
    if len(values) <= most:
        return np.arange(len(values) + 1)
    by_rank = np.linspace(0, len(values), most // 4 + 1).astype(int)
    density, edges = np.histogram(values, bins=most, weights=counts)
    mass = np.concatenate([[0], np.cumsum(np.cbrt(density))])
    ends = np.interp(np.linspace(0, mass[-1], 3 * most // 4), mass, edges)
    return np.union1d(by_rank, np.searchsorted(values, ends))


def _best_cuts(errors: np.ndarray, clusters: int) -> np.ndarray:
    """Cuts between groups of the smallest sum of squared errors, by dynamic programming.

    After Wang and Song, "Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by Dynamic
    Programming", The R Journal 2011.

    Args:
      errors: [cuts, cuts], of a cluster that ends at one cut and begins at the other.
      clusters: how many; at most the number of groups.

    Returns:
      int [clusters + 1], indices of cuts, the first and the last among them.
    """
    best, begins = errors[:, 0], []  # of one cluster that ends at each cut, then of one more
    sums = np.empty_like(errors)
    for _ in range(clusters - 1):
        np.add(errors, best, out=sums)
        begins.append(np.argmin(sums, axis=1))
        best = sums[np.arange(len(sums)), begins[-1]]
    cuts = [len(errors) - 1]
    for begin in reversed(begins):
        cuts.append(begin[cuts[-1]])
    return np.array([0, *reversed(cuts)])
