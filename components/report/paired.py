"""Two evaluations client by client: how the same clients fare under either run's model."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from privet.components.report.worst_clients import per_client
from privet.components.shared.errors import StoreError
from privet.components.shared.storage import ClientStore

_BINS = 21  # odd: one bin around no difference
_TWO_SIDED_95 = 1.959964  # of a normal distribution


@dataclass(frozen=True)
class Evaluated:
    """One run's evaluation.

    Attributes:
      folder: of its FederatedEvaluation.
      examples: folder of its ClientExamples.
      split: that was evaluated.
      column: of per_client/ to compare.
      simulated: whether clients are made up by a partition, so that an id means nothing elsewhere.
    """

    folder: str
    examples: str
    split: str
    column: str
    simulated: bool = False


@dataclass(frozen=True, eq=False)
class Paired:
    """The clients of two evaluations.

    Attributes:
      same_examples: whether both hold the same examples client by client, whatever the clients are
        called; None if a client store is gone.
      by: what clients were paired by: their `id`, or their `examples` where ids differ, as they do
        under two salts; None if there is no pair.
      values: float64 [pairs, 2], the column in the first and the second evaluation.
      alone: clients without a partner, in the first and in the second.
    """

    same_examples: bool | None
    by: str | None
    values: np.ndarray
    alone: tuple[int, int]


def pair_clients(first: Evaluated, second: Evaluated) -> Paired:
    """Pairs the clients that two runs have evaluated."""
    values = [_values(one) for one in (first, second)]
    contents = [_contents(one) for one in (first, second)]
    known = all(contents)
    same = Counter(contents[0].values()) == Counter(contents[1].values()) if known else None
    by_id = values[0].keys() & values[1].keys()
    if by_id and (same or not (first.simulated or second.simulated)):
        return _paired(same, "id", values[0], values[1])
    if known:
        keyed = [_by_content(table, found) for table, found in zip(values, contents, strict=True)]
        if keyed[0].keys() & keyed[1].keys():
            return _paired(same, "examples", keyed[0], keyed[1])
    return Paired(same, None, np.empty((0, 2)), (len(values[0]), len(values[1])))


def describe(paired: Paired, higher_is_better: bool) -> dict[str, Any]:
    """The second run less the first, over the clients that both evaluated.

    Args:
      paired: at least one pair.
      higher_is_better: of the column.

    Returns:
      Number of `pairs` and how many clients are `alone`; how many pairs do `better`, `worse` and
      the `same` in the second; of the difference `mean`, `interval` (its 95 % interval over
      clients by the normal approximation; None for a single pair), percentiles and `histogram`.
    """
    difference = paired.values[:, 1] - paired.values[:, 0]
    gain = difference if higher_is_better else -difference
    mean, pairs = float(difference.mean()), len(difference)
    half = _TWO_SIDED_95 * float(difference.std(ddof=1)) / pairs**0.5 if pairs > 1 else None
    p10, p50, p90 = np.percentile(difference, [10, 50, 90]).tolist()
    limit = max(float(np.abs(difference).max()), 1e-9)
    counts, edges = np.histogram(difference, bins=_BINS, range=(-limit, limit))
    return {
        "by": paired.by,
        "pairs": pairs,
        "alone": list(paired.alone),
        "better": int((gain > 0).sum()),
        "worse": int((gain < 0).sum()),
        "same": int((gain == 0).sum()),
        "mean": mean,
        "interval": None if half is None else [mean - half, mean + half],
        "p10": p10,
        "p50": p50,
        "p90": p90,
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _values(one: Evaluated) -> dict[str, float]:
    """Client id -> the column, where it is defined."""
    table = per_client(one.folder, {"client_id": "client_id", one.column: "value"})
    rows = zip(table["client_id"].to_pylist(), table["value"].to_pylist(), strict=True)
    return {client: value for client, value in rows if value is not None}


def _contents(one: Evaluated) -> dict[str, bytes]:
    """Client id -> a digest of its examples; empty if the store is gone."""
    try:
        with ClientStore(one.examples, one.split) as store:
            return {
                client.client_id: _digest({**client.features, "": client.labels})
                for shard in store.shards
                for client in store.read_many(store.references(shard))
            }
    except StoreError:
        return {}


def _digest(columns: Mapping[str, np.ndarray]) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        values = columns[name]
        total.update(f"{name}\0{values.dtype.str}{values.shape}\0".encode())
        total.update(values.tobytes())
    return total.digest()


def _by_content(values: Mapping[str, float], contents: Mapping[str, bytes]) -> dict[Any, float]:
    """The values by what the clients hold; clients with equal examples are told apart by number."""
    seen: Counter[bytes] = Counter()
    keyed: dict[Any, float] = {}
    for client in sorted(values.keys() & contents.keys()):
        content = contents[client]
        keyed[content, seen[content]] = values[client]
        seen[content] += 1
    return keyed


def _paired(
    same: bool | None, by: str, first: Mapping[Any, float], second: Mapping[Any, float]
) -> Paired:
    both = sorted(first.keys() & second.keys())
    values = np.array([(first[one], second[one]) for one in both], np.float64)
    return Paired(same, by, values, (len(first) - len(both), len(second) - len(both)))
