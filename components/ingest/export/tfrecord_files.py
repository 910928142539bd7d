"""TFRecord files: an Example per row, or a SequenceExample per client."""

from collections.abc import Iterable

from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.examples import serialized_examples, serialized_sequences
from privet.components.ingest.export.table import Table
from privet.components.shared import files, tfrecord


def write_examples(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes a TFRecord file of tf.train.Examples."""
    with files.open_write(path) as file:
        for block in blocks:
            for record in serialized_examples(block, table, with_ids=True):
                tfrecord.write_frame(file, record)


def write_sequences(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes a TFRecord file of tf.train.SequenceExamples."""
    with files.open_write(path) as file:
        for block in blocks:
            for record in serialized_sequences(block, table):
                tfrecord.write_frame(file, record)
