"""The `tff` engine: TensorFlow Federated's own runtime, the reference of all engines."""

import contextlib
import gc
from collections.abc import Sequence
from typing import Any

import dp_accounting
import numpy as np
import psutil
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy

# The event is public in TFF's design but exported from no public module in 0.87.
from tensorflow_federated.python.aggregators.differential_privacy import (
    extract_dp_event_from_state,
)

from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData
from privet.components.train.aggregation import build_aggregator
from privet.components.train.algorithms import build_federated_averaging
from privet.components.train.cohort import training_order
from privet.components.train.config import TrainConfig
from privet.components.train.model import label_dtype, model_inputs, to_functional


class TffEngine:
    """Federated averaging on TFF's local C++ runtime.

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      schema: of one example.
      query: the DP mechanism; None for the plain mean.
      seed: of the order of examples.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: tf.keras.Model,
        schema: Schema,
        query: tensorflow_privacy.DPQuery | None,
        seed: int,
    ):
        self._config, self._schema, self._seed = config, schema, seed
        self._private = query is not None
        self._earlier = set(psutil.Process().children())
        self._resources = contextlib.ExitStack()
        context = tff.backends.native.create_sync_local_cpp_execution_context()
        self._resources.enter_context(tff.framework.get_context_stack().install(context))
        self._process = build_federated_averaging(
            to_functional(model, schema), config, build_aggregator(query)
        )
        # TFF copied the model inside a graph, which switches Keras' classes (not only that copy)
        # to their TF1 bases. Making any model outside a graph switches them back; without it the
        # caller's model is "in an invalid state".
        tf.keras.models.clone_model(model)

    def initialize(self) -> Any:
        """The server state before the first round."""
        return self._process.initialize()

    def next(self, state: Any, cohort: Sequence[ClientData], round_number: int) -> Any:
        """The server state after a round of the cohort, which may be empty."""
        datasets = [self._dataset(client, round_number) for client in cohort]
        return self._process.next(state, datasets).state

    def weights(self, state: Any) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""
        trainable = self._process.get_model_weights(state).trainable
        return [np.asarray(value) for value in trainable]

    def event(self, state: Any) -> dp_accounting.DpEvent:
        """The mechanism that the aggregator of this state applies to a cohort."""
        if not self._private:
            return dp_accounting.NonPrivateDpEvent()
        return extract_dp_event_from_state(state.aggregator)

    def close(self) -> None:
        """Ends TFF's worker process, which can outlive this one otherwise.

        TFF interrupts it when the execution context (which sits in cycles) is collected, and then
        waits without limit. A worker that inherited an ignored SIGINT, as in a background job of
        a script, would keep that waiting for ever, so it is killed before. Its exit is left for
        TFF to collect.
        """
        for child in set(psutil.Process().children()) - self._earlier:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "worker_binary" in child.name():
                    child.kill()
        self._resources.close()
        gc.collect()

    def _dataset(self, client: ClientData, round_number: int) -> tf.data.Dataset:
        order = training_order(
            client, seed=self._seed, round_number=round_number, epochs=self._config.local_epochs
        )
        features = model_inputs({name: value[order] for name, value in client.features.items()})
        labels = client.labels[order, None].astype(label_dtype(self._schema).as_numpy_dtype)
        return tf.data.Dataset.from_tensor_slices((features, labels)).batch(self._config.batch_size)
