"""The Beam pipeline of evaluation: every client of a split under every model, in one pass."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from privet.components.evaluate import metrics, personalization
from privet.components.evaluate.config import PersonalizationConfig
from privet.components.evaluate.metrics import ClientMetrics, Summary
from privet.components.evaluate.personalization import PersonalizationSummary, Personalized
from privet.components.shared import files, layout, tasks
from privet.components.shared.storage import ClientData, ClientStore, has_split

Evaluated = tuple[ClientMetrics, Personalized | None]
"""A client under every model, and before and after its own fine-tuning, if it could be done."""


@dataclasses.dataclass(frozen=True)
class Models:
    """Where the models to compare are.

    Attributes:
      trained: folder of the FederatedModel.
      servables: name -> folder of a ServableModel, such as compressed and blessed.
    """

    trained: str
    servables: Mapping[str, str]


def evaluate(
    pipeline: beam.Pipeline,
    examples: str,
    split: str,
    models: Models,
    output: str,
    config: PersonalizationConfig | None = None,
    seed: int = 0,
) -> None:
    """Adds the evaluation of a split to a pipeline.

    Args:
      pipeline: the Beam pipeline.
      examples: folder of the ClientExamples.
      split: the split whose clients are evaluated.
      models: what to evaluate; the trained model is called `float`.
      output: folder that gets evaluation.json and per_client/ (Parquet).
      config: of fine-tuning on each client; None for none.
      seed: of what a client adapts to, and in which order.
    """
    store = ClientStore(examples, split)
    rows = _row_schema(["float", *models.servables], store, config is not None)
    evaluated = (
        pipeline
        | "ShardNames" >> beam.Create(list(store.shards))
        | "SpreadShards" >> beam.Reshuffle()
        | "EvaluateClients" >> beam.ParDo(_EvaluateClients(examples, split, models, config, seed))
    )
    _ = (
        evaluated
        | "PerClientRows" >> beam.Map(_row, rows.names)
        | "WritePerClient"
        >> beam.io.WriteToParquet(
            files.join(output, "per_client", "clients"),
            rows,
            file_name_suffix=".parquet",
        )
    )
    personalized = (
        evaluated
        | "Personalized" >> beam.FlatMap(lambda pair: pair[1:] if pair[1] else ())
        | "SummarizePersonalized" >> beam.CombineGlobally(_SummarizePersonalized())
    )
    _ = (
        evaluated
        | "Metrics" >> beam.Map(lambda pair: pair[0])
        | "Summarize" >> beam.CombineGlobally(_Summarize())
        | "WriteEvaluation"
        >> beam.Map(
            _write,
            beam.pvalue.AsSingleton(personalized),
            config,
            store.schema.task,
            split,
            output,
        )
    )


class _EvaluateClients(beam.DoFn):
    """Shard name -> Evaluated of each of its clients."""

    def __init__(
        self,
        examples: str,
        split: str,
        models: Models,
        config: PersonalizationConfig | None,
        seed: int,
    ):
        self._examples, self._split, self._models = examples, split, models
        self._config, self._seed = config, seed
        self._shared = Shared()  # one set of models per process, however many threads

    def setup(self) -> None:
        self._store = ClientStore(self._examples, self._split)
        self._set_apart: ClientStore | None = None
        adapting = f"{self._split}_adapt"
        if self._config and self._config.share is None and has_split(self._examples, adapting):
            self._set_apart = ClientStore(self._examples, adapting)
        self._loaded = self._shared.acquire(self._load)

    def teardown(self) -> None:
        for store in (self._store, self._set_apart):
            if store is not None:
                store.close()

    def process(self, shard: str) -> Iterator[Evaluated]:
        for client in self._store.read_many(self._store.references(shard)):
            means = {
                name: tasks.mean_metrics(
                    self._store.schema.task, predict(client.features), client.labels
                )
                for name, predict in self._loaded.predictors.items()
            }
            yield ClientMetrics(client.client_id, len(client), means), self._personalized(client)

    def _personalized(self, client: ClientData) -> Personalized | None:
        """The client before and after; None without personalization or enough examples."""
        if self._config is None:
            return None
        parts = self._divide(client, self._config)
        if parts is None:
            return None
        adapting, measured = parts
        scores = self._loaded.personalize(adapting, measured)
        return personalization.compare(self._store.schema.task, adapting, measured, *scores)

    def _divide(
        self, client: ClientData, config: PersonalizationConfig
    ) -> tuple[ClientData, ClientData] | None:
        if self._set_apart is None:
            share = config.share or personalization.DEFAULT_SHARE
            return personalization.divide(client, share, self._seed)
        reference = self._set_apart.look_up(client.client_id)
        if reference is None:  # it had too few examples for ingestion to set any apart
            return None
        return self._set_apart.read(reference), client

    def _load(self) -> "_Loaded":
        from privet.components.shared import predictors  # imports TensorFlow, in the worker

        schema, trained = self._store.schema, self._models.trained
        predict = {"float": predictors.load_keras(trained, schema)}
        for name, directory in self._models.servables.items():
            predict[name] = predictors.load_servable(directory)
        if self._config is None:
            return _Loaded(predict, None)
        from privet.components.evaluate.fine_tuning import load_personalize

        personalize = load_personalize(trained, schema, self._config, self._seed)
        return _Loaded(predict, personalize)


@dataclasses.dataclass(frozen=True, eq=False)
class _Loaded:
    """What a process keeps: predictors by name of the model, and how a client is personalized."""

    predictors: Mapping[str, Any]
    personalize: Any


class _Summarize(beam.CombineFn):
    """ClientMetrics -> Summary."""

    def create_accumulator(self) -> Summary:
        return Summary()

    def add_input(self, summary: Summary, client: ClientMetrics) -> Summary:
        return summary.add(client)

    def merge_accumulators(self, summaries: Iterable[Summary]) -> Summary:
        return metrics.merge_all(summaries)

    def extract_output(self, summary: Summary) -> Summary:
        return summary


class _SummarizePersonalized(beam.CombineFn):
    """Personalized -> PersonalizationSummary."""

    def create_accumulator(self) -> PersonalizationSummary:
        return PersonalizationSummary()

    def add_input(
        self, summary: PersonalizationSummary, client: Personalized
    ) -> PersonalizationSummary:
        return summary.add(client)

    def merge_accumulators(
        self, summaries: Iterable[PersonalizationSummary]
    ) -> PersonalizationSummary:
        return personalization.merge_all(summaries)

    def extract_output(self, summary: PersonalizationSummary) -> PersonalizationSummary:
        return summary


def _row(evaluated: Evaluated, names: Iterable[str]) -> dict[str, Any]:
    client, personalized = evaluated
    row = dict.fromkeys(names) | _columns(client)
    row |= {"client_id": client.client_id, "examples": client.examples}
    if personalized is not None:
        row |= _columns(personalized.metrics)
        row["adaptation_examples"] = personalized.adaptation_examples
        row["measured_examples"] = personalized.metrics.examples
        row["diverged"] = personalized.diverged
    return row


def _columns(client: ClientMetrics) -> dict[str, float]:
    return {
        f"{model}.{metric}": mean
        for model, means in client.means.items()
        for metric, mean in means.items()
    }


def _row_schema(models: Iterable[str], store: ClientStore, personalized: bool) -> pa.Schema:
    """Columns of per_client/; those of personalization are null for clients without it."""
    names = tasks.metric_names(store.schema.task)
    fields = [("client_id", pa.string()), ("examples", pa.int64())]
    fields += [(f"{model}.{metric}", pa.float64()) for model in models for metric in names]
    if personalized:
        fields += [("adaptation_examples", pa.int64()), ("measured_examples", pa.int64())]
        fields += [("diverged", pa.bool_())]
        both = personalization.MODELS
        fields += [(f"{model}.{metric}", pa.float64()) for model in both for metric in names]
    return pa.schema(fields)


def _write(
    summary: Summary,
    personalized: PersonalizationSummary,
    config: PersonalizationConfig | None,
    task: Any,
    split: str,
    output: str,
) -> None:
    part = None
    if config is not None:
        part = personalization.report(personalized, config, task, len(summary.examples))
    content = metrics.evaluation(summary, task, split, part)
    files.write_json(files.join(output, layout.EVALUATION), content)
