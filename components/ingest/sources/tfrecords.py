"""TFRecord files of tf.train.Example: one row each."""

import itertools
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa

from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import examples
from privet.components.ingest.sources.batching import in_batches
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.streams import SourceStream
from privet.components.shared import tfrecord


def portions(source: tuple[str, str], config: IngestConfig) -> list[Portion]:
    """The whole file: where a record starts is known only after reading all before it."""
    path, name = source
    return [Portion(name=name, first_row=0, source=path)]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The features of the first records."""
    return examples.columns_of(itertools.islice(read_records(portion.source), examples.SAMPLE))


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows of a file; their numbers are the numbers of the records.

    Raises:
      CorruptFileError: after the last record before a damaged one.
    """
    first = portion.first_row + 1
    for records in in_batches(read_records(portion.source), _memory):
        yield examples.parse(range(first, first + len(records)), records, wanted)
        first += len(records)


def read_records(path: str) -> Iterator[bytes]:
    """The records of a TFRecord file, decompressed by its ending.

    Raises:
      CorruptFileError: after the last record before a damaged one; its row is the number of that
        record.
    """
    count = 0
    with SourceStream(path) as stream:
        try:
            for record in tfrecord.read_frames(cast(Any, stream)):
                yield record
                count += 1
        except tfrecord.DamagedFrameError as error:
            reason = str(error) if count else f"{error}; it may not be a TFRecord file"
            raise CorruptFileError(path, reason, count) from error
        except CorruptFileError as error:
            raise CorruptFileError(path, error.reason, count) from error


def _memory(record: bytes) -> int:
    return examples.MEMORY_PER_BYTE * len(record)
