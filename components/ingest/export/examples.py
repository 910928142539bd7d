"""Rows as tf.train.Example, and clients as tf.train.SequenceExample."""

import itertools
from collections.abc import Iterator
from typing import Any

from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.rows import values_of
from privet.components.ingest.export.table import Column, Table


def serialized_examples(block: Block, table: Table, *, with_ids: bool) -> Iterator[bytes]:
    """Each row as a serialized tf.train.Example: a feature per column.

    Args:
      block: the rows.
      table: the columns.
      with_ids: whether there are features for the client id and the split, too.
    """
    import tensorflow as tf

    split = block.split.encode()
    for client_id, row in zip(block.row_ids, values_of(block, table), strict=True):
        example = tf.train.Example()
        features = example.features.feature
        if with_ids:
            features[table.client_id].bytes_list.value.append(client_id.encode())
            features[table.split].bytes_list.value.append(split)
        for column, values in zip(table.columns, row, strict=True):
            _fill(features[column.name], column, values)
        yield example.SerializeToString(deterministic=True)


def serialized_sequences(block: Block, table: Table) -> Iterator[bytes]:
    """Each client as a serialized tf.train.SequenceExample.

    Its context holds the client id and the split, its feature lists hold a step per row. A client
    that does not fit into one block gives several.
    """
    import tensorflow as tf

    rows = values_of(block, table)
    for client_id, count in zip(block.client_ids, block.counts.tolist(), strict=True):
        sequence = tf.train.SequenceExample()
        context = sequence.context.feature
        context[table.client_id].bytes_list.value.append(client_id.encode())
        context[table.split].bytes_list.value.append(block.split.encode())
        lists = [sequence.feature_lists.feature_list[one.name] for one in table.columns]
        for row in itertools.islice(rows, count):
            for column, steps, values in zip(table.columns, lists, row, strict=True):
                _fill(steps.feature.add(), column, values)
        yield sequence.SerializeToString(deterministic=True)


def _fill(feature: Any, column: Column, values: Any) -> None:
    """Puts a row's value or values into a tf.train.Feature."""
    kind = feature.float_list if column.dtype == "float32" else feature.int64_list
    if column.size is None:
        kind.value.append(values)
    else:
        kind.value.extend(values)
