"""One portion of the input: read, checked and spilled; what was refused is listed."""

import collections
import dataclasses
import uuid
from collections.abc import Iterator
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.identity import Identifier
from privet.components.ingest.parse import parse_batch, parse_labels, tokens_of
from privet.components.ingest.partition import MISSING, client_name
from privet.components.ingest.problems import Problems
from privet.components.ingest.rejects import Rejects, refused_rows, write_rejects
from privet.components.ingest.sources import dispatch
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.spill import Rows, Spill, chunks, spill_path, to_rows, write_spill
from privet.components.shared import files
from privet.components.shared.errors import PrivetError
from privet.components.shared.prefetch import prefetched
from privet.components.shared.schema import Schema


@dataclasses.dataclass(frozen=True)
class Task:
    """A portion to read.

    Attributes:
      portion: what to read.
      spills: folder for the spills.
      rejects: file for the list of refused rows; not written if there are none.
      owners: file with the client number of each row of the portion (see partition.py).
    """

    portion: Portion
    spills: str
    rejects: str
    owners: str | None = None


@dataclasses.dataclass(frozen=True)
class Spilled:
    """What reading a portion gave.

    Attributes:
      task: the portion.
      spills: its accepted rows.
      rejects: what was read and refused.
      error: why the portion cannot be read. It crosses as a value: raised in a worker, a runner
        would try it again and wrap it in its own words.
    """

    task: Task
    spills: tuple[Spill, ...] = ()
    rejects: Rejects = dataclasses.field(default_factory=Rejects)
    error: str | None = None


def spill_portion(
    task: Task, config: IngestConfig, schema: Schema, identifier: Identifier
) -> Spilled:
    """Reads a portion and spills its rows."""
    try:
        return _spill(task, config, schema, identifier)
    except PrivetError as error:
        return Spilled(task, error=str(error))


def _spill(task: Task, config: IngestConfig, schema: Schema, identifier: Identifier) -> Spilled:
    reader = PortionReader(task, config, schema, identifier)
    portion, spills = task.portion, []
    for number, chunk in enumerate(chunks(reader, config.max_examples_per_client)):
        path = spill_path(task.spills)
        partition_rows = write_spill(chunk, path, config.shards)
        spills.append(
            Spill(portion.name, portion.first_row, number, portion.source, path, partition_rows)
        )
    return Spilled(task, tuple(spills), reader.rejects)


def read_batches(
    portion: Portion, config: IngestConfig, wanted: tuple[str, ...], rejects: Rejects
) -> Iterator[RowBatch]:
    """The batches of a portion, up to where its file is damaged if that is to be skipped."""
    try:
        yield from prefetched(dispatch.read(portion, config, wanted))
    except CorruptFileError as error:
        if config.corrupt_files == "fail":
            raise
        rejects.corrupt.append((error.source, error.reason))


def portion_labels(
    portion: Portion, config: IngestConfig, schema: Schema
) -> tuple[Portion, np.ndarray]:
    """The labels of all rows of a portion, for a partition; also those that will be refused.

    Returns:
      The portion, and int64 (MISSING where there is none) or float32 (NaN) labels by position.
    """
    label = schema.label
    missing = MISSING if label.classes is not None else np.nan
    parts: list[np.ndarray] = []
    count = 0
    for batch in read_batches(portion, config, (label.column,), Rejects()):
        problems = Problems(len(batch))
        labels = parse_labels(batch, label, problems)
        last = max([row.number for row in batch.malformed] + batch.numbers[-1:].tolist())
        part = np.full(last - portion.first_row - count, missing, label.dtype)
        part[batch.numbers - portion.first_row - count - 1] = np.where(
            problems.fine, labels, missing
        )
        parts.append(part)
        count += len(part)
    return portion, np.concatenate(parts) if parts else np.zeros(0, label.dtype)


def portion_tokens(
    portion: Portion, config: IngestConfig, schema: Schema
) -> dict[str, collections.Counter[str]]:
    """How often each string occurs, for every feature whose vocabulary is learned."""
    learning = {name: f for name, f in schema.features.items() if f.learn_vocabulary}
    wanted = tuple(dict.fromkeys(c for f in learning.values() for c in f.column_names))
    counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in learning}
    for batch in read_batches(portion, config, wanted, Rejects()):
        for name, feature in learning.items():
            problems = Problems(len(batch))
            tokens = tokens_of(batch, feature, problems)
            fine = problems.fine
            for row in np.flatnonzero(fine).tolist():
                counts[name].update(tokens[row])
    return counts


class PortionReader:
    """Iterates over the parsed batches of a portion, keeping account of what is refused."""

    def __init__(self, task: Task, config: IngestConfig, schema: Schema, identifier: Identifier):
        self.rejects = Rejects()
        self._task, self._config = task, config
        self._schema, self._identifier = schema, identifier

    def __iter__(self) -> Iterator[Rows]:
        task, config = self._task, self._config
        owners = None if task.owners is None else _read_owners(task.owners)
        wanted = config.columns(self._schema)
        with _ListOfRejects(task.rejects) as listed:
            for batch in read_batches(task.portion, config, wanted, self.rejects):
                if owners is not None:
                    batch = _with_owners(batch, owners, task.portion, config)
                parsed = parse_batch(batch, self._schema, config.split.column)
                self._refuse(batch, refused_rows(batch, parsed.problems), listed)
                yield to_rows(parsed, batch.numbers, task.portion.name, self._identifier)

    def _refuse(
        self, batch: RowBatch, refused: list[tuple[int, str]], listed: "_ListOfRejects"
    ) -> None:
        source, keep_values = self._task.portion.source, self._config.keep_rejected_rows
        self.rejects.add(source, len(batch) + len(batch.malformed), refused)
        if refused:
            write_rejects(listed.open(), source, batch, refused, keep_values=keep_values)


class _ListOfRejects:
    """A file that is there only if something was written, and only when it is whole."""

    def __init__(self, path: str):
        self._path, self._temporary = path, f"{path}.tmp-{uuid.uuid4().hex}"
        self._file: BinaryIO | None = None

    def open(self) -> BinaryIO:
        """The file, made when first needed."""
        if self._file is None:
            self._file = files.open_write(self._temporary)
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if error is None:
            files.rename(self._temporary, self._path)
        else:
            files.remove(self._temporary)


def _read_owners(path: str) -> np.ndarray:
    with files.open_read(path) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _with_owners(
    batch: RowBatch, owners: np.ndarray, portion: Portion, config: IngestConfig
) -> RowBatch:
    """The batch with the column of the simulated clients."""
    assert config.partition is not None  # owners come from it
    assert config.partition.clients is not None
    numbers = owners[batch.numbers - portion.first_row - 1].tolist()
    names = pa.array([client_name(number, config.partition.clients) for number in numbers])
    return dataclasses.replace(batch, columns={**batch.columns, config.client_column: names})
