"""What an exported file looks like: its columns, and the configuration that reads it back."""

import dataclasses
import json
import math
from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.export.blocks import Block
from privet.components.ingest.formats import Format
from privet.components.shared.configuration import Config
from privet.components.shared.schema import LABEL, FeatureConfig, LabelConfig, Schema

_SPLIT = "split"
_SQLITE_COLUMNS = ("client_id", "split_name")  # as tff.simulation.datasets.SqlClientData has them


@dataclasses.dataclass(frozen=True)
class Column:
    """A feature's column, or the label's.

    Attributes:
      name: in the file.
      dtype: float32, int64 or uint8.
      size: None for one value per row; else every row holds a list of so many.
      source: the feature in the store, or LABEL.
      first: which of the feature's values (in C order) a column of one value holds.
    """

    name: str
    dtype: str
    size: int | None
    source: str
    first: int = 0

    def values(self, block: Block) -> np.ndarray:
        """The column of a block: [rows], or [rows, size]."""
        if self.source == LABEL:
            return block.labels
        flat = block.features[self.source].reshape(len(block), -1)
        return flat[:, self.first] if self.size is None else flat


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a file, and how it is read back.

    Attributes:
      client_id, split: names of the columns that say whose row it is, and in which split.
      columns: of the features in the schema's order; the label's is the last.
      features, label: what the file holds, as IngestConfig has it.
      learned_features: features with indices into a vocabulary learned from clients.
    """

    client_id: str
    split: str
    columns: tuple[Column, ...]
    features: dict[str, FeatureConfig]
    label: LabelConfig
    learned_features: tuple[str, ...]

    def to_json(self, file_format: Format, shards: int) -> str:
        """The `data` section, without `files`, that ingests the file into an equal store.

        Args:
          file_format: of the file.
          shards: files per split of the store.
        """
        values: dict[str, Any] = {
            "format": file_format,
            "client_id": self.client_id,
            "client_ids": "exact",  # they have been hashed already, unless exact ones were wanted
            "features": {name: _without_defaults(one) for name, one in self.features.items()},
            "label": _without_defaults(self.label),
            "split": {"column": self.split},
            "shards": shards,
        }
        if self.learned_features:
            values["learned_features"] = list(self.learned_features)
        IngestConfig.from_mapping({**values, "files": "-"})  # it must be one that can be read
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def table_of(schema: Schema, file_format: Format) -> Table:
    """The table that holds the examples of a schema.

    Columns keep the names that they had in the source, except where the format's own columns or
    the spreading of a list over several columns (CSV) would meet them.
    """
    taken = set(schema.columns)
    client_id, split = schema.client_id, _unused(_SPLIT, taken)
    if file_format == "tff_sqlite":
        client_id, split = _SQLITE_COLUMNS
        taken |= set(_SQLITE_COLUMNS)
    reserved = {client_id, split}
    columns: list[Column] = []
    features: dict[str, FeatureConfig] = {}
    for name, feature in schema.features.items():
        names = _renamed(feature.column_names, reserved, taken)
        written: str | tuple[str, ...] = names
        if names == feature.column_names:
            written = feature.columns
        size = math.prod(feature.example_shape)
        if len(names) < size and file_format == "csv":
            base = _unused_base(names[0], size, taken)
            names = tuple(f"{base}_{index}" for index in range(size))
            pattern = f"{base}_{{0..{size - 1}}}"
            written = pattern if FeatureConfig(columns=pattern).column_names == names else names
            taken |= set(names)
        if len(names) < size:
            columns.append(Column(names[0], feature.dtype, size, name))
        else:
            columns += [
                Column(column, feature.dtype, None, name, index)
                for index, column in enumerate(names)
            ]
        public = name not in schema.learned_features
        features[name] = _as_numbers(feature, written, public=public)
    (label_name,) = _renamed((schema.label.column,), reserved, taken)
    columns.append(Column(label_name, schema.label.dtype, None, LABEL))
    return Table(
        client_id=client_id,
        split=split,
        columns=tuple(columns),
        features=features,
        label=msgspec.structs.replace(schema.label, column=label_name, by_name=False),
        learned_features=schema.learned_features,
    )


def _as_numbers(
    feature: FeatureConfig, columns: str | tuple[str, ...], *, public: bool
) -> FeatureConfig:
    """The feature as the store holds it: decoded, looked up, with nothing missing.

    Args:
      feature: as it was ingested.
      columns: its columns in the file.
      public: whether its vocabulary, if it has one, is public, and so is the range of indices.
    """
    low, high = feature.minimum, feature.maximum
    if feature.vocabulary is not None and public:
        low, high = feature.index_range
    return FeatureConfig(
        columns=columns, dtype=feature.dtype, shape=feature.shape, minimum=low, maximum=high
    )


def _renamed(names: tuple[str, ...], reserved: Collection[str], taken: set[str]) -> tuple[str, ...]:
    """The names, with another one for each that is reserved; adds it to those taken."""
    result = []
    for name in names:
        new = _unused(name, taken) if name in reserved else name
        taken.add(new)
        result.append(new)
    return tuple(result)


def _unused(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _unused_base(name: str, size: int, taken: Collection[str]) -> str:
    """A name to which _0, _1, ... can be appended."""
    while any(f"{name}_{index}" in taken for index in range(size)):
        name += "_"
    return name


def _without_defaults(config: Config) -> dict[str, Any]:
    """The settings that were made, as plain values."""
    return {
        field.name: msgspec.to_builtins(getattr(config, field.name))
        for field in msgspec.structs.fields(config)
        if getattr(config, field.name) != field.default
    }
