"""Parsed rows on disk between reading and merging, already divided by where clients will lie.

Rows reach their client through files, not through the runner's shuffle: one file per chunk of
input (about CHUNK_BYTES), an Arrow IPC file with one record batch per partition of the clients.
So a runner that keeps its shuffle in memory (Beam's in-process one does) stays bounded whatever
the size of the data, rows cross as arrays rather than one by one, and a worker that merges a
partition reads just its batches. A retried bundle writes other files; only those that a finished
bundle returned are read.
"""

import dataclasses
import math
import uuid
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from privet.components.ingest.identity import Identifier
from privet.components.ingest.parse import ParsedBatch
from privet.components.shared import files
from privet.components.shared.schema import Schema

CHUNK_BYTES = 32 << 20
"""Parsed bytes that are gathered before they are written."""

_ROW_OVERHEAD = 100  # bytes of a parsed row besides its features, roughly
_MAXIMUM_BUCKETS = 16
_PARTITIONS = 1024
_OPEN_FILES = 256


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows as columns, in the order of the source.

    Attributes:
      ids: the store's client ids.
      keys: uint64; where the client lies in the store.
      ranks: uint64; the lowest of a client are kept when it has too many.
      splits: uint8, one bit for each split that the client is known to be in.
      refused: bool; the row only says that a row of this client was refused.
      numbers: int64 position in the source.
      features: name -> array [rows, *shape].
      labels: [rows].
    """

    ids: pa.StringArray
    keys: np.ndarray
    ranks: np.ndarray
    splits: np.ndarray
    refused: np.ndarray
    numbers: np.ndarray
    features: dict[str, np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: np.ndarray) -> "Rows":
        """The rows at the positions."""
        return Rows(
            ids=self.ids.take(pa.array(rows)),
            keys=self.keys[rows],
            ranks=self.ranks[rows],
            splits=self.splits[rows],
            refused=self.refused[rows],
            numbers=self.numbers[rows],
            features={name: values[rows] for name, values in self.features.items()},
            labels=self.labels[rows],
        )

    def slice(self, start: int, stop: int) -> "Rows":
        """The rows from start to stop, without copying."""
        return Rows(
            ids=self.ids[start:stop],
            keys=self.keys[start:stop],
            ranks=self.ranks[start:stop],
            splits=self.splits[start:stop],
            refused=self.refused[start:stop],
            numbers=self.numbers[start:stop],
            features={name: values[start:stop] for name, values in self.features.items()},
            labels=self.labels[start:stop],
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Rows"]) -> "Rows":
        """The parts one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            ids=pa.concat_arrays([part.ids for part in parts]),
            keys=joined("keys"),
            ranks=joined("ranks"),
            splits=joined("splits"),
            refused=joined("refused"),
            numbers=joined("numbers"),
            features={
                name: np.concatenate([part.features[name] for part in parts])
                for name in parts[0].features
            },
            labels=joined("labels"),
        )


@dataclasses.dataclass(frozen=True, order=True)
class Spill:
    """A file of rows. Sorted, the spills of an input are in the order of its rows.

    Attributes:
      name: of the source, wherever it lies.
      first_row, chunk: which part of the source.
      source: as people are told.
      path: the file.
      partition_rows: rows in each partition.
    """

    name: str
    first_row: int
    chunk: int
    source: str
    path: str
    partition_rows: tuple[int, ...]


def buckets_of(shards: int) -> int:
    """Partitions of a shard, a power of two: more where shards are few (and so large)."""
    return 2 ** int(math.log2(max(1, min(_MAXIMUM_BUCKETS, _PARTITIONS // shards))))


def to_rows(parsed: ParsedBatch, numbers: np.ndarray, name: str, identifier: Identifier) -> Rows:
    """The accepted rows of a batch, and one placeholder for each client with a refused one."""
    fine, named = parsed.problems.fine, parsed.named
    distinct = parsed.clients.filter(pa.array(named)).dictionary_encode()
    identities = identifier.identify(distinct.dictionary)
    codes = np.zeros(len(numbers), np.int64)
    codes[named] = np.asarray(distinct.indices)
    accepted = np.flatnonzero(fine)
    refused_clients, refused_rows = np.unique(codes[named & ~fine], return_index=True)
    placeholders = np.flatnonzero(named & ~fine)[refused_rows]
    rows = np.concatenate([accepted, placeholders])
    clients = np.concatenate([codes[accepted], refused_clients])
    splits = identities.splits[clients] if parsed.splits is None else parsed.splits[rows]
    refused = np.arange(len(rows)) >= len(accepted)
    whole = len(accepted) == len(numbers)
    return Rows(
        ids=identities.ids.take(pa.array(clients)),
        keys=identities.keys[clients],
        ranks=identifier.example_ranks(name, numbers[rows]),
        splits=np.where(refused, 0, np.left_shift(1, splits)).astype(np.uint8),
        refused=refused,
        numbers=numbers[rows],
        features=parsed.features
        if whole
        else {name: values[rows] for name, values in parsed.features.items()},
        labels=parsed.labels if whole else parsed.labels[rows],
    )


def chunks(batches: Iterable[Rows], limit: int | None) -> Iterator[Rows]:
    """Gathers batches into chunks, each bounded to `limit` examples of a client.

    A client that is everywhere thus never takes more than one chunk's room.
    """
    held: list[Rows] = []
    size = 0
    for batch in batches:
        if not len(batch):
            continue
        held.append(batch)
        size += _bytes_of(batch)
        if size >= CHUNK_BYTES:
            held = [bounded(Rows.concatenate(held), limit)]
            size = _bytes_of(held[0])
            if size >= CHUNK_BYTES // 2:  # the bound took little: write what there is
                yield held[0]
                held, size = [], 0
    if held:
        yield bounded(Rows.concatenate(held), limit)


def bounded(rows: Rows, limit: int | None) -> Rows:
    """Keeps the lowest ranked `limit` examples of each client, in their order.

    Which splits a client is in is kept, though the rows that said so may go.
    """
    if limit is None or len(rows) <= limit:
        return rows
    codes = np.asarray(rows.ids.dictionary_encode().indices)
    if np.bincount(codes).max() <= limit:
        return rows
    seen = np.zeros(int(codes.max()) + 1, np.uint8)
    np.bitwise_or.at(seen, codes, rows.splits)
    ranks = np.where(rows.refused, np.uint64(2**64 - 1), rows.ranks)  # placeholders go first
    known = dataclasses.replace(rows, splits=np.where(rows.refused, 0, seen[codes]))
    return known.take(np.flatnonzero(lowest_ranked(codes, ranks, limit)))


def lowest_ranked(codes: np.ndarray, ranks: np.ndarray, limit: int) -> np.ndarray:
    """bool [rows]: whether a row is among the `limit` lowest ranked ones of its client.

    Args:
      codes: int [rows], number of each row's client.
      ranks: uint64 [rows].
      limit: rows to keep of a client.
    """
    counts = np.bincount(codes)
    if counts.max(initial=0) <= limit:
        return np.ones(len(codes), bool)
    order = np.lexsort((ranks, codes))
    position = np.empty(len(codes), np.int64)
    position[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return position < limit


def write_spill(rows: Rows, path: str, shards: int) -> tuple[int, ...]:
    """Writes rows divided into partitions; returns the rows of each partition."""
    buckets = buckets_of(shards)
    shift = np.uint64(64 - int(math.log2(buckets)))
    bucket = rows.keys >> shift if buckets > 1 else np.zeros(len(rows), np.uint64)
    partition = (rows.keys % np.uint64(shards)) * np.uint64(buckets) + bucket
    narrow = np.uint16 if shards * buckets <= 1 << 16 else np.uint32
    order = np.argsort(partition.astype(narrow), kind="stable")
    table = _to_batch(rows.take(order))
    counts = np.bincount(partition.astype(np.int64), minlength=shards * buckets)
    with files.open_write(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        start = 0
        for count in counts.tolist():
            if count:
                writer.write_batch(table.slice(start, count))
            start += count
    return tuple(counts.tolist())


def spill_path(directory: str) -> str:
    """A new name for a spill."""
    return files.join(directory, f"rows-{uuid.uuid4().hex}.arrow")


class SpillReader:
    """Reads partitions out of spills, keeping some files open."""

    def __init__(self, spills: Iterable[Spill], schema: Schema):
        self.spills = sorted(spills)
        self._schema = schema
        self._readers: dict[str, pa.ipc.RecordBatchFileReader] = {}

    def read(self, partition: int) -> tuple[Rows, np.ndarray] | None:
        """The rows of a partition in the order of the input, and int64 [rows]: their spills."""
        found = [
            (index, self._read(spill, partition))
            for index, spill in enumerate(self.spills)
            if spill.partition_rows[partition]
        ]
        if not found:
            return None
        places = np.concatenate([np.full(len(rows), index) for index, rows in found])
        return Rows.concatenate([rows for _, rows in found]), places

    def _read(self, spill: Spill, partition: int) -> Rows:
        if spill.path not in self._readers:
            if len(self._readers) >= _OPEN_FILES:
                self._readers.pop(next(iter(self._readers)))
            self._readers[spill.path] = pa.ipc.open_file(files.open_arrow(spill.path))
        written = sum(1 for count in spill.partition_rows[:partition] if count)
        return _from_batch(self._readers[spill.path].get_batch(written), self._schema)


def _to_batch(rows: Rows) -> pa.RecordBatch:
    arrays = {
        "id": rows.ids,
        "key": pa.array(rows.keys),
        "rank": pa.array(rows.ranks),
        "splits": pa.array(rows.splits),
        "refused": pa.array(rows.refused.astype(np.uint8)),
        "number": pa.array(rows.numbers),
        "label": pa.array(rows.labels),
    }
    for name, values in rows.features.items():
        width = values.itemsize * math.prod(values.shape[1:])
        buffer = pa.py_buffer(np.ascontiguousarray(values))
        arrays[f"feature/{name}"] = pa.Array.from_buffers(
            pa.binary(width), len(values), [None, buffer]
        )
    return pa.RecordBatch.from_pydict(arrays)


def _from_batch(batch: pa.RecordBatch, schema: Schema) -> Rows:
    def column(name: str) -> np.ndarray:
        return batch.column(name).to_numpy()

    def feature(name: str) -> np.ndarray:
        config, array = schema.features[name], batch.column(f"feature/{name}")
        count = len(array) * math.prod(config.example_shape)
        start = array.offset * array.type.byte_width
        values = np.frombuffer(array.buffers()[1], config.dtype, count, start)
        return values.reshape(len(array), *config.example_shape)

    return Rows(
        ids=batch.column("id"),
        keys=column("key"),
        ranks=column("rank"),
        splits=column("splits"),
        refused=column("refused").astype(bool),
        numbers=column("number"),
        features={name: feature(name) for name in schema.features},
        labels=column("label"),
    )


def _bytes_of(rows: Rows) -> int:
    return sum(values.nbytes for values in rows.features.values()) + len(rows) * _ROW_OVERHEAD
