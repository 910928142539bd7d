"""The whole of ingestion: find the rows, settle the schema, read, merge, judge what came out."""

import collections
import dataclasses
import functools
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privet.components.ingest import (
    dp_statistics,
    identity,
    infer,
    partition,
    reading,
    rejects,
    statistics,
)
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.merge import Merged
from privet.components.ingest.reading import Spilled, Task
from privet.components.ingest.rejects import Rejects
from privet.components.ingest.sources import dispatch
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.spans import SpanStore, Stamps, stamps_of
from privet.components.ingest.spill import Spill
from privet.components.shared import client_ids, files, layout, storage
from privet.components.shared.errors import ConfigError, DataError
from privet.components.shared.schema import Schema

MakePipeline = Callable[[], Any]
"""Gives a new Beam pipeline, which runs when its context ends."""

_SHOWN_CLIENTS = 60  # simulated clients whose labels the statistics list, for the report's picture


def ingest_to(
    config: IngestConfig, output: str, state: str, make_pipeline: MakePipeline
) -> dict[str, Any]:
    """Ingests per-client data into a store.

    Args:
      config: what to read and how.
      output: folder of the store (a ClientExamples artifact).
      state: folder of what outlives a run: the salt of client ids, and spans.
      make_pipeline: gives the Beam pipelines that do the work.

    Returns:
      The content of statistics.json.

    Raises:
      ConfigError: the features cannot be inferred, or the salt is missing.
      DataError: files or columns are missing, a file is damaged, or too much was refused.
    """
    work = files.join(output, "work")
    run = _Run(config, output, work, state, make_pipeline)
    try:
        return run.run()
    finally:
        files.remove_folder(work)


def survey(config: IngestConfig, make_pipeline: MakePipeline) -> tuple[Schema, int]:
    """What ingestion would find; reads all rows and keeps none.

    Returns:
      The schema, and the number of clients in train.

    Raises:
      ConfigError, DataError: as ingestion, but no row is too bad.
    """
    with tempfile.TemporaryDirectory() as work:
        run = _Run(config, work, work, work, make_pipeline)
        portions = find_portions(config)
        schema = settle_schema(portions, config, make_pipeline, work)
        tasks, _, _ = run.tasks({0: portions}, schema)
        identifier = identity.Identifier(config, None)  # counting needs no secret
        examples: collections.Counter[str] = collections.Counter()
        elsewhere: set[str] = set()  # clients with a row outside train
        train = 1 << storage.SPLITS.index("train")
        for task in tasks:
            for rows in reading.PortionReader(task, config, schema, identifier):
                accepted = rows.take(np.flatnonzero(~rows.refused))
                inside = pa.array(accepted.splits == train)
                counts = pc.value_counts(accepted.ids.filter(inside)).to_pylist()
                examples.update({count["values"]: count["counts"] for count in counts})
                elsewhere.update(accepted.ids.filter(pc.invert(inside)).unique().to_pylist())
        least = config.min_examples_per_client
        clients = sum(count >= least for one, count in examples.items() if one not in elsewhere)
        return schema, clients


def settle_schema(
    portions: Sequence[Portion], config: IngestConfig, make_pipeline: MakePipeline, work: str
) -> Schema:
    """The schema, with inferred features and learned vocabularies filled in.

    Raises:
      ConfigError: the features cannot be inferred.
      DataError: a column is missing.
    """
    if config.features:
        schema = config.schema_of(config.features)
    else:
        schema = _infer_schema(portions, config)
    for portion in {portion.source: portion for portion in portions}.values():
        dispatch.check_columns(portion, config, config.columns(schema))
    learning = {name: f.learn_vocabulary for name, f in schema.features.items()}
    if not any(learning.values()):
        return schema
    count = functools.partial(reading.portion_tokens, config=config, schema=schema)
    totals: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for counts in _gathered(portions, count, make_pipeline, work):
        for name, counter in counts.items():
            totals[name].update(counter)
    vocabularies = {name: _most_frequent(totals[name], n) for name, n in learning.items() if n}
    if nothing := sorted(name for name, words in vocabularies.items() if not words):
        raise DataError(
            f"no row holds a string for data.features.{nothing[0]}, so there is no vocabulary to "
            "learn. Check its columns, or give a vocabulary."
        )
    return schema.with_learned(vocabularies)


def salt_path(config: IngestConfig, state: str) -> str | None:
    """The file with the secret salt of ids and choices; None for simulated clients.

    These have made-up names, which nothing needs to hide, and no privacy to lose.
    """
    if config.partition is not None and config.partition.kind != "by_feature":
        return None
    return config.salt_file or files.join(state, identity.SALT_FILE)


def prepare_salt(config: IngestConfig, state: str) -> bytes:
    """The secret of ids and choices, b"" if there is none; makes the default one at first."""
    path = salt_path(config, state)
    if path is None:
        return b""
    if config.salt_file is None:
        identity.make_salt(path)
    return client_ids.read_salt(path)


class _Run:
    """One ingestion; `run` is the story."""

    def __init__(
        self, config: IngestConfig, output: str, work: str, state: str, make_pipeline: MakePipeline
    ):
        self._config, self._output, self._work, self._state = config, output, work, state
        self._make_pipeline = make_pipeline
        self._rejects_of_failure = files.join(state, "rejects")

    def run(self) -> dict[str, Any]:
        config = self._config
        salt = prepare_salt(config, self._state)
        files.make_private_folder(self._state)
        files.remove_folder(self._rejects_of_failure)
        groups = dispatch.find_spans(config) if config.spans else {0: find_portions(config)}
        portions = sorted(portion for group in groups.values() for portion in group)
        schema = settle_schema(portions, config, self._make_pipeline, self._work)
        store = SpanStore.of(self._state, config, schema, salt) if config.spans else None
        stamps = {span: stamps_of(group) for span, group in groups.items()} if store else {}
        tasks, known, total = self.tasks(groups, schema, store, stamps)
        spilled, merged = self._ingest(tasks, known, schema)
        for one in spilled:
            total.merge(one.rejects)
        total.merge(merged.rejects)
        if store is not None:
            self._keep_spans(store, groups, stamps, spilled)
        storage.write_schema(self._output, schema)
        files.write_json(files.join(self._output, layout.REJECTS), total.to_json())
        self._judge(total)
        found = self._statistics(merged, schema)
        files.write_json(files.join(self._output, layout.STATISTICS), found)
        return found

    def tasks(
        self,
        groups: dict[int, list[Portion]],
        schema: Schema,
        store: SpanStore | None = None,
        stamps: Mapping[int, Stamps] = MappingProxyType({}),
    ) -> tuple[list[Task], list[Spill], Rejects]:
        """What is to be read, and what an earlier run left."""
        tasks: list[Task] = []
        known: list[Spill] = []
        total = Rejects()
        if store:
            store.keep(groups)
        for span, portions in groups.items():
            left = store.load(span, stamps[span]) if store else None
            if left:
                known += left[0]
                total.merge(left[1])
                continue
            spills = store.span_folder(span) if store else files.join(self._work, "spills")
            listed = spills if store else files.join(self._output, "rejects")
            tasks += [
                Task(portion, spills, files.join(listed, f"rejects-{number:05d}.jsonl"))
                for number, portion in enumerate(portions)
            ]
        if self._config.partition is not None and self._config.partition.kind != "by_feature":
            tasks = self._with_owners(tasks, schema)
        return tasks, known, total

    def _with_owners(self, tasks: list[Task], schema: Schema) -> list[Task]:
        """Gives every row a simulated client."""
        assert self._config.partition is not None
        label = functools.partial(reading.portion_labels, config=self._config, schema=schema)
        portions = [task.portion for task in tasks]
        found = dict(_gathered(portions, label, self._make_pipeline, self._work))
        order = sorted(portions)
        labels = [found[portion] for portion in order]
        owners = partition.assign_clients(np.concatenate(labels), self._config.partition)
        ends = np.cumsum([len(part) for part in labels])[:-1]
        paths: dict[Portion, str] = {}
        for number, (portion, part) in enumerate(zip(order, np.split(owners, ends), strict=True)):
            paths[portion] = files.join(self._work, f"owners-{number:05d}.npy")
            with files.open_write(paths[portion]) as file:
                np.lib.format.write_array(file, part, allow_pickle=False)
        return [dataclasses.replace(task, owners=paths[task.portion]) for task in tasks]

    def _ingest(
        self, tasks: list[Task], known: list[Spill], schema: Schema
    ) -> tuple[list[Spilled], Merged]:
        """Reads and merges.

        Raises:
          DataError: a portion could not be read, or a shard not be written.
        """
        from privet.components.ingest import transforms  # imports Beam, which is slow

        result = files.join(self._work, "result.pickle")
        salt_file = salt_path(self._config, self._state)
        with self._make_pipeline() as pipeline:
            transforms.ingest(
                pipeline, tasks, known, self._config, schema, salt_file, self._output, result
            )
        spilled, merged = pickle.loads(files.read_bytes(result))
        errors = sorted(one.error for one in spilled if one.error) + merged.errors
        if errors:
            more = f" ({len(errors) - 1} more like it.)" if len(errors) > 1 else ""
            raise DataError(errors[0] + more)
        return spilled, merged

    def _keep_spans(
        self,
        store: SpanStore,
        groups: dict[int, list[Portion]],
        stamps: Mapping[int, Stamps],
        spilled: list[Spilled],
    ) -> None:
        """Records the spans that were read, and copies the lists of all their refused rows."""
        for span, portions in groups.items():
            new = [one for one in spilled if one.task.portion in portions]
            if new:
                store.save(span, stamps[span], new)
            folder = store.span_folder(span)
            for path in files.match(files.join(folder, "rejects-*.jsonl")):
                number = path.rpartition("-")[2]
                name = f"rejects-span{span}-{number}"
                files.copy(path, files.join(self._output, "rejects", name))

    def _judge(self, total: Rejects) -> None:
        """Stops if too much was refused; the list of refused rows then outlives the artifact."""
        try:
            rejects.check_rejects(total, self._config)
        except DataError as error:
            kept = self._rejects_of_failure
            listed = files.match(files.join(self._output, "rejects", "*"))
            for path in listed:
                files.copy(path, files.join(kept, path.rpartition("/")[2]))
            raise DataError(f"{error} All refused rows are listed in {kept}.") from None
        clients = {
            split: len(storage.ClientStore(self._output, split)) for split in self._config.splits
        }
        rejects.check_splits(clients, self._config)
        if self._config.dp_statistics is not None:
            dp_statistics.check_delta(self._config.dp_statistics, sum(clients.values()))

    def _statistics(self, merged: Merged, schema: Schema) -> dict[str, Any]:
        """The content of statistics.json."""
        if merged.sums is not None:
            found = dp_statistics.release(merged.sums)
        else:
            found = statistics.to_json(merged.counts, self._config.splits)
            if self._config.partition is not None and schema.label.classes is not None:
                found["partition"] = self._picture(schema.label.classes)
        return found

    def _picture(self, classes: int) -> dict[str, Any]:
        """Labels of the first simulated clients in train."""
        assert self._config.partition is not None
        with storage.ClientStore(self._output, "train") as store:
            shown = sorted(store[:_SHOWN_CLIENTS], key=lambda reference: reference.client_id)
            counts = [
                np.bincount(client.labels, minlength=classes) for client in store.read_many(shown)
            ]
            return {
                "kind": self._config.partition.kind,
                "clients": len(store),
                "shown": [reference.client_id for reference in shown],
                "labels": {
                    str(label): [int(count[label]) for count in counts] for label in range(classes)
                },
            }


def find_portions(config: IngestConfig) -> list[Portion]:
    """All that is to be read, whether in spans or not."""
    if config.spans:
        return [portion for group in dispatch.find_spans(config).values() for portion in group]
    return dispatch.find_portions(config)


def _most_frequent(counts: collections.Counter[str], limit: int) -> tuple[str, ...]:
    """The most frequent strings, equally frequent ones in their own order."""
    return tuple(sorted(counts, key=lambda token: (-counts[token], token))[:limit])


def _infer_schema(portions: Sequence[Portion], config: IngestConfig) -> Schema:
    """The schema of the first portion that has a row."""
    for portion in portions:
        try:
            types = dispatch.columns(portion, config)
            first = next(iter(dispatch.read(portion, config, tuple(types))), None)
        except CorruptFileError:
            if config.corrupt_files == "fail":
                raise
            continue
        if first is None or not len(first):
            continue
        features = infer.infer_features(types, first, config)
        learned = infer.learned_from_values(features, types)
        if learned and config.dp_statistics is not None:
            raise ConfigError(
                f"data.features are not given, and {portion.source} has no type for "
                f"{', '.join(learned)}: learning it from the clients' values is covered by no "
                "epsilon, so data.dp_statistics could not hold. Give data.features."
            )
        schema = config.schema_of(features)
        return msgspec.structs.replace(schema, learned_features=tuple(learned))
    raise DataError(
        f"no row to infer data.features from ({len(portions)} portions, the first of "
        f"{portions[0].source}). Give data.features."
    )


def _gathered(
    portions: Sequence[Portion],
    function: Callable[[Portion], Any],
    make_pipeline: MakePipeline,
    work: str,
) -> list[Any]:
    """The function's result on each portion, computed on Beam."""
    from privet.components.ingest import transforms  # imports Beam, which most surveys do without

    result = files.join(work, "gathered.pickle")
    with make_pipeline() as pipeline:
        transforms.gather(pipeline, portions, function, result)
    return pickle.loads(files.read_bytes(result))
