"""The Beam pipeline of evaluation: every client of a split under every model, in one pass."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from privet.components.evaluate.metrics import ClientMetrics, Summary, evaluation, merge_all
from privet.components.shared import files, layout, tasks
from privet.components.shared.storage import ClientData, ClientStore


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
    pipeline: beam.Pipeline, examples: str, split: str, models: Models, output: str
) -> None:
    """Adds the evaluation of a split to a pipeline.

    Args:
      pipeline: the Beam pipeline.
      examples: folder of the ClientExamples.
      split: the split whose clients are evaluated.
      models: what to evaluate; the trained model is called `float`.
      output: folder that gets evaluation.json and per_client/ (Parquet).
    """
    store = ClientStore(examples, split)
    metrics = (
        pipeline
        | "ShardNames" >> beam.Create(list(store.shards))
        | "SpreadShards" >> beam.Reshuffle()
        | "EvaluateClients" >> beam.ParDo(_EvaluateClients(examples, split, models))
    )
    _ = (
        metrics
        | "PerClientRows" >> beam.Map(_row)
        | "WritePerClient"
        >> beam.io.WriteToParquet(
            files.join(output, "per_client", "clients"),
            _row_schema(["float", *models.servables], store),
            file_name_suffix=".parquet",
        )
    )
    _ = (
        metrics
        | "Summarize" >> beam.CombineGlobally(_Summarize())
        | "WriteEvaluation" >> beam.Map(_write, store.schema.task, split, output)
    )


class _EvaluateClients(beam.DoFn):
    """Shard name -> ClientMetrics of each of its clients."""

    def __init__(self, examples: str, split: str, models: Models):
        self._examples, self._split, self._models = examples, split, models
        self._shared = Shared()  # one set of models per process, however many threads

    def setup(self) -> None:
        self._store = ClientStore(self._examples, self._split)
        self._predictors = self._shared.acquire(self._load)

    def teardown(self) -> None:
        self._store.close()

    def process(self, shard: str) -> Iterator[ClientMetrics]:
        for client in self._store.read_many(self._store.references(shard)):
            means = {
                name: _means(self._store.schema.task, predict(client.features), client)
                for name, predict in self._predictors.items()
            }
            yield ClientMetrics(client.client_id, len(client), means)

    def _load(self) -> Any:
        from privet.components.evaluate import models  # imports TensorFlow, in the worker

        predictors = {"float": models.load_keras(self._models.trained, self._store.schema)}
        for name, directory in self._models.servables.items():
            predictors[name] = models.load_servable(directory)
        return _Predictors(predictors)


class _Predictors(dict[str, Any]):
    """A dict that can be weakly referenced, as beam.utils.shared wants."""


def _means(task: Any, scores: Any, client: ClientData) -> dict[str, float]:
    metrics = tasks.example_metrics(task, scores, client.labels)
    return {name: float(values.mean()) for name, values in metrics.items()}


class _Summarize(beam.CombineFn):
    """ClientMetrics -> Summary."""

    def create_accumulator(self) -> Summary:
        return Summary()

    def add_input(self, summary: Summary, client: ClientMetrics) -> Summary:
        return summary.add(client)

    def merge_accumulators(self, summaries: Iterable[Summary]) -> Summary:
        return merge_all(summaries)

    def extract_output(self, summary: Summary) -> Summary:
        return summary


def _row(client: ClientMetrics) -> dict[str, Any]:
    columns = {
        f"{model}.{metric}": mean
        for model, metrics in client.means.items()
        for metric, mean in metrics.items()
    }
    return {"client_id": client.client_id, "examples": client.examples, **columns}


def _row_schema(models: Iterable[str], store: ClientStore) -> pa.Schema:
    metrics = tasks.metric_names(store.schema.task)
    return pa.schema(
        [("client_id", pa.string()), ("examples", pa.int64())]
        + [(f"{model}.{metric}", pa.float64()) for model in models for metric in metrics]
    )


def _write(summary: Summary, task: Any, split: str, output: str) -> None:
    files.write_json(files.join(output, layout.EVALUATION), evaluation(summary, task, split))
