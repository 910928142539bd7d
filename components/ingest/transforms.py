"""Ingestion on Beam: portions are read and spilled, then shards are merged and written."""

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam

from privet.components.ingest import merge, reading
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.identity import Identifier
from privet.components.ingest.merge import Merged
from privet.components.ingest.reading import Spilled, Task
from privet.components.ingest.spill import Spill
from privet.components.shared import files
from privet.components.shared.schema import Schema


def ingest(
    pipeline: beam.Pipeline,
    tasks: Sequence[Task],
    known: Sequence[Spill],
    config: IngestConfig,
    schema: Schema,
    salt_file: str | None,
    output: str,
    result: str,
) -> None:
    """Adds ingestion to a pipeline.

    Only references to spilled rows pass through the runner; the rows themselves go through
    files (see spill.py).

    Args:
      pipeline: the Beam pipeline.
      tasks: the portions to read.
      known: spills that an earlier run left (spans).
      config, schema: settings.
      salt_file: the secret of ids and choices; None for simulated clients.
      output: folder of the ClientExamples artifact; gets the splits.
      result: file for the pickled (list of Spilled, Merged).
    """
    spilled = (
        pipeline
        | "Portions" >> beam.Create(tasks)
        | "SpreadPortions" >> beam.Reshuffle()
        | "SpillPortion" >> beam.ParDo(_SpillPortion(config, schema, salt_file))
    )
    merged = (
        pipeline
        | "Shards" >> beam.Create(range(config.shards))
        | "SpreadShards" >> beam.Reshuffle()
        | "MergeShard"
        >> beam.ParDo(_MergeShard(config, schema, output), list(known), beam.pvalue.AsList(spilled))
        | "MergeSummaries" >> beam.CombineGlobally(_merge_all)
    )
    _ = (
        pipeline
        | "Result" >> beam.Create([result])
        | "WriteResult"
        >> beam.Map(_write, beam.pvalue.AsList(spilled), beam.pvalue.AsSingleton(merged))
    )


def gather(
    pipeline: beam.Pipeline, elements: Sequence[Any], function: Callable[[Any], Any], result: str
) -> None:
    """Applies a function to each element and writes the pickled list of results, in any order."""
    results = (
        pipeline
        | "Elements" >> beam.Create(elements)
        | "SpreadElements" >> beam.Reshuffle()
        | "Apply" >> beam.Map(function)
    )
    _ = (
        pipeline
        | "Result" >> beam.Create([result])
        | "WriteResult" >> beam.Map(_write_list, beam.pvalue.AsList(results))
    )


def pipeline_of(arguments: list[str]) -> beam.Pipeline:
    """A pipeline with Beam's options."""
    return beam.Pipeline(argv=arguments)


class _SpillPortion(beam.DoFn):
    """Task -> Spilled."""

    def __init__(self, config: IngestConfig, schema: Schema, salt_file: str | None):
        self._config, self._schema, self._salt_file = config, schema, salt_file

    def setup(self) -> None:
        self._identifier = Identifier(self._config, self._salt_file)

    def process(self, task: Task) -> Iterable[Spilled]:
        return [reading.spill_portion(task, self._config, self._schema, self._identifier)]


class _MergeShard(beam.DoFn):
    """Number of a shard, given all spills -> Merged."""

    def __init__(self, config: IngestConfig, schema: Schema, output: str):
        self._config, self._schema, self._output = config, schema, output

    def process(self, shard: int, known: list[Spill], spilled: list[Spilled]) -> Iterable[Merged]:
        if any(one.error for one in spilled):
            return []  # nothing to merge: the run ends with these errors
        spills = known + [spill for one in spilled for spill in one.spills]
        return [merge.merge_shard(shard, spills, self._config, self._schema, self._output)]


def _merge_all(parts: Iterable[Merged]) -> Merged:
    total = Merged()
    for part in parts:
        total.merge(part)
    return total


def _write(result: str, spilled: list[Spilled], merged: Merged) -> None:
    files.write_bytes(result, pickle.dumps((spilled, merged)))


def _write_list(result: str, values: list[Any]) -> None:
    files.write_bytes(result, pickle.dumps(values))
