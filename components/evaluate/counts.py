"""Values and how often each occurs, in bounded memory whatever their number."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

LIMIT = 1 << 16
"""So many different values are told apart."""

_BINS = 20
_UPPER_BITS = np.int64(0x7FFF_FFFF_FFFF_FFFF)


class ValueCounts:
    """A mergeable distribution: exact up to LIMIT different values, then rounded to fewer digits.

    Beyond the limit, values are cut to the most bits of a float's mantissa that leave no more than
    LIMIT different ones: by a factor of 1 + 2^-b at b bits. That is b = 13 or more for values
    within a factor of 256 of each other; round ones such as 0, 0.5 and 1 stay exact. The bits
    depend on all values together, so neither the order of adding nor that of merging shows.
    """

    def __init__(self, limit: int = LIMIT):
        self._limit, self._cut = limit, 0  # bits that are cut off
        self._keys, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending_size = 0

    def add(self, values: np.ndarray) -> Self:
        """Adds values, float64 [values]; those that are not a number are left out."""
        kept = values[~np.isnan(values)]
        return self._take(_keys_of(kept), np.ones(len(kept), np.int64))

    def merge(self, other: "ValueCounts") -> Self:
        """Adds the values of another one."""
        other._compact()
        self._cut = max(self._cut, other._cut)
        return self._take(other._keys, other._counts)

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """The different values, rising, and how often each occurs."""
        self._compact()
        return _values_of(self._keys), self._counts

    def __getstate__(self) -> dict[str, Any]:
        self._compact()
        return self.__dict__

    def _take(self, keys: np.ndarray, counts: np.ndarray) -> Self:
        self._pending.append((keys, counts))
        self._pending_size += len(keys)
        if self._pending_size > self._limit:
            self._compact()
        return self

    def _compact(self) -> None:
        if not self._pending and not self._cut:
            return
        parts = [(self._keys, self._counts), *self._pending]
        keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._pending, self._pending_size = [], 0
        self._keys, self._counts = _joined(keys >> self._cut << self._cut, counts)
        while len(self._keys) > self._limit:
            self._cut += 1
            self._keys, self._counts = _joined(self._keys >> self._cut << self._cut, self._counts)


def distribution(counts: ValueCounts, higher_is_better: bool) -> dict[str, Any]:
    """A metric over clients, for whom it is defined; every client counts once.

    Percentiles are plain ones of the value (p10 is the bad tail only where higher is better), and
    linear between clients as NumPy's. `worst` is the minimum or the maximum, whichever is bad, and
    `worst_decile` the mean over the tenth of the clients (rounded up) that fare worst.
    """
    values, weights = counts.table()
    ends = np.cumsum(weights)
    if not len(values):
        empty: dict[str, Any] = dict.fromkeys((*_PERCENTILES, "worst", "worst_decile"))
        return {**empty, "clients": 0, "histogram": {"edges": [0.0, 1.0], "counts": [0]}}
    number = int(ends[-1])
    if not higher_is_better:
        values, weights = values[::-1], weights[::-1]
    tenth = -(-number // 10)
    among = np.diff(np.minimum(np.cumsum(weights), tenth), prepend=0)
    low, high = min(0.0, float(values.min())), float(values.max())
    high = max(high, 1.0 if higher_is_better else 1e-9)
    bars, edges = np.histogram(values, bins=_BINS, range=(low, high), weights=weights)
    return {
        **percentiles(counts),
        "worst": float(values[0]),
        "worst_decile": float(among @ values / tenth),
        "clients": number,
        "histogram": {"edges": edges.tolist(), "counts": bars.astype(np.int64).tolist()},
    }


_PERCENTILES: Mapping[str, float] = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}


def percentiles(counts: ValueCounts) -> dict[str, float]:
    """Those of the report, linear between values."""
    values, weights = counts.table()
    ends = np.cumsum(weights)

    def at(share: float) -> float:
        place = share * (ends[-1] - 1)
        below, above = (
            values[np.searchsorted(ends, number, side="right")]
            for number in (np.floor(place), np.ceil(place))
        )
        return float(below + (above - below) * (place % 1))

    return {name: at(share) for name, share in _PERCENTILES.items()}


def share_above(counts: ValueCounts, limit: float) -> float:
    """The share of the values that exceed a limit."""
    values, weights = counts.table()
    return float(weights[values > limit].sum() / weights.sum())


def share_below(counts: ValueCounts, limit: float) -> float:
    """The share of the values that are less than a limit."""
    values, weights = counts.table()
    return float(weights[values < limit].sum() / weights.sum())


def _joined(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal keys as one, in rising order."""
    different, places = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(different), np.int64)
    np.add.at(sums, places, counts)
    return different, sums


def _keys_of(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the values: their bits, those of negative ones turned over."""
    bits = (np.asarray(values, np.float64) + 0.0).view(np.int64)  # so that -0 is 0
    return np.where(bits < 0, bits ^ _UPPER_BITS, bits)


def _values_of(keys: np.ndarray) -> np.ndarray:
    return np.where(keys < 0, keys ^ _UPPER_BITS, keys).view(np.float64)
