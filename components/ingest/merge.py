"""From a shard's spilled rows to its clients: grouped, checked, bounded, written."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Self

import numpy as np
import pyarrow as pa

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.dp_statistics import BoundedSums
from privet.components.ingest.rejects import FIRST, Place, Rejects
from privet.components.ingest.spill import Rows, Spill, SpillReader, buckets_of, lowest_ranked
from privet.components.ingest.statistics import SplitCounts
from privet.components.shared import storage
from privet.components.shared.errors import DataError, PrivetError
from privet.components.shared.prefetch import prefetched
from privet.components.shared.schema import Schema

_MAXIMUM_RECORD = 256 << 20  # bytes of one client, which are in memory several times at once


@dataclasses.dataclass
class Merged:
    """What merging found, mergeable in any order.

    Attributes:
      rejects: the clients that were left out.
      counts: split -> exact statistics; empty with dp_statistics.
      sums: the clients' bounded contributions, with dp_statistics.
      errors: why shards could not be written; they cross as values (see reading.Spilled).
    """

    rejects: Rejects = dataclasses.field(default_factory=Rejects)
    counts: dict[str, SplitCounts] = dataclasses.field(default_factory=dict)
    sums: BoundedSums | None = None
    errors: list[str] = dataclasses.field(default_factory=list)

    def merge(self, other: "Merged") -> Self:
        """Adds another part."""
        self.rejects.merge(other.rejects)
        for name, counts in other.counts.items():
            self.counts.setdefault(name, SplitCounts()).merge(counts)
        if other.sums is not None:
            # A copy: a runner may combine the same parts again.
            self.sums = self.sums.merge(other.sums) if self.sums else copy.deepcopy(other.sums)
        self.errors = sorted(self.errors + other.errors)
        return self


@dataclasses.dataclass(frozen=True)
class _SplitClients:
    """Clients of one split, one after the other.

    Attributes:
      rows: their examples.
      starts: int64 [clients + 1].
    """

    rows: Rows
    starts: np.ndarray


def merge_shard(
    shard: int, spills: Sequence[Spill], config: IngestConfig, schema: Schema, output: str
) -> Merged:
    """Writes a shard of every split.

    Args:
      shard: its number.
      spills: all spills of the input.
      config, schema: settings.
      output: folder of the ClientExamples artifact.
    """
    try:
        return _merge(shard, spills, config, schema, output)
    except PrivetError as error:
        return Merged(errors=[str(error)])


def _merge(
    shard: int, spills: Sequence[Spill], config: IngestConfig, schema: Schema, output: str
) -> Merged:
    merged = Merged(sums=BoundedSums(config, schema) if config.dp_statistics else None)
    reader = SpillReader(spills, schema)
    buckets = buckets_of(config.shards)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                storage.ShardWriter(storage.split_directory(output, split), shard, config.shards)
            )
            for split in config.splits
        }
        partitions = (reader.read(shard * buckets + bucket) for bucket in range(buckets))
        for found in prefetched(partitions):
            if found is None:
                continue
            rows, places = found
            for split, clients in _group(rows, places, reader.spills, config, merged.rejects):
                _check_size(clients)
                if merged.sums is not None:
                    features, labels = clients.rows.features, clients.rows.labels
                    merged.sums.add_many(split, features, labels, clients.starts)
                for part, members in _divide(split, clients, config.split.personalization):
                    if merged.sums is None:
                        _count(part, members, merged.counts)
                    for client in _each_client(members):
                        record = storage.encode_client(client)
                        writers[part].write(client.client_id, len(client), record)
    return merged


def _group(
    rows: Rows,
    places: np.ndarray,
    spills: Sequence[Spill],
    config: IngestConfig,
    rejects: Rejects,
) -> Iterator[tuple[str, _SplitClients]]:
    """Groups the rows of a partition by client; yields the usable clients of each split."""
    distinct = rows.ids.dictionary_encode()
    codes = np.asarray(distinct.indices).astype(np.int64)
    clients = len(distinct.dictionary)
    accepted = np.bincount(codes[~rows.refused], minlength=clients)
    seen = np.zeros(clients, np.uint8)
    np.bitwise_or.at(seen, codes, rows.splits)
    torn = (seen & (seen - 1)).astype(bool)  # more than one bit
    empty, small = accepted == 0, (accepted < config.min_examples_per_client) & ~torn
    usable = ~(empty | torn | small)

    def first_of(those: np.ndarray) -> list[Place]:
        """A row of each of the first such clients."""
        if not those.any():
            return []
        rows_of_those = np.flatnonzero(those[codes])
        _, index = np.unique(codes[rows_of_those], return_index=True)
        at = rows_of_those[index].tolist()
        return sorted(Place(spills[places[i]].source, int(rows.numbers[i])) for i in at)[:FIRST]

    rejects.merge(
        Rejects(
            empty=int(empty.sum()),
            torn=int(torn.sum()),
            small=int((small & ~empty).sum()),
            first_empty=first_of(empty),
            first_torn=first_of(torn),
        )
    )
    kept = np.flatnonzero(usable[codes] & ~rows.refused)
    if config.max_examples_per_client is not None:
        lowest = lowest_ranked(codes[kept], rows.ranks[kept], config.max_examples_per_client)
        kept = kept[lowest]
    split = np.log2(seen[codes[kept]]).astype(np.int64)
    order = np.lexsort((codes[kept], rows.keys[kept], split))  # stable: rows stay in order
    kept, split = kept[order], split[order]
    ordered = rows.take(kept)
    starts = np.flatnonzero(np.diff(codes[kept], prepend=-1))
    for number in np.unique(split):
        first, last = np.searchsorted(split, [number, number + 1])
        inner = starts[(starts >= first) & (starts < last)]
        clients_of_split = _SplitClients(ordered.slice(first, last), np.append(inner, last) - first)
        yield storage.SPLITS[number], clients_of_split


def _divide(
    split: str, clients: _SplitClients, fraction: float
) -> Iterator[tuple[str, _SplitClients]]:
    """The clients with the split that they go to.

    With personalization, the highest ranked examples of each held-out client go to another one.
    """
    if split == "train" or not fraction:
        yield split, clients
        return
    sizes = np.diff(clients.starts)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((clients.rows.ranks, owner))
    position = np.empty(len(owner), np.int64)
    position[order] = np.arange(len(owner)) - np.repeat(clients.starts[:-1], sizes)
    staying = position < (sizes - (fraction * sizes).astype(np.int64))[owner]
    for part, chosen in ((split, staying), (f"{split}_adapt", ~staying)):
        counts = np.bincount(owner[chosen], minlength=len(sizes))
        starts = np.concatenate([[0], np.cumsum(counts[counts > 0])])
        if chosen.any():
            yield part, _SplitClients(clients.rows.take(np.flatnonzero(chosen)), starts)


def _count(split: str, clients: _SplitClients, counts: dict[str, SplitCounts]) -> None:
    split_counts = counts.setdefault(split, SplitCounts())
    split_counts.add(clients.rows.features, clients.rows.labels, clients.starts)


def _each_client(clients: _SplitClients) -> Iterator[storage.ClientData]:
    rows, starts = clients.rows, clients.starts.tolist()
    ids = rows.ids.take(pa.array(clients.starts[:-1])).to_pylist()
    for client_id, first, last in zip(ids, starts[:-1], starts[1:], strict=True):
        yield storage.ClientData(
            client_id=client_id,
            features={name: values[first:last] for name, values in rows.features.items()},
            labels=rows.labels[first:last],
        )


def _check_size(clients: _SplitClients) -> None:
    rows = clients.rows
    width = sum(values[:1].nbytes for values in rows.features.values()) + rows.labels.itemsize
    largest = int(np.diff(clients.starts).max())
    if largest * width > _MAXIMUM_RECORD:
        raise DataError(
            f"a client has {largest} examples of {width} bytes, more than the "
            f"{_MAXIMUM_RECORD >> 20} MiB that one record may hold. Bound the clients with "
            "data.max_examples_per_client."
        )
