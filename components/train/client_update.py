"""What clients compute in a round, inside a program: each trains on its own batches, one by one.

The client's part of federated averaging (McMahan et al., 2017, "Communication-Efficient Learning of
Deep Networks from Decentralized Data") and of the algorithms that share its form:
- fed_sgd sends the gradient over all of its examples, at the global weights (the same paper).
- mime_lite takes its steps with the server's optimizer state, which stays as it is, and sends that
  gradient too, from which the server moves the state (Karimireddy et al., 2021, "Breaking the
  centralized barrier for cross-device federated learning", algorithm 1).
- scaffold adds to each gradient how far the clients' mean control variate is from its own, and
  sends the change of its own (Karimireddy et al., 2020, "SCAFFOLD: Stochastic Controlled Averaging
  for Federated Learning", algorithm 1, option II).
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy

from privet.components.shared.keras_models import model_inputs
from privet.components.train.algorithms import build_client_optimizer, with_learning_rate
from privet.components.train.client_noise import ClientNoise, ClientNoiseQuery
from privet.components.train.config import TrainConfig
from privet.components.train.example_gradients import noised_gradient
from privet.components.train.masking import masked
from privet.components.train.update_compression import levels_of, restored


class Prepared(NamedTuple):
    """What every client of a round gets.

    Attributes:
      weights: the global model's trainable weights.
      frozen: its weights that do not train.
      mechanism: the DPQuery's global state.
      algorithm: of mime_lite the optimizer's state, of scaffold the mean control variate.
      learning_rate: of the client's steps.
      masks: of the weights, where training prunes; else ().
    """

    weights: Any
    frozen: Any
    mechanism: Any
    algorithm: Any
    learning_rate: Any
    masks: Any = ()


class BlockTensors(NamedTuple):
    """A block inside a program; see blocks.Block, whose arrays() are its leaves."""

    features: dict[str, Any]
    labels: Any
    order: Any
    sizes: Any
    steps: Any
    clients: Any
    seeds: Any
    states: Any


class Total(NamedTuple):
    """A partial sum over clients.

    Attributes:
      updates: the query's sample state: the sum of clipped updates.
      weight: float32, what the plain mean divides by. Never leaves a private round.
    """

    updates: Any
    weight: Any


class Sent(NamedTuple):
    """What a client has computed.

    Attributes:
      record: what is to be added up over clients.
      finite: whether all of it is; it is zeros otherwise, as in TFF.
      examples: float32, that it has trained on.
      state: what the client keeps, of the form of the weights, or ().
      message: the levels that it sends, then least values and distances; or ().
    """

    record: Any
    finite: Any
    examples: Any
    state: Any
    message: Any


def keeps_state(config: TrainConfig) -> bool:
    """Whether clients keep something from round to round."""
    return config.algorithm == "scaffold"


def row_width(config: TrainConfig, weights: Any) -> int:
    """How many numbers for each client leave the program, beside the sum."""
    shapes = [part.shape for part in tf.nest.flatten(weights)]
    if config.update_code is not None:
        shapes = [part.shape for part in tf.nest.flatten(record_like(config, weights))]
        return sum(math.prod(shape) for shape in shapes) + 2 * len(shapes)
    if keeps_state(config) or config.robust_aggregation is not None:
        return sum(math.prod(shape) for shape in shapes)
    return 0


def record_like(config: TrainConfig, weights: Any) -> Any:
    """The form of what clients send."""
    return (weights, weights) if config.algorithm in ("mime_lite", "scaffold") else weights


def train_block(
    config: TrainConfig,
    model: tff.learning.models.FunctionalModel,
    query: tensorflow_privacy.SumAggregationDPQuery,
    given: Prepared,
    block: BlockTensors,
    noise_seeds: Any = (),
    *,
    padded: bool,
) -> tuple[Total, Any]:
    """Trains client after client and adds up what they send.

    Args:
      config: settings.
      model: what is trained.
      query: clips, or takes the update as it is.
      given: what every client gets.
      block: the clients.
      noise_seeds: of ClientNoise, if clients add noise.
      padded: whether batches keep their shape, as XLA wants it.

    Returns:
      The sum, and float32 [clients, row_width]: the new state of each client, under robust
      aggregation its update (not finite where it is to be left out), or with update_code its
      message (zeros where it is not finite). Without any of them, [clients, 0].
    """
    params = query.derive_sample_params(given.mechanism)
    noise = None
    if isinstance(query, ClientNoiseQuery):
        noise = ClientNoise(query.kind, given.mechanism, noise_seeds)
    client = _Client(config, model, given, block, noise, padded=padded)
    width = row_width(config, client.specs)
    count = tf.shape(block.states)[0]
    rows = tf.TensorArray(tf.float32, count, element_shape=(width,)) if width else ()

    def one(number: Any, first: Any, total: Total, rows: Any) -> Any:
        end = first + block.steps[number]
        sent = client.train(number, first, end)
        record, weight = sent.record, tf.constant(1.0)
        if config.robust_aggregation is not None:
            rows = rows.write(number, tf.where(sent.finite, flat(record), float("nan")))
        if keeps_state(config):
            rows = rows.write(number, flat(sent.state))
        if config.update_code is not None:
            rows = rows.write(number, tf.where(sent.finite, sent.message, 0.0))
        if config.weight_by == "examples":
            weight = tf.where(sent.finite, sent.examples, 0.0)
            record = tf.nest.map_structure(lambda value: value * weight, record)
        record = query.preprocess_record(params, record)
        updates = query.accumulate_preprocessed_record(total.updates, record)
        return number + 1, end, Total(updates, total.weight + weight), rows

    form = record_like(config, client.specs)
    nothing = Total(query.initial_sample_state(form), tf.constant(0.0))
    loop = tf.while_loop(lambda number, *_: number < block.clients, one, (0, 0, nothing, rows))
    return loop[2], loop[3].stack() if width else tf.zeros((count, 0))


class _Client:
    """The computation of a client on batches first..end of a block."""

    def __init__(
        self,
        config: TrainConfig,
        model: tff.learning.models.FunctionalModel,
        given: Prepared,
        block: BlockTensors,
        noise: ClientNoise | None,
        *,
        padded: bool,
    ):
        self._config, self._model, self._given, self._block = config, model, given, block
        self._noise, self._padded = noise, padded
        self._optimizer = build_client_optimizer(config)
        self.specs = specs_of(given.weights)

    def train(self, number: Any, first: Any, end: Any) -> Sent:
        """What the client sends and keeps."""
        config, weights, state, message = self._config, self._given.weights, (), ()
        if config.algorithm == "fed_sgd":
            record = self._mean_gradient(first, end)
        elif config.algorithm == "mime_lite":
            record = (self._delta(first, end), self._mean_gradient(first, end))
        elif config.algorithm == "scaffold":
            control = self._masked(unflat(self._block.states[number], weights))
            delta = self._delta(first, end, control)
            record, state = self._change(delta, control, end - first)
        else:
            record = self._delta(first, end)
        if self._noise is not None and self._noise.kind == "local":
            record = self._masked(self._noise.noised(self._noise.clipped(record), number))
        if config.update_bits is not None:
            seed, rotated = self._block.seeds[number], config.update_rotation is not None
            levels = levels_of(record, config.update_bits, seed, rotated=rotated)
            record = self._masked(restored(levels, record, seed, rotated=rotated))
            if config.update_code is not None:
                parts = zip(*levels, strict=True)
                message = tf.concat([tf.reshape(part, (-1,)) for each in parts for part in each], 0)
        record, finite = _finite(record)
        if state:
            state = tf.nest.map_structure(
                lambda new, old: tf.where(finite, new, old), state, control
            )
        examples = tf.reduce_sum(self._block.sizes[first:end])
        return Sent(record, finite, tf.cast(examples, tf.float32), state, message)

    def _delta(self, first: Any, end: Any, control: Any = None) -> Any:
        """By how much the weights fall in the client's own steps."""
        optimizer, start = self._optimizer, self._given.weights
        fixed = self._config.algorithm == "mime_lite"
        initial = self._given.algorithm if fixed else optimizer.initialize(self.specs)
        initial = with_learning_rate(optimizer, initial, self._given.learning_rate)

        def step(batch: Any, weights: Any, state: Any) -> Any:
            gradients, _ = self._gradients(weights, batch)
            if control is not None:
                gradients = tf.nest.map_structure(
                    lambda gradient, mean, own: tf.convert_to_tensor(gradient) + mean - own,
                    gradients,
                    self._given.algorithm,
                    control,
                )
            stepped, weights = optimizer.next(state, weights, gradients)
            # A state that is not the client's own may still move what was pruned since.
            return batch + 1, self._masked(tuple(weights)), state if fixed else stepped

        loop = tf.while_loop(lambda batch, *_: batch < end, step, (first, start, initial))
        return tf.nest.map_structure(tf.subtract, start, loop[1])

    def _mean_gradient(self, first: Any, end: Any) -> Any:
        """The gradient of the mean loss over all examples, at the global weights."""

        def add(batch: Any, total: Any, examples: Any) -> Any:
            gradients, size = self._gradients(self._given.weights, batch)
            total = tf.nest.map_structure(lambda a, b: a + size * b, total, gradients)
            return batch + 1, total, examples + size

        nothing = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape), self.specs)
        _, total, examples = tf.while_loop(
            lambda batch, *_: batch < end, add, (first, nothing, tf.constant(0.0))
        )
        return tf.nest.map_structure(lambda part: tf.math.divide_no_nan(part, examples), total)

    def _change(self, delta: Any, control: Any, steps: Any) -> tuple[Any, Any]:
        """Scaffold's record, and the control variate after the client's steps."""
        scale = tf.cast(steps, tf.float32) * self._given.learning_rate
        change = tf.nest.map_structure(
            lambda fall, mean: tf.where(steps > 0, fall / scale - mean, tf.zeros_like(mean)),
            delta,
            self._given.algorithm,
        )
        return (delta, change), tf.nest.map_structure(tf.add, control, change)

    def _gradients(self, weights: Any, batch: Any) -> tuple[Any, Any]:
        """The gradient of a batch's mean loss, and the number of its examples."""
        size = self._block.sizes[batch]
        if self._noise is not None and self._noise.kind == "example":
            noised = noised_gradient(
                lambda weights, row: self._gradient(weights, self._examples(row[None])),
                weights,
                self._block.order[batch, :size],
                self._noise,
                batch=batch,
                batch_size=self._config.batch_size,
            )
            gradients = self._masked(noised)
        else:
            gradients = self._gradient(weights, self._batch(batch))
        return gradients, tf.cast(size, tf.float32)

    def _gradient(self, weights: Any, examples: tuple[Any, Any, Any]) -> Any:
        """The gradient of the mean loss of examples, given as _batch gives them."""
        features, labels, counts = examples
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs = self._model.predict_on_batch(
                (weights, self._given.frozen), features, training=True
            )
            loss = self._model.loss(outputs, labels, counts)
        gradient = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return self._masked(gradient)  # by the chain rule: the model has weights times masks

    def _masked(self, values: Any) -> Any:
        """The values of tensors like the weights (one set of them or two) that are not pruned."""
        return masked(values, self._given.masks)

    def _batch(self, batch: Any) -> tuple[Any, Any, Any]:
        """Features, labels and example weights of a batch.

        XLA wants one shape, so it takes whole rows of `order`, the weights of whose padding are 0
        and of the others such that the mean over all is the mean over those that count.
        """
        block = self._block
        rows, size = block.order[batch], block.sizes[batch]
        if self._padded:
            whole = rows.shape[0]
            counted = tf.cast(tf.range(whole) < size, tf.float32)
            count = counted * (whole / tf.cast(size, tf.float32))
        else:
            rows, count = rows[:size], None
        return self._examples(rows, count)

    def _examples(self, rows: Any, count: Any = None) -> tuple[Any, Any, Any]:
        """Features, labels and weights of the examples at these places."""
        block = self._block
        features = {name: tf.gather(values, rows) for name, values in block.features.items()}
        return model_inputs(features), tf.gather(block.labels, rows), count


def _finite(record: Any) -> tuple[Any, Any]:
    """The record, or zeros if any of its values is not finite; and whether all are."""
    values = tf.nest.flatten(record)

    def closely() -> tuple[Any, Any]:  # finite values may have a norm that is not
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in values])
        return [tf.where(finite, value, tf.zeros_like(value)) for value in values], finite

    fine = tf.math.is_finite(tf.linalg.global_norm(values))
    checked, finite = tf.cond(fine, lambda: (values, tf.constant(True)), closely)
    return tf.nest.pack_sequence_as(record, checked), finite


def specs_of(values: Any) -> Any:
    """The form of tensors."""
    return tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype), values)


def flat(values: Any) -> Any:
    """All of them in one row."""
    return tf.concat([tf.reshape(value, (-1,)) for value in tf.nest.flatten(values)], 0)


def unflat(row: Any, like: Any) -> Any:
    """What `flat` was made of."""
    parts = tf.split(row, [value.shape.num_elements() for value in tf.nest.flatten(like)])
    shaped = zip(parts, tf.nest.flatten(like), strict=True)
    return tf.nest.pack_sequence_as(like, [tf.reshape(a, b.shape) for a, b in shaped])
