"""The Beam pipeline of ingestion: rows -> one record per client -> shards, index, statistics."""

import dataclasses
import json
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from privet.components.ingest import rows, sources
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.statistics import SplitCounts
from privet.components.shared import files, layout, storage

_FIRST = 5  # how many refused rows and clients the statistics name


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A valid row on its way to its client. `rank` orders the seeded uniform choice."""

    rank: int
    source: str
    row: int
    split: str | None
    example: rows.Example


def ingest(pipeline: beam.Pipeline, paths: list[str], config: IngestConfig, output: str) -> None:
    """Adds ingestion to a pipeline.

    Args:
      pipeline: the Beam pipeline.
      paths: the files to read, checked to have the columns.
      config: settings.
      output: folder of the ClientExamples artifact; gets the splits, rejects/ and
        statistics.json (the schema is written by the caller).
    """
    parsed = (
        pipeline
        | "Files" >> beam.Create(paths)
        | "SpreadFiles" >> beam.Reshuffle()
        | "ReadRows" >> beam.FlatMap(_read, config)
        | "ParseRows" >> beam.ParDo(_ParseRow(config)).with_outputs("rejected", main="kept")
    )
    # Before the bound, which might by chance leave rows of one split only.
    splits = (
        parsed.kept
        | "ClientSplit" >> beam.Map(lambda element: (element[0], element[1].split))
        | "DistinctSplits" >> beam.Distinct()
    )
    kept = parsed.kept | "BoundClient" >> _bounded(config.max_examples_per_client)
    grouped = (
        {
            "kept": kept,
            "splits": splits,
            "rejected": parsed.rejected | "RejectedClient" >> beam.Map(lambda row: (row[0], 1)),
        }
        | "GroupByClient" >> beam.CoGroupByKey()
        | "ToClient" >> beam.ParDo(_ToClient(config)).with_outputs("empty", "torn", main="clients")
    )
    _write_shards(grouped.clients, config, output)
    _write_rejects(parsed.rejected, output)
    _write_statistics(pipeline, parsed, grouped, config, output)


def _read(path: str, config: IngestConfig) -> Iterator[tuple[str, int, sources.Row]]:
    for number, row in sources.read_rows(path, config):
        yield path, number, row


class _ParseRow(beam.DoFn):
    """(source, number, row) -> (client, _Kept); tag `rejected`: (client, source, row, reason)."""

    def __init__(self, config: IngestConfig):
        self._config = config.to_json()

    def setup(self) -> None:
        self._parsed = IngestConfig.from_json(self._config)
        self._schema = self._parsed.schema

    def process(self, element: tuple[str, int, sources.Row]) -> Iterator[Any]:
        source, number, row = element
        client = ""
        try:
            client = rows.client_of(row, self._schema)
            column = self._parsed.split.column
            split = rows.split_of(row, column) if column else None
            example = rows.parse_example(row, self._schema)
        except rows.RowRejectedError as reason:
            yield beam.pvalue.TaggedOutput("rejected", (client, source, number, str(reason)))
            return
        name = posixpath.basename(source)  # a moved folder keeps the choice
        rank = storage.stable_hash("choice", self._parsed.split.seed, client, name, number)
        yield client, _Kept(rank, source, number, split, example)


def _bounded(limit: int | None) -> beam.PTransform:
    """(client, _Kept) -> (client, list of at most `limit` _Kept, chosen uniformly).

    The choice is the `limit` smallest hashed ranks, so it is seeded, the same on every runner,
    and a combiner: a hot client never has all its rows in one worker's memory.
    """
    if limit is None:
        return beam.GroupByKey()
    return beam.combiners.Top.PerKey(limit, key=lambda kept: kept.rank, reverse=True)


class _ToClient(beam.DoFn):
    """Joins a client's rows; tags `empty` and `torn` name clients that cannot be used."""

    def __init__(self, config: IngestConfig):
        self._config = config.to_json()

    def setup(self) -> None:
        self._parsed = IngestConfig.from_json(self._config)

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        client_id, groups = element
        kept = [row for group in groups["kept"] for row in group]
        if not kept:
            if client_id:
                yield beam.pvalue.TaggedOutput("empty", client_id)
            return
        kept.sort(key=lambda row: (row.source, row.row))
        split, *others = groups["splits"]
        if others:
            yield beam.pvalue.TaggedOutput("torn", client_id)
            return
        yield split or assign_split(client_id, self._parsed), _stack(client_id, kept, self._parsed)


def assign_split(client_id: str, config: IngestConfig) -> str:
    """The split of a client by the hash of its id: a stable, uniform division."""
    position = storage.stable_hash("split", config.split.seed, client_id) / 2**64
    if position < config.split.eval:
        return "eval"
    return "test" if position < config.split.eval + config.split.test else "train"


def _stack(client_id: str, kept: list[_Kept], config: IngestConfig) -> storage.ClientData:
    return storage.ClientData(
        client_id=client_id,
        features={
            name: np.stack([row.example.features[name] for row in kept]) for name in config.features
        },
        labels=np.array([row.example.label for row in kept], config.label.dtype),
    )


def _write_shards(clients: beam.PCollection, config: IngestConfig, output: str) -> None:
    """Writes every shard of every split, also those without a client."""
    shards = [(split, shard) for split in config.splits for shard in range(config.shards)]
    records = clients | "EncodeClient" >> beam.Map(_encode, config.shards)
    markers = (
        clients.pipeline
        | "Shards" >> beam.Create(shards)
        | "MarkShard" >> beam.Map(lambda shard: (shard, None))
    )
    _ = (
        (records, markers)
        | "WithEmptyShards" >> beam.Flatten()
        | "GroupByShard" >> beam.GroupByKey()
        | "WriteShard" >> beam.Map(_write_shard, output, config.shards)
    )


def _encode(element: tuple[str, storage.ClientData], shards: int) -> Any:
    split, client = element
    shard = storage.shard_of(client.client_id, shards)
    return (split, shard), (client.client_id, len(client), storage.encode_client(client))


def _write_shard(element: tuple[tuple[str, int], Iterable[Any]], output: str, shards: int) -> int:
    (split, shard), records = element
    directory = storage.split_directory(output, split)
    return storage.write_shard(directory, shard, shards, (r for r in records if r is not None))


def _write_rejects(rejected: beam.PCollection, output: str) -> None:
    """Lists refused rows by source, number and reason; never their values."""
    _ = (
        rejected
        | "RejectAsJson"
        >> beam.Map(lambda row: json.dumps({"source": row[1], "row": row[2], "reason": row[3]}))
        | "WriteRejects"
        >> beam.io.WriteToText(
            files.join(output, "rejects", "rejects"), file_name_suffix=".jsonl", skip_if_empty=True
        )
    )


class _CountClients(beam.CombineFn):
    """(split, ClientData) -> split -> SplitCounts."""

    def create_accumulator(self) -> dict[str, SplitCounts]:
        return {}

    def add_input(
        self, accumulator: dict[str, SplitCounts], element: tuple[str, storage.ClientData]
    ) -> dict[str, SplitCounts]:
        split, client = element
        labels = client.labels.tolist() if client.labels.dtype == np.int64 else []
        accumulator.setdefault(split, SplitCounts()).add(len(client), labels)
        return accumulator

    def merge_accumulators(
        self, accumulators: Iterable[dict[str, SplitCounts]]
    ) -> dict[str, SplitCounts]:
        merged: dict[str, SplitCounts] = {}
        for accumulator in accumulators:
            for split, counts in accumulator.items():
                merged.setdefault(split, SplitCounts()).merge(counts)
        return merged

    def extract_output(self, accumulator: dict[str, SplitCounts]) -> dict[str, SplitCounts]:
        return accumulator


def _write_statistics(
    pipeline: beam.Pipeline, parsed: Any, grouped: Any, config: IngestConfig, output: str
) -> None:
    """Joins all counts into statistics.json."""
    first_rows = parsed.rejected | "FirstRejected" >> beam.combiners.Top.Smallest(
        _FIRST, key=lambda row: (row[1], row[2])
    )
    reasons = (
        parsed.rejected
        | "Reason" >> beam.Map(lambda row: row[3])
        | "CountReasons" >> beam.combiners.Count.PerElement()
    )
    sides = {
        "counts": grouped.clients | "CountClients" >> beam.CombineGlobally(_CountClients()),
        "kept": parsed.kept | "CountKept" >> beam.combiners.Count.Globally(),
        "rejected": parsed.rejected | "CountRejected" >> beam.combiners.Count.Globally(),
        "first_rows": first_rows,
        "empty": grouped.empty | "CountEmpty" >> beam.combiners.Count.Globally(),
        "first_empty": grouped.empty | "FirstEmpty" >> beam.combiners.Top.Smallest(_FIRST),
        "torn": grouped.torn | "CountTorn" >> beam.combiners.Count.Globally(),
        "first_torn": grouped.torn | "FirstTorn" >> beam.combiners.Top.Smallest(_FIRST),
    }
    _ = (
        pipeline
        | "OneStatistics" >> beam.Create([output])
        | "WriteStatistics"
        >> beam.Map(
            _statistics,
            list(config.splits),
            reasons=beam.pvalue.AsList(reasons),
            **{name: beam.pvalue.AsSingleton(side) for name, side in sides.items()},
        )
    )


def _statistics(
    output: str,
    splits: list[str],
    *,
    counts: dict[str, SplitCounts],
    kept: int,
    rejected: int,
    reasons: list[tuple[str, int]],
    first_rows: list[Any],
    empty: int,
    first_empty: list[str],
    torn: int,
    first_torn: list[str],
) -> None:
    files.write_json(
        files.join(output, layout.STATISTICS),
        {
            "schema": 1,
            "private": False,
            "rows": kept + rejected,
            "splits": {name: counts.get(name, SplitCounts()).to_json() for name in splits},
            "rejected": {
                "rows": rejected,
                "reasons": dict(sorted(reasons)),
                "first": [
                    {"source": source, "row": row, "reason": reason}
                    for _, source, row, reason in first_rows
                ],
                "empty_clients": empty,
                "first_empty_clients": first_empty,
                "clients_in_two_splits": torn,
                "first_in_two_splits": first_torn,
            },
        },
    )
