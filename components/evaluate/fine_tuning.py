"""Fine-tuning the global model on one client after another, as each client's device would.

Clients share one copy of the model and the programs that are traced for it once; a client begins
by putting everything back that the one before it changed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from privet.components.evaluate.config import PersonalizationConfig
from privet.components.evaluate.personalization import batches
from privet.components.shared import tasks
from privet.components.shared.keras_models import (
    build_loss,
    input_specs,
    label_dtype,
    model_inputs,
)
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData, stable_hash

Features = Mapping[str, tf.Tensor]

Personalize = Callable[[ClientData, ClientData], tuple[np.ndarray, np.ndarray | None]]
"""(client with the examples it adapts to, the same with those that measure) -> scores of the
global and of the personal model on the latter; None for a personal model that is not finite."""


def load_personalize(
    directory: str, schema: Schema, config: PersonalizationConfig, seed: int
) -> Personalize:
    """Fine-tuning of a trained model by stochastic gradient descent.

    Args:
      directory: of the trained Keras model, before compression.
      schema: of the examples.
      config: settings.
      seed: of the order of examples and of random layers such as Dropout.
    """
    with _random_layers_with_state():
        model = tf.keras.models.load_model(directory, compile=False)
    optimizer = tf.keras.optimizers.SGD(config.learning_rate, config.momentum, jit_compile=False)
    programs = _build_programs(model, optimizer, schema)
    in_one_call = _may_loop(programs.step)
    lock = threading.Lock()  # Beam may run several threads, and there is one copy of the model

    def fine_tune(client: ClientData) -> None:
        labels = client.labels[:, None].astype(label_dtype(schema).as_numpy_dtype)
        order = list(batches(client, config, seed))
        if in_one_call:
            ends = np.cumsum([len(batch) for batch in order])
            programs.steps(client.features, labels, np.concatenate(order), ends)
        else:
            for batch in order:
                programs.step(client.features, labels, batch)

    def personalize(
        adapting: ClientData, measured: ClientData
    ) -> tuple[np.ndarray, np.ndarray | None]:
        layer_seed = stable_hash("layers", seed, adapting.client_id) >> 1  # within int64
        with lock:
            before = programs.begin(measured.features, layer_seed).numpy()
            fine_tune(adapting)
            after = programs.predict(measured.features).numpy()
        baseline = tasks.scores(schema.task, before)
        return baseline, tasks.scores(schema.task, after) if np.isfinite(after).all() else None

    return personalize


class _Programs(NamedTuple):
    """TensorFlow functions that share a model, each traced once for clients of any size.

    Attributes:
      begin: (features, seed) -> outputs of the global model, to which everything is put back.
      step: (features, labels, positions of a batch): one step of the optimizer.
      steps: (features, labels, positions of all batches, where each ends): all steps.
      predict: features -> outputs of the model as it is.
    """

    begin: Any
    step: Any
    steps: Any
    predict: Any


def _build_programs(
    model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer, schema: Schema
) -> _Programs:
    """The functions, on the model as it is now: the global one."""
    optimizer.build(model.trainable_variables)
    loss = build_loss(schema)
    variables = [*model.weights, *optimizer.variables]
    values = [tf.constant(variable.numpy()) for variable in variables]
    generators = _generators(model)
    batch, label = input_specs(schema), tf.TensorSpec((None, 1), label_dtype(schema))
    positions = tf.TensorSpec((None,), tf.int64)

    @tf.function(input_signature=[batch])
    def predict(features: Features) -> tf.Tensor:
        return model(model_inputs(features), training=False)

    @tf.function(input_signature=[batch, tf.TensorSpec((), tf.int64)])
    def begin(features: Features, seed: tf.Tensor) -> tf.Tensor:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for generator in generators:
            generator.reset_from_seed(seed)
        return predict(features)

    @tf.function(input_signature=[batch, label, positions])
    def step(features: Features, labels: tf.Tensor, order: tf.Tensor) -> None:
        rows = {name: tf.gather(values, order) for name, values in features.items()}
        with tf.GradientTape() as tape:
            outputs = model(model_inputs(rows), training=True)
            mean = loss(tf.gather(labels, order), outputs)
        gradients = tape.gradient(
            mean, model.trainable_variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    @tf.function(input_signature=[batch, label, positions, positions])
    def steps(features: Features, labels: tf.Tensor, order: tf.Tensor, ends: tf.Tensor) -> None:
        def turn(number: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            step(features, labels, order[start : ends[number]])
            return number + 1, ends[number]

        count = tf.size(ends)
        tf.while_loop(lambda number, _: number < count, turn, (0, np.int64(0)))

    return _Programs(begin, step, steps, predict)


def _may_loop(step: Any) -> bool:
    """Whether a step may be the body of tf.while_loop, which saves most of its time.

    TensorFlow 2.14's FusedBatchNorm is not safe there on batches of several sizes. Keras'
    LayerNormalization uses it, also inside layers of the user's own, whose graph is as saved.
    """
    graph = step.get_concrete_function().graph.as_graph_def()
    return b"FusedBatchNorm" not in graph.SerializeToString()


@contextlib.contextmanager
def _random_layers_with_state() -> Iterator[None]:
    """While a model is loaded: its random layers get a generator each, which can be seeded anew."""
    experimental = tf.keras.backend.experimental
    enabled = experimental.is_tf_random_generator_enabled()
    experimental.enable_tf_random_generator()
    try:
        yield
    finally:
        if not enabled:
            experimental.disable_tf_random_generator()


def _generators(model: tf.keras.Model) -> list[tf.random.Generator]:
    """The generators of Keras' own random layers; Keras has no public way to them."""
    found = []
    for layer in model._flatten_layers(include_self=False):
        keras_generator = getattr(layer, "_random_generator", None)
        generator = getattr(keras_generator, "_generator", None)
        if isinstance(generator, tf.random.Generator):
            found.append(generator)
    return found
