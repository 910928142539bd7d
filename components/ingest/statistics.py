"""What ingestion found: counts per split and what was refused, and whether that is acceptable.

The counts are exact, so they are NOT private: they stay inside the trust boundary.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

from privet.components.ingest.config import IngestConfig
from privet.components.shared.errors import DataError

_SHOWN = 3  # refused rows and clients that an error message names


@dataclasses.dataclass
class SplitCounts:
    """Counts of one split, mergeable in any order.

    Attributes:
      sizes: examples of a client -> number of such clients.
      labels: class -> number of examples; empty for regression.
    """

    sizes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    labels: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def add(self, examples: int, labels: Iterable[int]) -> Self:
        """Counts one client."""
        self.sizes[examples] += 1
        self.labels.update(labels)
        return self

    def merge(self, other: "SplitCounts") -> Self:
        """Adds the counts of another part of the split."""
        self.sizes.update(other.sizes)
        self.labels.update(other.labels)
        return self

    def to_json(self) -> dict[str, Any]:
        """Clients, examples, the range of client sizes and the examples of each class."""
        clients = sum(self.sizes.values())
        return {
            "clients": clients,
            "examples": sum(size * count for size, count in self.sizes.items()),
            "examples_per_client": {
                "min": min(self.sizes, default=0),
                "p50": _median(self.sizes),
                "max": max(self.sizes, default=0),
            },
            "labels": {str(label): self.labels[label] for label in sorted(self.labels)} or None,
        }


def check_statistics(statistics: Mapping[str, Any], config: IngestConfig) -> None:
    """Decides whether the data are good enough to train on.

    Args:
      statistics: the content of statistics.json.
      config: the limits.

    Raises:
      DataError: too many rows were refused, a client kept no example or is in two splits, or
        a split has no client.
    """
    rejected, splits = statistics["rejected"], statistics["splits"]
    read = statistics["rows"]
    if rejected["rows"] > config.max_rejected_fraction * read:
        first = "; ".join(
            f"{row['source']} row {row['row']}: {row['reason']}"
            for row in rejected["first"][:_SHOWN]
        )
        raise DataError(
            f"{rejected['rows']} of {read} rows do not fit the schema, more than "
            f"data.max_rejected_fraction={config.max_rejected_fraction} allows. First: {first}. "
            "Correct the rows or data.features / data.label, or raise the fraction to skip them."
        )
    if rejected["empty_clients"] and not config.allow_empty_clients:
        raise DataError(
            f"{rejected['empty_clients']} clients have no valid example left, for example "
            f"{', '.join(map(repr, rejected['first_empty_clients'][:_SHOWN]))}. Correct their "
            "rows, or set data.allow_empty_clients: true to leave such clients out."
        )
    if rejected["clients_in_two_splits"]:
        raise DataError(
            f"{rejected['clients_in_two_splits']} clients have rows in more than one split, for "
            f"example {', '.join(map(repr, rejected['first_in_two_splits'][:_SHOWN]))}. Column "
            f"{config.split.column!r} must hold one split per client: clients are split, not rows."
        )
    for name in ("train", "eval"):
        if not splits[name]["clients"]:
            raise DataError(
                f"the {name} split has no client. Add clients, or change data.split "
                f"(eval={config.split.eval}, test={config.split.test}, "
                f"column={config.split.column})."
            )


def _median(sizes: Mapping[int, int]) -> int:
    """The lower median of a histogram."""
    half, seen = (sum(sizes.values()) + 1) // 2, 0
    for size in sorted(sizes):
        seen += sizes[size]
        if seen >= half:
            return size
    return 0
