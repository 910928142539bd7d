"""TFRecord files of tf.train.SequenceExample, one record per client: one row per step.

The features of a record's context (the client id, a split) belong to each of its rows; its
feature lists hold one feature per row, so all that are not empty must be equally long.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from privet.components.ingest.batches import Malformed, RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import examples
from privet.components.ingest.sources.batching import in_batches, size_of
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.tfrecords import read_records
from privet.components.shared.tf_example import SequenceExample

Row = Mapping[str, Any] | str
"""The values of a row by column, or why there are none."""

_NOT_ONE = "the record is not a tf.train.SequenceExample"
_NO_LISTS = "the record has no feature_lists (is it a tf.train.Example, of format tfrecord?)"
_SAMPLED_STEPS = 100  # of each record that is looked at for the columns


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """The whole file: where a record starts is known only after reading all before it."""
    path, name = source
    return [Portion(name=name, first_row=0, source=path)]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The context features and feature lists of the first records."""
    found: dict[str, set[examples.Shape]] = {}
    for record in itertools.islice(read_records(portion.source), examples.SAMPLE):
        example = _sequence_example(record)
        if example is None:
            continue
        for name, feature in example.context.feature.items():
            found.setdefault(name, set()).update(examples.shape_of(feature))
        for name, steps in example.feature_lists.feature_list.items():
            for feature in steps.feature[:_SAMPLED_STEPS]:
                found.setdefault(name, set()).update(examples.shape_of(feature))
    return {name: examples.arrow_type(shapes) for name, shapes in sorted(found.items())}


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows of a file, numbered across its records.

    A record that cannot be read counts as one row, which is malformed; one whose feature lists
    differ in length as so many malformed rows as the longest has.

    Raises:
      CorruptFileError: after the rows of the last record before a damaged one.
    """
    rows = (row for record in read_records(portion.source) for row in _rows(record, wanted))
    first = portion.first_row + 1
    for batch in in_batches(rows, _memory):
        numbered = list(enumerate(batch, first))
        good = [(number, row) for number, row in numbered if not isinstance(row, str)]
        yield RowBatch(
            np.array([number for number, _ in good], np.int64),
            {name: examples.as_column([row.get(name) for _, row in good]) for name in wanted},
            tuple(Malformed(number, row) for number, row in numbered if isinstance(row, str)),
        )
        first += len(batch)


def _rows(record: bytes, wanted: tuple[str, ...]) -> Iterator[Row]:
    example = _sequence_example(record)
    if example is None:
        yield _NOT_ONE
        return
    lists = {
        name: steps.feature
        for name, steps in example.feature_lists.feature_list.items()
        if len(steps.feature)
    }
    if not example.feature_lists.feature_list:
        yield _NO_LISTS
        return
    lengths = {len(steps) for steps in lists.values()}
    if len(lengths) > 1:
        reason = "the feature lists of the record differ in length"
        yield from itertools.repeat(reason, max(lengths))
        return
    context = example.context.feature
    shared = {
        name: examples.value_of(context[name])
        for name in wanted
        if name in context and name not in lists
    }
    steps_of = {name: lists[name] for name in wanted if name in lists}
    for step in range(max(lengths, default=0)):
        values = {name: examples.value_of(steps[step]) for name, steps in steps_of.items()}
        yield shared | values


def _sequence_example(record: bytes) -> Any:
    """The record as a tf.train.SequenceExample, or None if it is none."""
    try:
        return SequenceExample.FromString(record)
    except DecodeError:
        return None


def _memory(row: Row) -> int:
    return size_of(row) if isinstance(row, str) else sum(map(size_of, row.values()))
