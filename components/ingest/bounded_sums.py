"""Bounded sums over clients: what statistics with privacy are made of, before the noise.

Every client adds ONE vector of bounded L2 norm to every statistic; the vectors are added up
exactly, as integers, by any number of workers. `dp_statistics.py` adds the noise, once.

Sensitivity. With K = max_examples_per_client, adding or removing one client changes the sums of
one split by that client's vector. At most K of its examples count, so the L2 norm is at most

    clients               1      the number 1
    examples              K      the number of its counted examples
    examples_per_client   1      one bin of the histogram is 1
    labels                K      whole numbers >= 0 that add up to at most K, and such a vector's
                                 L2 norm is at most its sum; reached when all labels are equal
    mean of a feature     K S    at most K numbers in [-S, S]: each example's mean value, mapped
                                 from the public range to [-1, 1], in units of 1 / S
    its histogram         K E    whole numbers >= 0 that add up to at most K E, for E values per
                                 example; reached when all values fall into one bin

and each bound is reached by some client. A client is in exactly one of train, eval and test, so
the splits compose in parallel: every split's sums get the noise of the whole budget. The
statistics of a split compose in sequence, as that many Gaussian mechanisms of one multiplier.

Sums are whole numbers, so they do not depend on the order of addition, and one client cannot
change how another one's contribution is rounded (Casacuberta et al., 2022, "Widespread
Underestimation of Sensitivity in Differentially Private Libraries").
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Self

import numpy as np

from privet.components.ingest.config import IngestConfig
from privet.components.shared.schema import FeatureConfig, Schema
from privet.components.shared.storage import SPLITS, ClientData

MEAN_STEPS = 1 << 20
"""S: steps from the middle of a public range to its end, in which means are added up."""

HISTOGRAM_BINS = 10

_CHUNK_VALUES = 1 << 20  # values at a time: what the processor's caches take


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A vector that is summed over the clients of a split.

    Attributes:
      name: `clients`, `examples`, `examples_per_client`, `labels`, `<feature>.mean`,
        `<feature>.histogram`.
      size: length of the vector.
      sensitivity: largest L2 norm of one client's vector, in units of the sum.
    """

    name: str
    size: int
    sensitivity: int


def public_range(feature: FeatureConfig) -> tuple[float, float] | None:
    """The range of a feature's values as far as it is public, or None."""
    if feature.is_text:
        return None
    low, high = feature.minimum, feature.maximum
    if feature.dtype == "uint8":
        low, high = 0.0 if low is None else low, 255.0 if high is None else high
    if low is None or high is None or not 0 < high - low < math.inf:
        return None  # a range of one value has nothing to tell
    return float(low), float(high)


def has_public_vocabulary(schema: Schema, name: str) -> bool:
    """Whether a feature's values are indices that mean something without looking at the data."""
    return schema.features[name].vocabulary is not None and name not in schema.learned_features


def statistics_of(schema: Schema, max_examples_per_client: int) -> tuple[Statistic, ...]:
    """What is released of every split, in the order in which noise is drawn.

    Args:
      schema: only what it makes public (classes, ranges, vocabularies) can be released.
      max_examples_per_client: a client counts with at most so many examples.
    """
    most = max_examples_per_client
    found = [
        Statistic("clients", 1, 1),
        Statistic("examples", 1, most),
        Statistic("examples_per_client", len(size_edges(most)) - 1, 1),
    ]
    if schema.label.classes is not None:
        found.append(Statistic("labels", schema.label.classes, most))
    for name, feature in schema.features.items():
        values = most * math.prod(feature.example_shape)
        if public_range(feature) is not None:
            found.append(Statistic(f"{name}.mean", 1, most * MEAN_STEPS))
            found.append(Statistic(f"{name}.histogram", HISTOGRAM_BINS, values))
        elif has_public_vocabulary(schema, name):
            found.append(Statistic(f"{name}.histogram", feature.index_range[1] + 1, values))
    return tuple(found)


def size_edges(max_examples_per_client: int) -> list[int]:
    """Edges of the bins of examples per client: powers of two; the last bin holds the cap.

    >>> size_edges(5)
    [1, 2, 4, 6]
    """
    powers = [1 << power for power in range(max_examples_per_client.bit_length())]
    return [*powers, max_examples_per_client + 1]


class BoundedSums:
    """The sums of the clients' bounded vectors: what each worker adds up, and merges.

    Attributes:
      schema: of the examples.
      config: what to release.
      sums: split -> statistic's name -> int64 [size]. Every split is there from the start, since
        which of them have clients is the clients' secret.
    """

    def __init__(self, config: IngestConfig, schema: Schema):
        """Starts with no client.

        Args:
          config: of ingestion, with dp_statistics.
          schema: of the examples.
        """
        assert config.dp_statistics is not None
        self.config = config.dp_statistics
        self.schema = schema
        self.statistics = statistics_of(schema, self.config.max_examples_per_client)
        self.sums = {
            split: {one.name: np.zeros(one.size, np.int64) for one in self.statistics}
            for split in SPLITS
            if split in config.splits
        }

    def add(self, split: str, client: ClientData) -> None:
        """Adds one client with all its examples; see add_many."""
        self.add_many(split, client.features, client.labels, np.array([0, len(client)]))

    def add_many(
        self,
        split: str,
        features: Mapping[str, np.ndarray],
        labels: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        """Adds clients that lie one after the other.

        A client may be added once and to one split only. With personalization it is added to the
        held-out split (not to its `_adapt` split) with the examples of both.

        Args:
          split: train, eval or test.
          features: name -> [rows, *shape].
          labels: [rows].
          starts: int64 [clients + 1]; client i has the rows from starts[i] to starts[i + 1], of
            which there is at least one.
        """
        sums, most = self.sums[split], self.config.max_examples_per_client
        sizes = np.diff(starts)
        assert sizes.size == 0 or (sizes.min() >= 1 and starts[0] == 0)
        counted = np.minimum(sizes, most)
        sums["clients"] += len(sizes)
        sums["examples"] += counted.sum()
        bins = np.searchsorted(size_edges(most), counted, side="right") - 1
        sums["examples_per_client"] += np.bincount(bins, minlength=len(sums["examples_per_client"]))
        rows = None if np.array_equal(sizes, counted) else _counted_rows(starts, counted)
        if "labels" in sums:
            for chunk in _chunks(labels, rows):
                sums["labels"] += _counts(chunk, len(sums["labels"]))
        for name, feature in self.schema.features.items():
            self._add_feature(sums, name, feature, features[name], rows)

    def merge(self, other: "BoundedSums") -> Self:
        """Adds the clients of another part, in place."""
        for split, sums in other.sums.items():
            for name, values in sums.items():
                self.sums[split][name] += values
        return self

    def _add_feature(
        self,
        sums: dict[str, np.ndarray],
        name: str,
        feature: FeatureConfig,
        values: np.ndarray,
        rows: np.ndarray | None,
    ) -> None:
        bounds = public_range(feature)
        mean, histogram = sums.get(f"{name}.mean"), sums.get(f"{name}.histogram")
        if histogram is None:
            return  # nothing about it is public
        for chunk in _chunks(values, rows):
            if mean is None or bounds is None:
                histogram += _counts(chunk, len(histogram))
            elif chunk.dtype == np.uint8 and bounds == (0.0, 255.0):
                mean += _byte_means(chunk)
                histogram += _byte_counts(chunk)
            else:
                clipped = _clip(chunk, *bounds)
                mean += _scaled_means(clipped, *bounds)
                histogram += _bin_counts(clipped, *bounds)


def _counted_rows(starts: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Positions of the rows that count: all of a client, or as many at even distances.

    Which ones depends on the client's own rows only, or sensitivity would not hold.
    """
    ends = np.cumsum(counted)
    place = np.arange(ends[-1]) - np.repeat(ends - counted, counted)
    sizes, kept = np.repeat(np.diff(starts), counted), np.repeat(counted, counted)
    return np.repeat(starts[:-1], counted) + place * sizes // kept


def _chunks(values: np.ndarray, rows: np.ndarray | None) -> Iterator[np.ndarray]:
    """The (chosen) rows as [rows, values per row], a bounded number of values at a time."""
    width = math.prod(values.shape[1:])
    step = max(1, _CHUNK_VALUES // width)
    for start in range(0, len(values) if rows is None else len(rows), step):
        part = slice(start, start + step)
        yield (values[part] if rows is None else values[rows[part]]).reshape(-1, width)


def _counts(values: np.ndarray, size: int) -> np.ndarray:
    """How often each of 0 to size - 1 occurs. What is outside counts as the nearest."""
    return np.bincount(np.clip(values.ravel(), 0, size - 1), minlength=size)


def _clip(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """As float64 in [low, high]; NaN as low. Every number has a bounded contribution."""
    return np.fmin(np.fmax(values.astype(np.float64), low), high)


def _scaled_means(clipped: np.ndarray, low: float, high: float) -> int:
    """The sum over rows of the row's mean, mapped to [-MEAN_STEPS, MEAN_STEPS] and rounded."""
    half = (high - low) / 2
    scaled = np.rint((clipped - (low + half)) / half * MEAN_STEPS)
    scaled = _clip(scaled, -MEAN_STEPS, MEAN_STEPS).astype(np.int64)
    return _rounded_division(scaled.sum(axis=1), clipped.shape[1])


def _bin_counts(clipped: np.ndarray, low: float, high: float) -> np.ndarray:
    bins = ((clipped - low) * (HISTOGRAM_BINS / (high - low))).astype(np.int64)
    return _counts(bins, HISTOGRAM_BINS)


def _byte_means(values: np.ndarray) -> int:
    """As _scaled_means, for bytes in 0..255."""
    width = values.shape[1]
    twice_off_middle = 2 * values.sum(axis=1, dtype=np.int64) - 255 * width
    return _rounded_division(twice_off_middle * MEAN_STEPS, 255 * width)


def _byte_counts(values: np.ndarray) -> np.ndarray:
    """As _bin_counts, for bytes in 0..255."""
    counts = np.bincount(values.ravel(), minlength=256)
    return np.add.reduceat(counts, -(-np.arange(HISTOGRAM_BINS) * 255 // HISTOGRAM_BINS))


def _rounded_division(sums: np.ndarray, divisor: int) -> int:
    """The sum of the quotients, each rounded to a whole number."""
    return int(((sums + divisor // 2) // divisor).sum())
