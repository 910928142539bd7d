"""The area under the ROC curve (AUC): of one client, and of any number of examples.

It is the chance that an example of a class has a higher score for it than one of another class,
ties counted half (Hanley and McNeil, 1982). Two classes: that of class 1. More: the mean over the
classes that some examples have and others have not, each against the rest.
"""

from typing import Self

import numpy as np

LIMIT = 1 << 18
"""So many scores (examples times units) are kept as they are."""

FINE, COARSE, COARSEST = 6, 3, 0
"""Bits of the mantissa that tell bins apart, once there are more scores than LIMIT."""

_OCTAVES = {FINE: 33, COARSE: 33, COARSEST: 16}
_HALF = 126  # exponent of 0.5 in float32
_PAIRS = 1 << 16  # of a client's examples, that are compared outright


def bins_of(scores: np.ndarray, bits: int) -> np.ndarray:
    """The bin of each score, rising with it.

    The width of a bin is the 2^bits-th part of the score or, above a half, of what it lacks to 1:
    a confident model's scores are told apart as well as an uncertain one's.

    Args:
      scores: float32, in [0, 1].
      bits: FINE, COARSE or COARSEST.

    Returns:
      int64, from 0 to bin_count(bits) - 1.
    """
    upper = scores > 0.5
    rest = np.where(upper, np.float32(1) - scores, scores).astype(np.float32)
    first = (_HALF - _OCTAVES[bits]) << bits
    places = np.maximum((rest.view(np.int32) >> (23 - bits)) - first, 0)
    return np.where(upper, bin_count(bits) - 1 - places, places).astype(np.int64)


def bin_count(bits: int) -> int:
    """Number of bins."""
    return 2 * ((_OCTAVES[bits] << bits) + 1)


def auc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """The AUC of scores in rising order.

    Args:
      positives, negatives: [..., scores], how often each occurs with and without the class.

    Returns:
      float64 [...]; NaN without examples of both kinds.
    """
    below = np.cumsum(negatives, axis=-1) - negatives
    wins = (positives * (below + 0.5 * negatives)).sum(-1, dtype=np.float64)
    pairs = positives.sum(-1, dtype=np.float64) * negatives.sum(-1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / pairs


def mean_over_classes(areas: np.ndarray) -> np.ndarray:
    """The mean of those that are a number: [..., classes] -> [...]; NaN without any."""
    known = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        return np.where(known, areas, 0.0).sum(-1) / known.sum(-1)


def client_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The AUC of one client's examples.

    Args:
      scores: float32 [examples, units]; one unit is class 1's.
      labels: int64 [examples].

    Returns:
      NaN for a client with one label.
    """
    if scores.shape[1] == 1 or len(labels) ** 2 > _PAIRS:
        return _exact_auc(scores, labels)
    own = scores[np.arange(len(labels)), labels]
    others = scores[:, labels]  # [rival, own]: the rival's score for the own class
    rivals = labels[:, None] != labels
    wins = ((others < own) & rivals).sum(0) + ((others <= own) & rivals).sum(0)
    sizes = np.bincount(labels)
    classes = np.flatnonzero(sizes)
    if len(classes) < 2:
        return np.nan
    pairs = sizes[classes] * (len(labels) - sizes[classes])
    return float((np.bincount(labels, wins)[classes] / (2 * pairs)).mean())


def _exact_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """As client_auc, class by class, for any number of examples."""
    if scores.shape[1] == 1:
        return _area(scores[labels == 1, 0], scores[labels != 1, 0])
    areas = [
        _area(scores[labels == one, one], scores[labels != one, one])
        for one in np.unique(labels).tolist()
    ]
    return float(mean_over_classes(np.array(areas)))


def _area(positives: np.ndarray, negatives: np.ndarray) -> float:
    if not len(positives) or not len(negatives):
        return np.nan
    ranked = np.sort(negatives)
    wins = np.searchsorted(ranked, positives) + np.searchsorted(ranked, positives, side="right")
    return float(wins.mean() / (2 * len(negatives)))


class ScoreTable:
    """The scores of any number of examples, in bounded memory.

    Kept as they are up to LIMIT of them, and then counted by bins (see bins_of). Of FINE bins, the
    AUC is off by less than half the share of the pairs of examples that meet in one bin.

    Args:
      units: of the scores.
      bits: of the bins.
    """

    def __init__(self, units: int, bits: int = FINE):
        self._units, self._bits = units, bits
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._size = 0
        self._counts: np.ndarray | None = None  # int64 [2, units, bins]: of the own class, of all

    def add(self, scores: np.ndarray, labels: np.ndarray) -> Self:
        """Adds examples; see client_auc for the arguments."""
        self._size += scores.size
        if self._size <= LIMIT:
            self._kept.append((scores, labels))
        else:
            self._count(scores, labels)
        return self

    def merge(self, other: "ScoreTable") -> Self:
        """Adds the examples of another one."""
        if other._counts is not None:
            self._size += other._size
            counts = self._binned()
            counts += other._counts
        else:
            for scores, labels in other._kept:
                self.add(scores, labels)
        return self

    def auc(self) -> float:
        """The AUC; NaN where no class has examples on both sides."""
        if self._counts is not None:
            own, every = self._counts
            return float(mean_over_classes(auc(own, every - own)))
        if not self._kept:
            return np.nan
        scores, labels = (np.concatenate(column) for column in zip(*self._kept, strict=True))
        return _exact_auc(scores, labels)

    def _count(self, scores: np.ndarray, labels: np.ndarray) -> None:
        counts = self._binned()
        width = counts.shape[2]
        cells = bins_of(scores, self._bits) + np.arange(self._units) * width
        wanted = np.arange(self._units) if self._units > 1 else 1
        own = cells[labels[:, None] == wanted]
        for kind, found in enumerate((own, cells.ravel())):
            counts[kind] += np.bincount(found, minlength=counts[kind].size).reshape(
                counts[kind].shape
            )

    def _binned(self) -> np.ndarray:
        """The counts, into which goes what was kept."""
        if self._counts is None:
            self._counts = np.zeros((2, self._units, bin_count(self._bits)), np.int64)
            kept, self._kept = self._kept, []
            for scores, labels in kept:
                self._count(scores, labels)
        return self._counts
