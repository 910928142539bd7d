"""The settings of data that come without any, by what their columns are called.

`client_id` is the client, `label` what is to be predicted, every other column a feature. A column
`split` (in TFF's SQLite files `split_name`) divides the clients if it names eval ones.

The number of classes is learned from the clients' labels, so every feature is marked as learned,
and training with privacy refuses the store.
"""

import math

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privet.components.ingest import columns
from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import IngestConfig, SplitConfig
from privet.components.ingest.formats import Format
from privet.components.ingest.infer import infer_features
from privet.components.ingest.parse import parse_labels
from privet.components.ingest.problems import Problems
from privet.components.ingest.sources import dispatch, tff_sqlite
from privet.components.shared.errors import ConfigError, DataError
from privet.components.shared.schema import LABEL, LabelConfig
from privet.components.shared.storage import SPLITS

CLIENT_ID, SPLIT = "client_id", "split"

MAXIMUM_CLASSES = 10_000
"""Whole numbers up to here are classes; larger ones could be anything."""


def conventional_config(files: str, file_format: Format | None) -> IngestConfig:
    """Settings for files whose columns are named by the conventions; reads the labels once.

    Args:
      files: path or glob.
      file_format: of the files; by default what their endings say.

    Raises:
      ConfigError: the columns are not named so, or the labels are neither classes nor numbers.
      DataError: the files cannot be read.
    """
    config = IngestConfig(
        files=files, format=file_format, client_id=CLIENT_ID, label=LabelConfig(column=LABEL)
    )
    portions = dispatch.find_portions(config)
    types = dispatch.columns(portions[0], config)
    missing = [name for name in (CLIENT_ID, LABEL) if name not in types]
    if missing:
        raise ConfigError(
            f"{portions[0].source} comes without a schema and has no column {missing[0]!r}. Its "
            f"columns: {', '.join(list(types)[:8])}. Say what they are in a schema file "
            "(--schema: a JSON object with client_id, features and label, as under data)."
        )
    in_sqlite = dispatch.file_format(portions[0].source, config) == "tff_sqlite"
    split = tff_sqlite.SPLIT_NAME if in_sqlite else SPLIT
    wanted = (LABEL, split) if split in types else (LABEL,)
    labels, named = _Labels(), set[str]()
    for portion in portions:
        for batch in dispatch.read(portion, config, wanted):
            labels.add(batch)
            named |= _distinct(batch, split)
    first = next(iter(dispatch.read(portions[0], config, tuple(types))), None)
    if first is None:
        raise DataError(f"{portions[0].source} has no row.")
    by_column = SplitConfig(column=split)
    features = infer_features(types, first, msgspec.structs.replace(config, split=by_column))
    return msgspec.structs.replace(
        config,
        label=LabelConfig(column=LABEL, classes=labels.classes(portions[0].source)),
        features=features,
        learned_features=tuple(sorted(features)),
        split=by_column if "eval" in named else SplitConfig(),
    )


class _Labels:
    """What the labels of all rows have in common."""

    def __init__(self) -> None:
        self._whole, self._any = True, False
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, batch: RowBatch) -> None:
        """Looks at a batch; leaves out what is no number, which ingestion refuses later."""
        problems = Problems(len(batch))
        values = parse_labels(batch, LabelConfig(column=LABEL), problems)[problems.fine]
        if len(values):
            self._any = True
            self._whole = self._whole and bool((values == np.floor(values)).all())
            self._lowest = min(self._lowest, float(values.min()))
            self._highest = max(self._highest, float(values.max()))

    def classes(self, source: str) -> int | None:
        """How many classes there are; None for regression.

        Raises:
          ConfigError: no label is a number.
        """
        if not self._any:
            raise ConfigError(
                f"{source} comes without a schema, and no value of its column {LABEL!r} is a "
                "number. List the names of the classes in a schema file (--schema), with "
                "`label: {column, classes, names, by_name: true}`."
            )
        if not self._whole or self._lowest < 0 or self._highest >= MAXIMUM_CLASSES:
            return None
        return max(2, int(self._highest) + 1)


def _distinct(batch: RowBatch, split: str) -> set[str]:
    """The splits that the rows of a batch name."""
    column = batch.columns.get(split)
    if column is None:
        return set()
    strings = columns.to_strings(column, split, Problems(len(batch)))
    known = pc.is_in(strings, value_set=pa.array(SPLITS))
    return set(pc.unique(strings.filter(known)).to_pylist())
