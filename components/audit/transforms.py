"""The Beam pipeline of the audit: the mean loss of every attacked client."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared

from privet.components.shared import files, tasks
from privet.components.shared.storage import ClientData, ClientReference, ClientStore

BATCH_EXAMPLES = 256
"""The model is called for whole clients until they have so many examples together."""

Batch = tuple[str, list[ClientReference]]
"""A split, and some of its clients."""


def write_losses(
    pipeline: beam.Pipeline,
    examples: str,
    model: str,
    clients: Mapping[str, Sequence[ClientReference]],
    path: str,
) -> None:
    """Adds to a pipeline what writes the mean loss of each client.

    Args:
      pipeline: the Beam pipeline.
      examples: folder of the ClientExamples.
      model: folder of the FederatedModel.
      clients: split -> which of its clients.
      path: of the JSON file: split -> losses, ascending.
    """
    _ = (
        pipeline
        | "Batches"
        >> beam.Create(
            [(split, batch) for split, found in clients.items() for batch in batches(found)]
        )
        | "SpreadBatches" >> beam.Reshuffle()
        | "Losses" >> beam.ParDo(_Losses(examples, model, tuple(clients)))
        | "Gather" >> beam.combiners.ToList()
        | "WriteLosses" >> beam.Map(_write, path)
    )


def batches(
    references: Iterable[ClientReference], examples: int = BATCH_EXAMPLES
) -> Iterator[list[ClientReference]]:
    """Divides clients into lists of so many examples together, or of one client that has more."""
    batch: list[ClientReference] = []
    held = 0
    for reference in references:
        if batch and held + reference.examples > examples:
            yield batch
            batch, held = [], 0
        batch.append(reference)
        held += reference.examples
    if batch:
        yield batch


class _Losses(beam.DoFn):
    """Batch -> (split, mean loss) of each of its clients."""

    def __init__(self, examples: str, model: str, splits: Sequence[str]):
        self._examples, self._model, self._splits = examples, model, splits
        self._shared = Shared()  # one model per process, however many threads

    def setup(self) -> None:
        self._stores = {split: ClientStore(self._examples, split) for split in self._splits}
        self._predict = self._shared.acquire(self._load)

    def teardown(self) -> None:
        for store in self._stores.values():
            store.close()

    def process(self, batch: Batch) -> Iterator[tuple[str, float]]:
        split, references = batch
        store = self._stores[split]
        clients = list(store.read_many(references))
        scores = self._predict(_joined(clients))
        ends = np.cumsum([len(client) for client in clients])
        for client, own in zip(clients, np.split(scores, ends[:-1]), strict=True):
            yield split, tasks.mean_metrics(store.schema.task, own, client.labels)["loss"]

    def _load(self) -> Any:
        from privet.components.shared import predictors  # imports TensorFlow, in the worker

        return predictors.load_keras(self._model, self._stores[self._splits[0]].schema)


def _joined(clients: Sequence[ClientData]) -> dict[str, np.ndarray]:
    """The features of all clients, one after the other."""
    return {
        name: np.concatenate([client.features[name] for client in clients])
        for name in clients[0].features
    }


def _write(losses: Iterable[tuple[str, float]], path: str) -> None:
    by_split: dict[str, list[float]] = {}
    for split, loss in losses:
        by_split.setdefault(split, []).append(loss)
    files.write_json(path, {split: sorted(found) for split, found in by_split.items()})
