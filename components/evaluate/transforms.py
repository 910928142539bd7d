"""The Beam pipeline of evaluation: every client of a split under every model, in one pass."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.utils.shared import Shared

from privet.components.evaluate import personalization, summary
from privet.components.evaluate.batches import batch_of, batches_of
from privet.components.evaluate.job import FLOAT, Job, plan_of
from privet.components.evaluate.measure import ClientValues, Plan, measure
from privet.components.evaluate.personalization import PersonalizationSummary, Personalized
from privet.components.evaluate.summary import Summary
from privet.components.shared import files, layout
from privet.components.shared.storage import ClientData, ClientStore, has_split

_ROWS = "rows"

Evaluated = tuple[Summary, PersonalizationSummary]
"""Any number of clients under every model, and before and after their own fine-tuning."""


def evaluate(pipeline: beam.Pipeline, job: Job, output: str) -> None:
    """Adds the evaluation of a split to a pipeline.

    Args:
      pipeline: the Beam pipeline.
      job: what is evaluated, and how.
      output: folder that gets evaluation.json, per_client/ (Parquet) and, for a release, its exact
        sums in layout.RELEASE_SUMS.
    """
    store = ClientStore(job.examples, job.split)
    evaluated = (
        pipeline
        | "ShardNames" >> beam.Create(list(store.shards))
        | "SpreadShards" >> beam.Reshuffle()
        | "EvaluateClients" >> beam.ParDo(_EvaluateClients(job)).with_outputs(_ROWS, main="parts")
    )
    _ = evaluated[_ROWS] | "WritePerClient" >> beam.io.WriteToParquetBatched(
        files.join(output, "per_client", "clients"),
        _row_schema(job, store),
        file_name_suffix=".parquet",
    )
    _ = (
        evaluated["parts"]
        | "Summarize" >> beam.CombineGlobally(_Summarize())
        | "WriteEvaluation" >> beam.Map(_write, job, store, output)
    )


class _EvaluateClients(beam.DoFn):
    """Shard name -> Evaluated of its clients, and tables with a row for each."""

    def __init__(self, job: Job):
        self._job = job
        self._shared = Shared()  # one set of models per process, however many threads

    def setup(self) -> None:
        job = self._job
        self._store = ClientStore(job.examples, job.split)
        self._set_apart: ClientStore | None = None
        adapting, config = f"{job.split}_adapt", job.config.personalization
        if config and config.share is None and has_split(job.examples, adapting):
            self._set_apart = ClientStore(job.examples, adapting)
        self._loaded = self._shared.acquire(self._load)

    def teardown(self) -> None:
        for store in (self._store, self._set_apart):
            if store is not None:
                store.close()

    def process(self, shard: str) -> Iterator[Any]:
        from privet.components.shared import predictors  # imports TensorFlow, in the worker

        plan, schema = self._loaded.plan, _row_schema(self._job, self._store)
        whole, personal = Summary(), PersonalizationSummary()
        for clients in batches_of(self._store.read_many(self._store.references(shard))):
            batch = batch_of(clients)
            scores = predictors.predict_with_all(self._loaded.predict, batch.features)
            found, values = measure(plan, batch, scores)
            whole.merge(found)
            columns = {"client_id": list(batch.client_ids), "examples": batch.sizes}
            columns |= _columns(values)
            tuned = self._personalized(clients)
            if tuned:
                part, own_values = personalization.summarize(plan, list(tuned.values()))
                personal.merge(part)
                columns |= _personal_columns(tuned, own_values, len(clients))
            yield beam.pvalue.TaggedOutput(_ROWS, _table(columns, schema, len(clients)))
        yield whole, personal

    def _personalized(self, clients: Sequence[ClientData]) -> dict[int, Personalized]:
        """Position of a client -> before and after, of those that have enough examples."""
        if self._loaded.personalize is None:
            return {}
        found = {}
        for place, client in enumerate(clients):
            parts = self._divide(client)
            if parts is not None:
                scores = self._loaded.personalize(*parts)
                found[place] = personalization.compare(*parts, *scores)
        return found

    def _divide(self, client: ClientData) -> tuple[ClientData, ClientData] | None:
        if self._set_apart is None:
            config = self._job.config.personalization
            share = (config and config.share) or personalization.DEFAULT_SHARE
            return personalization.divide(client, share, self._job.seed)
        reference = self._set_apart.look_up(client.client_id)
        if reference is None:  # it had too few examples for ingestion to set any apart
            return None
        return self._set_apart.read(reference), client

    def _load(self) -> "_Loaded":
        from privet.components.shared import predictors  # imports TensorFlow, in the worker

        job, schema = self._job, self._store.schema
        predict = {FLOAT: predictors.load_keras(job.trained, schema)}
        for name, directory in job.servables.items():
            predict[name] = predictors.load_servable(directory)
        plan = plan_of(job, schema)
        if job.config.personalization is None:
            return _Loaded(predict, plan, None)
        from privet.components.evaluate.fine_tuning import load_personalize

        personalize = load_personalize(job.trained, schema, job.config.personalization, job.seed)
        return _Loaded(predict, plan, personalize)


@dataclasses.dataclass(frozen=True, eq=False)
class _Loaded:
    """What a process keeps: predictors by name of the model, the plan, and how to personalize."""

    predict: Mapping[str, Any]
    plan: Plan
    personalize: Any


class _Summarize(beam.CombineFn):
    """Parts -> the whole."""

    def create_accumulator(self) -> Evaluated:
        return Summary(), PersonalizationSummary()

    def add_input(self, total: Evaluated, part: Evaluated) -> Evaluated:
        return self.merge_accumulators([total, part])

    def merge_accumulators(self, parts: Iterable[Evaluated]) -> Evaluated:
        wholes, personal = zip(*parts, strict=True)
        return summary.merge_all(wholes), personalization.merge_all(personal)

    def extract_output(self, total: Evaluated) -> Evaluated:
        return total


def _columns(values: ClientValues) -> dict[str, np.ndarray]:
    return {
        f"{model}.{metric}": found
        for model, metrics in values.items()
        for metric, found in metrics.items()
    }


def _personal_columns(
    tuned: Mapping[int, Personalized], values: ClientValues, clients: int
) -> dict[str, list[Any]]:
    """Columns of personalization, null for clients without it."""
    columns = {name: found.tolist() for name, found in _columns(values).items()}
    columns["adaptation_examples"] = [one.adaptation_examples for one in tuned.values()]
    columns["measured_examples"] = [len(one.measured) for one in tuned.values()]
    columns["diverged"] = [one.diverged for one in tuned.values()]
    spread = {}
    for name, found in columns.items():
        of_place = dict(zip(tuned, found, strict=True))
        spread[name] = [of_place.get(place) for place in range(clients)]
    return spread


def _table(columns: Mapping[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    """The columns as Arrow has them; NaN and columns that are missing are null."""
    arrays = [
        pa.array(columns.get(field.name, [None] * rows), field.type, from_pandas=True)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _row_schema(job: Job, store: ClientStore) -> pa.Schema:
    """Columns of per_client/; those of personalization are null for clients without it."""
    metrics = list(job.config.metric_directions(store.schema.task))
    fields = [("client_id", pa.string()), ("examples", pa.int64())]
    fields += [(f"{model}.{metric}", pa.float64()) for model in job.models for metric in metrics]
    if job.config.personalization is not None:
        fields += [("adaptation_examples", pa.int64()), ("measured_examples", pa.int64())]
        fields += [("diverged", pa.bool_())]
        both = personalization.MODELS
        fields += [(f"{model}.{metric}", pa.float64()) for model in both for metric in metrics]
    return pa.schema(fields)


def _write(evaluated: Evaluated, job: Job, store: ClientStore, output: str) -> None:
    whole, personal = evaluated
    plan, schema, config = plan_of(job, store.schema), store.schema, job.config.personalization
    part = None
    if config is not None:
        part = personalization.report(personal, config, plan.measures, whole.clients)
    names = schema.label.class_names
    content = summary.evaluation(whole, plan.measures, job.split, names, part)
    if plan.released is not None:
        sums = {
            name: model.released.tolist()
            for name, model in whole.models.items()
            if model.released is not None
        }
        files.write_json(files.join(output, layout.RELEASE_SUMS), sums)
    files.write_json(files.join(output, layout.EVALUATION), content)
