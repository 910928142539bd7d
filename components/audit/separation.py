"""How well one score tells two groups apart: the ROC curve, its summaries and their intervals."""

import dataclasses

import numpy as np

FALSE_POSITIVE_RATE = 0.01
"""At which the true positive rate is read (Carlini et al., 2022, "Membership Inference Attacks
From First Principles": an attack that is sure of a few does harm, whatever its average)."""

_ROC_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Roc:
    """A ROC curve: one point for each threshold, from the highest score to the lowest.

    Attributes:
      fpr, tpr: float64 [thresholds + 1], ascending from 0 to 1.
    """

    fpr: np.ndarray
    tpr: np.ndarray

    @property
    def auc(self) -> float:
        """P[score of a positive > score of a negative], a tie counting half."""
        return float(np.sum(np.diff(self.fpr) * (self.tpr[1:] + self.tpr[:-1])) / 2)

    @property
    def advantage(self) -> float:
        """The largest TPR - FPR (Yeom et al., 2018), at least 0."""
        return float(np.max(self.tpr - self.fpr))

    @property
    def tpr_at_low_fpr(self) -> float:
        """The largest TPR of a threshold with at most FALSE_POSITIVE_RATE, not interpolated."""
        return float(self.tpr[np.searchsorted(self.fpr, FALSE_POSITIVE_RATE, "right") - 1])

    def thinned(self) -> dict[str, list[float]]:
        """At most 200 of its points, first and last included, in order."""
        last = len(self.fpr) - 1
        chosen = np.unique(np.linspace(0, last, min(last + 1, _ROC_POINTS)).round().astype(int))
        return {"fpr": self.fpr[chosen].tolist(), "tpr": self.tpr[chosen].tolist()}


class Groups:
    """Two groups of scores, ready to be resampled: only the order of scores counts."""

    def __init__(self, positives: np.ndarray, negatives: np.ndarray):
        """Ranks the scores, float [positives] and [negatives], one at least of each."""
        scores = np.concatenate([positives, negatives])
        distinct, places = np.unique(-scores, return_inverse=True)
        self._levels = len(distinct)
        self._positives, self._negatives = np.split(places, [len(positives)])

    def roc(self) -> Roc:
        """The curve of all scores."""
        return self._roc(self._positives, self._negatives)

    def intervals(
        self, resamples: int, confidence: float, generator: np.random.Generator
    ) -> dict[str, list[float]]:
        """Percentile bootstrap intervals of the curve's summaries (Efron, 1979).

        Both groups are resampled, each with replacement to its own size.

        Returns:
          name of the summary -> [low, high].
        """
        names = ("auc", "advantage", "tpr_at_low_fpr")
        found = np.empty((resamples, len(names)))
        for row in found:
            roc = self._roc(
                *(
                    places[generator.integers(len(places), size=len(places))]
                    for places in (self._positives, self._negatives)
                )
            )
            row[:] = [getattr(roc, name) for name in names]
        tails = [50 * (1 - confidence), 50 * (1 + confidence)]
        return dict(zip(names, np.percentile(found, tails, axis=0).T.tolist(), strict=True))

    def _roc(self, positives: np.ndarray, negatives: np.ndarray) -> Roc:
        return Roc(self._rates(negatives), self._rates(positives))

    def _rates(self, places: np.ndarray) -> np.ndarray:
        """Share of a group at each level or above it, 0 first."""
        counts = np.bincount(places, minlength=self._levels)
        return np.concatenate([[0.0], np.cumsum(counts) / len(places)])
