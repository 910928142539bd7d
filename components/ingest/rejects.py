"""What ingestion refused: counted, listed with source and position, and whether it is too much.

The counts are exact, so they are NOT private.
"""

import base64
import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa

from privet.components.ingest import columns
from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.problems import Problems
from privet.components.shared.errors import DataError

FIRST = 5
"""How many refused rows, files and clients the summary names."""

_SHOWN = 3  # of them in an error message


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where a row is."""

    source: str
    row: int

    def __str__(self) -> str:
        return f"{self.source} row {self.row}"


@dataclasses.dataclass
class Rejects:
    """What was read and what was refused, mergeable in any order.

    Attributes:
      rows: rows read, refused ones included.
      reasons: reason -> refused rows.
      first: the first refused rows, each with its reason.
      corrupt: files that were skipped from some point on, with the reason.
      empty, torn, small: number of clients left out: all their rows were refused; they have rows
        in several splits; they have fewer than min_examples_per_client.
      first_empty, first_torn: a row of each of the first such clients.
    """

    rows: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    first: list[tuple[Place, str]] = dataclasses.field(default_factory=list)
    corrupt: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    empty: int = 0
    torn: int = 0
    small: int = 0
    first_empty: list[Place] = dataclasses.field(default_factory=list)
    first_torn: list[Place] = dataclasses.field(default_factory=list)

    @property
    def refused(self) -> int:
        """Number of refused rows."""
        return sum(self.reasons.values())

    def add(self, source: str, rows: int, refused: Sequence[tuple[int, str]]) -> None:
        """Counts rows that were read, and those of them that were refused (see refused_rows)."""
        self.rows += rows
        self.reasons.update(reason for _, reason in refused)
        first = [(Place(source, number), reason) for number, reason in refused[:FIRST]]
        self.first = sorted(self.first + first)[:FIRST]

    def merge(self, other: "Rejects") -> Self:
        """Adds another part."""
        self.rows += other.rows
        self.reasons.update(other.reasons)
        self.first = sorted(self.first + other.first)[:FIRST]
        self.corrupt = sorted(self.corrupt + other.corrupt)
        self.empty += other.empty
        self.torn += other.torn
        self.small += other.small
        self.first_empty = sorted(self.first_empty + other.first_empty)[:FIRST]
        self.first_torn = sorted(self.first_torn + other.first_torn)[:FIRST]
        return self

    def to_json(self) -> dict[str, Any]:
        """The content of rejects/summary.json."""

        def places(found: Iterable[Place]) -> list[dict[str, Any]]:
            return [dataclasses.asdict(place) for place in found]

        return {
            "schema": 1,
            "private": False,
            "rows": self.rows,
            "refused": self.refused,
            "reasons": dict(self.reasons.most_common()),
            "first": [{**dataclasses.asdict(place), "reason": why} for place, why in self.first],
            "corrupt_files": [{"source": source, "reason": why} for source, why in self.corrupt],
            "empty_clients": self.empty,
            "first_empty_clients": places(self.first_empty),
            "clients_in_two_splits": self.torn,
            "first_in_two_splits": places(self.first_torn),
            "clients_too_small": self.small,
        }


def refused_rows(batch: RowBatch, problems: Problems) -> list[tuple[int, str]]:
    """(row number, reason) of a batch's refused rows, in order."""
    found = [(int(batch.numbers[row]), reason) for row, reason in problems.found().items()]
    return sorted(found + [(row.number, row.reason) for row in batch.malformed])


def write_rejects(
    file: BinaryIO,
    source: str,
    batch: RowBatch,
    refused: Sequence[tuple[int, str]],
    *,
    keep_values: bool,
) -> None:
    """Lists a batch's refused rows as JSON lines; with their values only if asked."""
    raw = _values_of(batch, [number for number, _ in refused]) if keep_values else {}
    for number, reason in refused:
        line: dict[str, Any] = {"source": source, "row": number, "reason": reason}
        if keep_values:
            line["values"] = _plain(raw[number])
        file.write(json.dumps(line, allow_nan=False).encode() + b"\n")


def check_rejects(rejects: Rejects, config: IngestConfig) -> None:
    """Decides whether too much was refused.

    Raises:
      DataError: too many rows were refused, or a client kept no example or is in two splits.
    """
    if rejects.refused > config.max_reject_fraction * rejects.rows:
        reasons = "; ".join(f"{count} x {why}" for why, count in rejects.reasons.most_common(3))
        first = "; ".join(f"{place}: {why}" for place, why in rejects.first[:_SHOWN])
        raise DataError(
            f"{rejects.refused} of {rejects.rows} rows do not fit the schema, more than "
            f"data.max_reject_fraction={config.max_reject_fraction} allows. Most frequent: "
            f"{reasons}. First: {first}. Correct the rows or data.features / data.label, or raise "
            "the fraction to skip them."
        )
    if rejects.empty and not config.allow_empty_clients:
        raise DataError(
            f"{rejects.empty} clients have no valid example left, for example those of "
            f"{_listed(rejects.first_empty)}. Correct their rows, or set "
            "data.allow_empty_clients: true to leave such clients out."
        )
    if rejects.torn:
        raise DataError(
            f"{rejects.torn} clients have rows in more than one split, for example those of "
            f"{_listed(rejects.first_torn)}. Column {config.split.column!r} must hold one split "
            "per client: clients are split, not rows."
        )


def check_splits(clients: Mapping[str, int], config: IngestConfig) -> None:
    """Checks that there are clients to train and to evaluate on.

    Args:
      clients: split -> number of clients.
      config: settings.

    Raises:
      DataError: a split has no client.
    """
    for name in ("train", "eval"):
        if not clients.get(name):
            raise DataError(
                f"the {name} split has no client. Add clients, or change data.split "
                f"(eval={config.split.eval}, test={config.split.test}, "
                f"column={config.split.column})."
            )


def _listed(places: list[Place]) -> str:
    return ", ".join(map(str, places[:_SHOWN]))


def _values_of(batch: RowBatch, numbers: Sequence[int]) -> dict[int, Any]:
    """Number -> what the row holds: column -> value, or the text of a row that is none."""
    values: dict[int, Any] = {row.number: row.raw for row in batch.malformed}
    rows = np.flatnonzero(np.isin(batch.numbers, numbers))
    for row in rows.tolist():
        values[int(batch.numbers[row])] = {}
    for name, column in batch.columns.items():
        column = columns.decoded(column)
        if isinstance(column, pa.Array):
            found = column.take(pa.array(rows)).to_pylist()
        else:
            found = [column[row] for row in rows.tolist()]
        for row, value in zip(rows.tolist(), found, strict=True):
            values[int(batch.numbers[row])][name] = value
    return values


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (str, int)) else str(value)
