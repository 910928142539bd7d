"""The `tff` engine: TensorFlow Federated's own runtime, the reference of all engines."""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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

from privet.components.shared.keras_models import label_dtype, model_inputs
from privet.components.shared.prefetch import prefetched
from privet.components.shared.sparsity import masked
from privet.components.shared.storage import ClientData, ClientStore
from privet.components.train.aggregation import build_aggregator
from privet.components.train.algorithms import build_learning_process, learning_rate
from privet.components.train.client_order import training_orders
from privet.components.train.config import TrainConfig
from privet.components.train.engines import Late, saving
from privet.components.train.masking import masked_model
from privet.components.train.model import restore_keras, to_functional
from privet.components.train.optimizer_config import ScheduleConfig
from privet.components.train.pruning import masks_after
from privet.components.train.reading import CohortReader


class State(NamedTuple):
    """TFF's state, and the number of rounds that led to it."""

    inside: Any
    rounds: int


class TffEngine:
    """The algorithm on TFF's local C++ runtime.

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      store: the clients.
      query: the DP mechanism; None for the plain mean.
      seed: of the order of examples.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: tf.keras.Model,
        store: ClientStore,
        query: tensorflow_privacy.DPQuery | None,
        seed: int,
    ):
        self._config, self._schema, self._seed = config, store.schema, seed
        self._reader = CohortReader(store)
        self._private = query is not None
        self._earlier = set(psutil.Process().children())
        self._resources = contextlib.ExitStack()
        context = tff.backends.native.create_sync_local_cpp_execution_context()
        self._resources.enter_context(tff.framework.get_context_stack().install(context))
        functional = to_functional(model, store.schema)
        self._process = build_learning_process(
            functional if config.pruning is None else masked_model(functional),
            config,
            build_aggregator(
                query, weighted=config.weight_by == "examples", bits=config.update_bits
            ),
        )
        restore_keras(model)

    def initialize(self) -> Any:
        """The server state before the first round."""
        return self._pruned(State(self._process.initialize(), 0))

    def read(self, cohort: np.ndarray, round_number: int) -> Iterator[tf.data.Dataset]:
        """Begins to read a cohort."""
        clients = self._reader.read(cohort.tolist())
        return prefetched(self._dataset(client, round_number) for client in clients)

    def next(
        self, state: State, cohort: Iterator[tf.data.Dataset], late: Sequence[Late] = ()
    ) -> tuple[State, dp_accounting.DpEvent]:
        """A round of the cohort."""
        assert not late  # TrainConfig refuses them
        inside = self._process.next(self._scheduled(state), list(cohort)).state
        after = self._pruned(State(inside, state.rounds + 1))
        if not self._private:
            return after, dp_accounting.NonPrivateDpEvent()
        return after, extract_dp_event_from_state(inside.aggregator)

    def weights(self, state: State) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""
        trainable = self._process.get_model_weights(state.inside).trainable
        return [np.asarray(value) for value in trainable]

    def sent(self, state: Any) -> None:
        """Nothing is measured: TrainConfig refuses update_code."""

    def canaries(self, state: Any) -> None:
        """There are none: TrainConfig refuses them."""

    def save(self, state: Any) -> bytes:
        """The state as bytes."""
        return saving.pack(state)

    def restore(self, content: bytes) -> Any:
        """The state that was saved."""
        return saving.unpack(content, self.initialize())

    def begin_stretch(self, state: Any) -> Any:
        """TrainConfig refuses privacy, so there is no noise."""
        return state

    def forget_before(self, state: Any) -> None:
        """There is nothing to let go of."""

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

    def _pruned(self, state: State) -> State:
        """The state with the masks of its round, made of its weights, on these.

        Masks are the last of the model's weights that do not train; see masked_model.
        """
        config = self._config
        if config.pruning is None:
            return state
        weights = self._process.get_model_weights(state.inside)
        trainable = [np.asarray(value) for value in weights.trainable]
        others = tuple(np.asarray(value) for value in weights.non_trainable)
        frozen, masks = others[: -len(trainable)], others[-len(trainable) :]
        masks = masks_after(config.pruning, config.rounds, state.rounds, trainable, masks)
        changed = tff.learning.models.ModelWeights(
            tuple(masked(trainable, masks)), (*frozen, *masks)
        )
        return State(self._process.set_model_weights(state.inside, changed), state.rounds)

    def _scheduled(self, state: State) -> Any:
        """TFF's state at the server's learning rate of the round; it knows the clients' itself."""
        config, inside = self._config, state.inside
        if config.server_optimizer.schedule == ScheduleConfig():
            return inside
        settings = self._process.get_hparams(inside)
        rate = learning_rate(config.server_optimizer, state.rounds + 1, config.rounds)
        settings["finalizer"][tff.learning.optimizers.LEARNING_RATE_KEY] = rate
        return self._process.set_hparams(inside, settings)

    def _dataset(self, client: ClientData, round_number: int) -> tf.data.Dataset:
        order = training_orders(
            [client], seed=self._seed, round_number=round_number, epochs=self._config.local_epochs
        )
        if self._config.max_steps is not None:
            order = order[: self._config.max_steps * self._config.batch_size]
        features = model_inputs({name: value[order] for name, value in client.features.items()})
        labels = client.labels[order, None].astype(label_dtype(self._schema).as_numpy_dtype)
        return tf.data.Dataset.from_tensor_slices((features, labels)).batch(self._config.batch_size)
