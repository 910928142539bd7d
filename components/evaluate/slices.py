"""Dividing clients or examples into parts, each of which is measured."""

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from privet.components.evaluate.batches import Batch
from privet.components.evaluate.config import SliceConfig
from privet.components.shared import files
from privet.components.shared.client_ids import hashed_ids, read_salt
from privet.components.shared.errors import ConfigError, DataError
from privet.components.shared.schema import Schema

MOST_PARTS = 64
"""Parts of a slice; each takes memory for every replicate of the bootstrap."""

UNKNOWN = "unknown"
"""The part of clients that the file of attributes does not have."""


class Parts(NamedTuple):
    """How a slice divides a batch.

    Attributes:
      names: of parts; equal ones are the same part.
      codes: int64 [examples], position in `names`.
    """

    names: Sequence[str]
    codes: np.ndarray


Slicer = Callable[[Batch], Parts]


def build_slicers(
    slices: Sequence[SliceConfig], schema: Schema, salt_file: str | None = None
) -> dict[str, Slicer]:
    """Name of the slice -> how it divides a batch.

    Args:
      slices: settings.
      schema: of the examples.
      salt_file: that the store's client ids are hashed with; None if they are as in the source.

    Raises:
      ConfigError: a file of attributes cannot be read or does not have its columns.
    """
    return {one.name: _build(one, schema, salt_file) for one in slices}


def check_parts(name: str, parts: Mapping[str, Any]) -> None:
    """Refuses a slice that would not be small.

    Raises:
      DataError: it has too many parts.
    """
    if len(parts) > MOST_PARTS:
        shown = ", ".join(sorted(parts)[:5])
        raise DataError(
            f"evaluate.slices: {name} has more than {MOST_PARTS} different values ({shown}, ...). "
            "Give edges if they are numbers, or slice by something that has fewer."
        )


def interval_names(edges: Sequence[float]) -> list[str]:
    """Names of the intervals between edges.

    >>> interval_names([30, 60])
    ['below 30', '30 to 60', '60 and above']
    """
    shown = [f"{edge:g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
    return [f"below {shown[0]}", *between, f"{shown[-1]} and above"]


def _build(one: SliceConfig, schema: Schema, salt_file: str | None) -> Slicer:
    if one.by == "label":
        names = schema.label.class_names
        return lambda batch: Parts(names, batch.labels.astype(np.int64))
    if one.by == "examples":
        return lambda batch: _parts_of(batch.sizes, one.edges, batch.owners)
    if one.by == "attribute":
        return _by_attribute(one, salt_file)
    assert one.feature is not None  # the configuration checks it
    feature, column = schema.features[one.feature], one.feature
    words = feature.vocabulary
    first = 0 if feature.tokens == "whole" else 1

    def by_feature(batch: Batch) -> Parts:
        values = batch.features[column].reshape(len(batch.labels))
        parts = _parts_of(values, one.edges)
        if words is None:
            return parts
        known = [int(name) - first for name in parts.names]
        return Parts(
            [words[place] if 0 <= place < len(words) else UNKNOWN for place in known], parts.codes
        )

    return by_feature


def _parts_of(
    values: np.ndarray, edges: Sequence[float] | None, owners: np.ndarray | None = None
) -> Parts:
    """By interval, or every value for itself; values are of clients where there are owners."""
    if edges is not None:
        names, codes = interval_names(edges), np.searchsorted(edges, values, side="right")
    else:
        different, codes = np.unique(values, return_inverse=True)
        names = [f"{value:g}" if value.dtype.kind == "f" else str(value) for value in different]
    return Parts(names, codes if owners is None else codes[owners])


def _by_attribute(one: SliceConfig, salt_file: str | None) -> Slicer:
    attributes = _read_attributes(one, salt_file)
    names = sorted({*attributes.values(), UNKNOWN})
    places = {name: place for place, name in enumerate(names)}
    unknown = places[UNKNOWN]
    codes_of = {client_id: places[name] for client_id, name in attributes.items()}

    def by_attribute(batch: Batch) -> Parts:
        codes = [codes_of.get(client_id, unknown) for client_id in batch.client_ids]
        return Parts(names, np.array(codes, np.int64)[batch.owners])

    return by_attribute


def _read_attributes(one: SliceConfig, salt_file: str | None) -> dict[str, str]:
    """The store's client id -> part."""
    assert one.file is not None  # the configuration checks both
    assert one.column is not None
    table = _read_table(one)
    missing = {one.client_id, one.column} - set(table.column_names)
    if missing:
        raise ConfigError(
            f"evaluate.slices: {one.name}: {one.file} has no column {', '.join(sorted(missing))}; "
            f"it has {', '.join(table.column_names)}. Set client_id and column."
        )
    ids = [str(one_id) for one_id in table[one.client_id].to_pylist()]
    if salt_file is not None:
        ids = hashed_ids((one_id.encode() for one_id in ids), read_salt(salt_file))
    values = table[one.column].to_pylist()
    parts = dict(zip(ids, (_part_of(value, one) for value in values), strict=True))
    check_parts(one.name, dict.fromkeys(parts.values()))
    return parts


def _part_of(value: Any, one: SliceConfig) -> str:
    if value is None:
        return UNKNOWN
    if one.edges is None:
        return str(value)
    try:
        return interval_names(one.edges)[bisect.bisect_right(one.edges, float(value))]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"evaluate.slices: {one.name}: {value!r} in {one.file} is no number, and edges want "
            "numbers. Leave them out, or take another column."
        ) from error


def _read_table(one: SliceConfig) -> Any:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    assert one.file is not None
    readers = {
        ".csv": pyarrow.csv.read_csv,
        ".json": pyarrow.json.read_json,
        ".jsonl": pyarrow.json.read_json,
        ".parquet": pyarrow.parquet.read_table,
    }
    ending = PurePosixPath(one.file).suffix
    if ending not in readers:
        raise ConfigError(
            f"evaluate.slices: {one.name}: file={one.file} ends in none of {', '.join(readers)}."
        )
    try:
        with files.open_read(one.file) as file:
            return readers[ending](file)
    except pa.ArrowException as error:
        raise ConfigError(
            f"evaluate.slices: {one.name}: {one.file} cannot be read: {error}"
        ) from error
