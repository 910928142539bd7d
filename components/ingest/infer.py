"""Inferring features from the columns of a source, where the configuration lists none.

Only names, types and sizes are taken from the data. Ranges are not: the smallest and the largest
value that clients have would leak into every artifact. Nor are vocabularies.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from privet.components.ingest.batches import RowBatch
from privet.components.ingest.columns import is_bytes_type, is_list_type
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.kinds import Kind, NotInferredError, kind_of
from privet.components.shared.errors import ConfigError
from privet.components.shared.schema import LABEL, FeatureConfig

_SHORTEST_RUN = 3  # columns pixel_0, pixel_1, pixel_2 become one feature, two do not
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]{1,9})", re.DOTALL)


def infer_features(
    types: Mapping[str, pa.DataType | None], first: RowBatch, config: IngestConfig
) -> dict[str, FeatureConfig]:
    """A feature for every column other than client id, label, split and partition.

    Whole numbers become int64, others float32; lists and arrays keep their shape, and uint8 where
    that is their type. Columns called alike but for a number (pixel_0 .. pixel_63) become one
    feature.

    Args:
      types: the source's columns with the types that it tells, None where only values have one.
      first: the first rows, which are looked at where types do not tell enough.
      config: which columns are no features.

    Raises:
      ConfigError: a column holds text or something else that cannot be inferred, or there is none.
    """
    taken = {config.client_column, config.label.column, config.split.column}
    kinds: dict[str, Kind] = {}
    refused: list[str] = []
    for column, told in types.items():
        if column in taken:
            continue
        try:
            kinds[column] = kind_of(told, first.columns.get(column, ()))
        except NotInferredError as what:
            refused.append(f"{column} ({what})")
    if refused:
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise ConfigError(
            f"cannot infer features from column {', '.join(refused[:5])}{more}. List the features "
            "under data.features: give a text a `vocabulary` (or `learn_vocabulary`, which is not "
            "private), and leave out what is none."
        )
    if not kinds:
        raise ConfigError(
            "the data have no column beside the client id and the label, so there is nothing to "
            "learn from. Add columns, or correct data.client_id and data.label."
        )
    features: dict[str, FeatureConfig] = {}
    for columns, kind in _gathered(kinds):
        name = _distinct(_identifier(_title(columns)), features)
        features[name] = _feature(columns, kind)
    return features


def _feature(columns: tuple[str, ...], kind: Kind) -> FeatureConfig:
    feature = FeatureConfig(
        columns=_pattern(columns),
        dtype=kind.dtype,
        shape=kind.shape,
        encoding="image" if kind.image else "values",
    )
    if feature.column_names != columns:
        raise ConfigError(
            f"the name of column {columns[0]} looks like a range of columns. Rename it, or list "
            "the features under data.features and leave it out."
        )
    return feature


def _gathered(kinds: Mapping[str, Kind]) -> list[tuple[tuple[str, ...], Kind]]:
    """The columns of each feature, in order of appearance."""
    runs = {run[0]: run for run in _runs(kinds)}
    within = {column for run in runs.values() for column in run[1:]}
    gathered: list[tuple[tuple[str, ...], Kind]] = []
    for column in kinds:
        if column in within:
            continue
        columns = runs.get(column, (column,))
        real = any(kinds[name].dtype == "float32" for name in columns)
        kind = dataclasses.replace(kinds[column], dtype="float32") if real else kinds[column]
        gathered.append((columns, kind))
    return gathered


def learned_from_values(
    features: Mapping[str, FeatureConfig], types: Mapping[str, pa.DataType | None]
) -> list[str]:
    """Names of the inferred features that rest on clients' values: no type fixes them.

    One client's value could have changed them, and with them what is kept of all others.
    """
    return sorted(
        name
        for name, feature in features.items()
        if any(not _is_fixed(types[column]) for column in feature.column_names)
    )


def _is_fixed(kind: pa.DataType | None) -> bool:
    """Whether the type alone says dtype and shape."""
    while kind is not None and pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind is not None and not is_list_type(kind) and not is_bytes_type(kind)


def _runs(kinds: Mapping[str, Kind]) -> Iterable[tuple[str, ...]]:
    """Columns with the same prefix and type and consecutive numbers, in order of the numbers.

    Whole and other numbers go together where the source has no types: a pixel that happens to
    be 0 in the first rows is still one of the pixels.
    """
    numbered: dict[tuple[str, Any], dict[int, str]] = {}
    for column, kind in kinds.items():
        match = _NUMBERED.fullmatch(column)
        if match and kind.shape is None:
            columns = numbered.setdefault((match["prefix"], kind.said), {})
            columns.setdefault(int(match["number"]), column)
    for columns in numbered.values():
        ordered = enumerate(sorted(columns))
        for _, run in itertools.groupby(ordered, key=lambda pair: pair[1] - pair[0]):
            names = tuple(columns[number] for _, number in run)
            if len(names) >= _SHORTEST_RUN:
                yield names


def _pattern(columns: tuple[str, ...]) -> str | tuple[str, ...]:
    """A range if that is what the columns are; numbers such as 007 are none."""
    first, last = (_NUMBERED.fullmatch(columns[index]) for index in (0, -1))
    if len(columns) > 1 and first and last:
        numbers = range(int(first["number"]), int(last["number"]) + 1)
        if columns == tuple(f"{first['prefix']}{number}" for number in numbers):
            return f"{first['prefix']}{{{first['number']}..{last['number']}}}"
    return columns if len(columns) > 1 else columns[0]


def _title(columns: tuple[str, ...]) -> str:
    match = _NUMBERED.fullmatch(columns[0]) if len(columns) > 1 else None
    return match["prefix"] if match else columns[0]


def _identifier(text: str) -> str:
    """A valid name of a feature.

    >>> _identifier("pixel_"), _identifier("1st value"), _identifier("label")
    ('pixel', 'feature_1st_value', 'label_feature')
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "feature"
    if name[0].isdigit():
        name = f"feature_{name}"
    return f"{name}_feature" if name == LABEL else name


def _distinct(name: str, used: Iterable[str]) -> str:
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in used)
