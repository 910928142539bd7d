"""The global model on held-out clients while it trains: the curve of the report.

These clients do not train, so their metrics say nothing about the training clients; they are
exact numbers about the eval clients and are marked as not private.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from privet.components.shared import tasks
from privet.components.shared.keras_models import model_inputs
from privet.components.shared.storage import ClientStore
from privet.components.train.model import assign_weights

MAXIMUM_CLIENTS = 1000  # bounds memory and time; the evaluation step later sees every client

_BATCH = 1024


def build_evaluation(
    model: tf.keras.Model, store: ClientStore
) -> Callable[[Sequence[np.ndarray]], dict[str, float]]:
    """A function from trainable weights to metrics, weighted by example.

    Args:
      model: carries the weights during evaluation; its own are overwritten.
      store: the eval split; its first clients (in the order of their hashes) are used.
    """
    clients = list(store.read_many(store[:MAXIMUM_CLIENTS]))
    labels = np.concatenate([client.labels for client in clients])
    features = {
        name: np.concatenate([client.features[name] for client in clients])
        for name in store.schema.features
    }
    dataset = tf.data.Dataset.from_tensor_slices(model_inputs(features)).batch(_BATCH)
    forward = tf.function(lambda batch: model(batch, training=False))
    task = store.schema.task

    def evaluate(weights: Sequence[np.ndarray]) -> dict[str, float]:
        assign_weights(model, weights)
        outputs = np.concatenate([forward(batch).numpy() for batch in dataset])
        metrics = tasks.example_metrics(task, tasks.scores(task, outputs), labels)
        return {name: float(values.mean()) for name, values in metrics.items()}

    return evaluate
