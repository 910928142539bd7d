"""Exact statistics of the clients of each split, mergeable in any order.

They are NOT private: they stay inside the trust boundary. `dp_statistics` releases noised ones
in their place.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np


@dataclasses.dataclass
class FeatureSums:
    """Range and sum of the values of a feature."""

    minimum: float = np.inf
    maximum: float = -np.inf
    total: float = 0.0
    count: int = 0

    def merge(self, other: "FeatureSums") -> None:
        """Adds another part."""
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.total += other.total
        self.count += other.count


@dataclasses.dataclass
class SplitCounts:
    """Counts of one split.

    Attributes:
      sizes: examples of a client -> number of such clients.
      varieties: distinct labels of a client -> number of such clients; empty for regression.
      labels: class -> number of examples; empty for regression.
      features: name -> range and sum.
    """

    sizes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    varieties: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    labels: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    features: dict[str, FeatureSums] = dataclasses.field(default_factory=dict)

    def add(
        self, features: Mapping[str, np.ndarray], labels: np.ndarray, starts: np.ndarray
    ) -> Self:
        """Counts clients that lie one after the other.

        Args:
          features: name -> array [rows, *shape].
          labels: [rows], int64 classes or float32 values.
          starts: int64 [clients + 1], where each client's rows begin; the last is rows.
        """
        sizes = np.diff(starts)
        self.sizes.update(_counted(sizes))
        if labels.dtype == np.int64:
            classes = int(labels.max(initial=0)) + 1
            pairs = np.repeat(np.arange(len(sizes)) * classes, sizes) + labels
            found, counts = np.unique(pairs, return_counts=True)
            examples = np.bincount(found % classes, weights=counts).astype(int).tolist()
            self.labels.update({label: count for label, count in enumerate(examples) if count})
            self.varieties.update(_counted(np.bincount(found // classes, minlength=len(sizes))))
        for name, values in features.items():
            if values.size:
                part = FeatureSums(
                    minimum=float(values.min()),
                    maximum=float(values.max()),
                    total=_total(values),
                    count=values.size,
                )
                self.features.setdefault(name, FeatureSums()).merge(part)
        return self

    def merge(self, other: "SplitCounts") -> Self:
        """Adds the counts of another part of the split."""
        self.sizes.update(other.sizes)
        self.varieties.update(other.varieties)
        self.labels.update(other.labels)
        for name, sums in other.features.items():
            self.features.setdefault(name, FeatureSums()).merge(sums)
        return self

    def to_json(self) -> dict[str, Any]:
        """What statistics.json says about the split."""
        return {
            "clients": sum(self.sizes.values()),
            "examples": sum(size * count for size, count in self.sizes.items()),
            "examples_per_client": _spread(self.sizes),
            "labels": {str(label): self.labels[label] for label in sorted(self.labels)} or None,
            "labels_per_client": _spread(self.varieties) if self.varieties else None,
            "features": {
                name: {
                    "min": sums.minimum,
                    "max": sums.maximum,
                    "mean": sums.total / sums.count,
                }
                for name, sums in sorted(self.features.items())
            },
        }


def to_json(counts: Mapping[str, SplitCounts], splits: tuple[str, ...]) -> dict[str, Any]:
    """The content of statistics.json."""
    return {
        "schema": 2,
        "private": False,
        "splits": {name: counts.get(name, SplitCounts()).to_json() for name in splits},
    }


def _total(values: np.ndarray) -> float:
    """The sum; of bytes by way of small integers, which is several times as fast."""
    if values.dtype != np.uint8 or values.ndim == 1:
        return float(values.sum(dtype=np.float64))
    return float(values.reshape(len(values), -1).sum(axis=0, dtype=np.uint32).sum(dtype=np.int64))


def _counted(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _spread(sizes: Mapping[int, int]) -> dict[str, int]:
    """The range of a histogram and its lower median."""
    half, seen, median = (sum(sizes.values()) + 1) // 2, 0, 0
    for size in sorted(sizes):
        seen += sizes[size]
        if seen >= half:
            median = size
            break
    return {"min": min(sizes, default=0), "p50": median, "max": max(sizes, default=0)}
