"""A round as four pure functions over a documented state: prepare, work, merge, update.

    prepared = programs.prepare(state)               what clients need
    partial = work([*prepared, *block.arrays()])     train every client of a block, clip, add up
    total = merge(partial, partial)                  partial sums, in any grouping
    state, event = programs.finish(update, state, total)    noise, server optimizer

Engines differ only in who calls them. The parts are TFF's and tensorflow_privacy's: the model is a
tff.learning.models.FunctionalModel, optimizers are tff.learning.optimizers, and clip, sum and noise
are one DPQuery. Noise is added in `update` alone, once a round, never where work may be retried.
"""

import dataclasses
import secrets
from typing import Any, NamedTuple

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy

from privet.components.shared.errors import ModelError
from privet.components.shared.keras_models import input_specs, label_dtype, model_inputs
from privet.components.shared.schema import Schema
from privet.components.train.aggregation import NoisedMeanQuery
from privet.components.train.algorithms import build_client_optimizer, build_server_optimizer
from privet.components.train.config import TrainConfig
from privet.components.train.model import (
    restore_keras,
    to_functional,
    unfused_normalization,
)
from privet.components.train.programs import Arrays, Call, Program, build_program


class ServerState(NamedTuple):
    """What the server keeps between rounds, as plain arrays.

    Attributes:
      weights: the global model's trainable weights, in Keras' order.
      optimizer: the server optimizer's state.
      query: the DPQuery's global state: clip norm, noise.
    """

    weights: Arrays
    optimizer: Arrays
    query: Arrays


class BlockTensors(NamedTuple):
    """A block inside a program; see blocks.Block, whose arrays() are its leaves."""

    features: dict[str, Any]
    labels: Any
    order: Any
    sizes: Any
    steps: Any
    clients: Any


class Total(NamedTuple):
    """A partial sum over clients.

    Attributes:
      updates: the query's sample state: the sum of clipped updates.
      weight: float32, what the plain mean divides by. Never leaves a private round.
    """

    updates: Any
    weight: Any


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled functions of a round; they can be pickled.

    Attributes:
      initial: the state before the first round.
      frozen: weights that do not train.
      nothing: the partial sum of no client.
      work: (prepared, block) -> partial sum.
      work_xla: the same, compiled by XLA; it wants padded blocks.
      update: (state, total, seed of the noise) -> state and numbers of the event.
      event: the structure of the event.
    """

    initial: ServerState
    frozen: Arrays
    nothing: Arrays
    work: Program
    work_xla: Program
    update: Program
    event: dp_accounting.DpEvent

    def prepare(self, state: ServerState) -> Arrays:
        """What every client needs: the weights, and how to clip."""
        return (*state.weights, *self.frozen, *state.query)

    def finish(
        self, update: Call, state: ServerState, total: Arrays
    ) -> tuple[ServerState, dp_accounting.DpEvent]:
        """State and event after a round, by the loaded `update`.

        The seed of the noise is 128 bits from the operating system, whatever else is seeded.
        """
        seed = np.frombuffer(secrets.token_bytes(16), np.int64)
        updated = update((*state.weights, *state.optimizer, *state.query, *total, seed))
        ends = np.cumsum([len(part) for part in self.initial])
        weights, optimizer, query = ends
        state = ServerState(updated[:weights], updated[weights:optimizer], updated[optimizer:query])
        numbers = [float(number) for number in updated[query:]]
        return state, tf.nest.pack_sequence_as(self.event, numbers)


def merge(one: Arrays, other: Arrays) -> Arrays:
    """The sum of two partial sums: what DPQuery.merge_sample_states does for sums."""
    return tuple(a + b for a, b in zip(one, other, strict=True))


def build_programs(
    config: TrainConfig,
    model: tf.keras.Model,
    schema: Schema,
    mean: NoisedMeanQuery | None,
) -> Programs:
    """Compiles a round of federated averaging (McMahan et al., 2017; Reddi et al., 2021).

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      schema: of one example.
      mean: the DP mechanism; None for the plain mean.

    Raises:
      ModelError: the model has an operation that is not safe in a program.
    """
    query = mean or tensorflow_privacy.NoPrivacySumQuery()
    functional = to_functional(model, schema)
    trainable, frozen = (tuple(map(np.asarray, part)) for part in functional.initial_weights)
    weights = _specs(trainable)
    optimizer = _arrays(build_server_optimizer(config).initialize(weights))
    mechanism = _arrays(query.initial_global_state())
    nothing = _arrays(Total(query.initial_sample_state(weights), np.float32(0)))
    state = ServerState(trainable, optimizer, mechanism)

    def work(padded: bool) -> Any:
        def function(weights: Any, frozen: Any, mechanism: Any, block: BlockTensors) -> Total:
            return _train_block(
                config,
                functional,
                query,
                (weights, frozen),
                mechanism,
                block,
                private=mean is not None,
                padded=padded,
            )

        return function

    def update(state: ServerState, total: Total, seed: tf.Tensor) -> Any:
        if mean is None:
            return _update(config, query, state, total, private=False)
        with mean.seeded(seed):
            return _update(config, query, state, total, private=True)

    needed = (weights, _specs(frozen), _specs(mechanism), _block_specs(schema, config.batch_size))
    update_program, (_, event) = build_program(
        update, _specs(state), _specs(nothing), tf.TensorSpec((2,), tf.int64)
    )
    with unfused_normalization():
        plain, _ = build_program(work(padded=False), *needed)
        compiled, _ = build_program(work(padded=True), *needed, xla=True)
    restore_keras(model)
    if b"FusedBatchNorm" in plain.graph:
        raise ModelError(
            "the model uses fused batch normalization, which TensorFlow 2.14 cannot run safely in "
            "the engines compiled and beam. Use tf.keras.layers.LayerNormalization or "
            "GroupNormalization, or set train.engine: tff."
        )
    return Programs(
        initial=ServerState(*(_flat(part) for part in state)),
        frozen=frozen,
        nothing=_flat(nothing),
        work=plain,
        work_xla=compiled,
        update=update_program,
        event=event,
    )


def _train_block(
    config: TrainConfig,
    model: tff.learning.models.FunctionalModel,
    query: tensorflow_privacy.SumAggregationDPQuery,
    start: tuple[Any, Any],
    mechanism: Any,
    block: BlockTensors,
    *,
    private: bool,
    padded: bool,
) -> Total:
    """Trains client after client and adds up their clipped updates."""
    params = query.derive_sample_params(mechanism)
    optimizer = build_client_optimizer(config)
    weights, frozen = start
    specs = _specs(weights)
    trained_before = tf.concat([[0], tf.cumsum(block.sizes)], 0)  # examples before each batch

    def step(batch: Any, trained: Any, state: Any) -> Any:
        features, labels, counts = _batch(block, batch, padded=padded)
        with tf.GradientTape() as tape:
            tape.watch(trained)
            outputs = model.predict_on_batch((trained, frozen), features, training=True)
            loss = model.loss(outputs, labels, counts)
        gradients = tape.gradient(loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        state, trained = optimizer.next(state, trained, gradients)
        return batch + 1, tuple(trained), state

    def client(number: Any, first: Any, total: Total) -> Any:
        end = first + block.steps[number]
        _, trained, _ = tf.while_loop(
            lambda batch, *_: batch < end, step, (first, weights, optimizer.initialize(specs))
        )
        update = tf.nest.map_structure(tf.subtract, weights, trained)
        weight = tf.constant(1.0)
        if not private:  # else the query takes care of it
            update, finite = _finite(update)
            if config.weight_by == "examples":
                examples = tf.cast(trained_before[end] - trained_before[first], tf.float32)
                weight = tf.where(finite, examples, 0.0)
                update = tf.nest.map_structure(lambda value: value * weight, update)
        record = query.preprocess_record(params, update)
        updates = query.accumulate_preprocessed_record(total.updates, record)
        return number + 1, end, Total(updates, total.weight + weight)

    nothing = Total(query.initial_sample_state(specs), tf.constant(0.0))
    loop = tf.while_loop(lambda number, *_: number < block.clients, client, (0, 0, nothing))
    return loop[2]


def _batch(block: BlockTensors, batch: Any, *, padded: bool) -> tuple[Any, Any, Any]:
    """Features, labels and example weights of a batch.

    XLA wants one shape, so it takes whole rows of `order`, the weights of whose padding are 0 and
    of the others such that the mean over all is the mean over those that count.
    """
    rows, size = block.order[batch], block.sizes[batch]
    if padded:
        whole = rows.shape[0]
        count = tf.cast(tf.range(whole) < size, tf.float32) * (whole / tf.cast(size, tf.float32))
    else:
        rows, count = rows[:size], None
    features = {name: tf.gather(values, rows) for name, values in block.features.items()}
    return model_inputs(features), tf.gather(block.labels, rows), count


def _finite(update: Any) -> tuple[Any, Any]:
    """The update, or zeros if any of its values is not finite; and whether all are."""

    def closely() -> tuple[Any, Any]:  # finite values may have a norm that is not
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in update])
        return tuple(tf.where(finite, value, tf.zeros_like(value)) for value in update), finite

    fine = tf.math.is_finite(tf.linalg.global_norm(update))
    return tf.cond(fine, lambda: (update, tf.constant(True)), closely)


def _update(
    config: TrainConfig,
    query: tensorflow_privacy.SumAggregationDPQuery,
    state: ServerState,
    total: Total,
    *,
    private: bool,
) -> tuple[ServerState, dp_accounting.DpEvent]:
    """Noise, then a step of the server's optimizer against the mean update."""
    result, mechanism, event = query.get_noised_result(total.updates, state.query)
    optimizer = build_server_optimizer(config)
    if private:
        stepped, weights = optimizer.next(state.optimizer, state.weights, result)
        return ServerState(tuple(weights), stepped, mechanism), event
    mean = tf.nest.map_structure(lambda value: tf.math.divide_no_nan(value, total.weight), result)
    stepped, weights = optimizer.next(state.optimizer, state.weights, mean)
    updated = ServerState(tuple(weights), stepped, mechanism)
    # Of nobody there is no mean: momentum must not move the model either.
    somebody = total.weight > 0
    return tf.nest.map_structure(
        lambda new, old: tf.where(somebody, new, old), updated, state
    ), event


def _block_specs(schema: Schema, batch_size: int) -> BlockTensors:
    return BlockTensors(
        features=input_specs(schema),
        labels=tf.TensorSpec((None, 1), label_dtype(schema)),
        order=tf.TensorSpec((None, batch_size), tf.int32),
        sizes=tf.TensorSpec((None,), tf.int32),
        steps=tf.TensorSpec((None,), tf.int32),
        clients=tf.TensorSpec((), tf.int32),
    )


def _specs(values: Any) -> Any:
    return tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype), values)


def _arrays(values: Any) -> Any:
    return tf.nest.map_structure(lambda value: np.asarray(tf.convert_to_tensor(value)), values)


def _flat(values: Any) -> Arrays:
    return tuple(tf.nest.flatten(values))
