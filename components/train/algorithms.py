"""Federated algorithms, built out of tff.learning."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from privet.components.train.config import OptimizerConfig, TrainConfig

_OPTIMIZERS: dict[str, Callable[..., tff.learning.optimizers.Optimizer]] = {
    "adam": tff.learning.optimizers.build_adam,
    "adagrad": tff.learning.optimizers.build_adagrad,
    "rmsprop": tff.learning.optimizers.build_rmsprop,
    "yogi": tff.learning.optimizers.build_yogi,
}


def build_optimizer(config: OptimizerConfig) -> tff.learning.optimizers.Optimizer:
    """An optimizer as pure functions, for the client or the server."""
    if config.name == "sgd":
        return tff.learning.optimizers.build_sgdm(config.learning_rate, config.momentum or None)
    return _OPTIMIZERS[config.name](config.learning_rate)


def build_client_optimizer(config: TrainConfig) -> tff.learning.optimizers.Optimizer:
    """What a client takes its steps with."""
    optimizer = build_optimizer(config.client_optimizer)
    if config.proximal_strength:
        optimizer = _Proximal(optimizer, config.proximal_strength)
    if config.gradient_clip_norm is not None:
        optimizer = _ClippedGradients(optimizer, config.gradient_clip_norm)
    return optimizer


def build_server_optimizer(config: TrainConfig) -> tff.learning.optimizers.Optimizer:
    """What the server applies the mean update with, as if it were a gradient."""
    return build_optimizer(config.server_optimizer)


class _Proximal(tff.learning.optimizers.Optimizer):
    """FedProx (Li et al., 2020, "Federated Optimization in Heterogeneous Networks", equation 2).

    Adds the gradient of strength / 2 * |weights - global weights|^2, where the global weights are
    those of the first step. (TFF 0.87's own FedProx adds it with the other sign for functional
    models, which drives clients apart.)
    """

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer, strength: float):
        self._optimizer, self._strength = optimizer, strength

    def initialize(self, specs: Any) -> Any:
        """The state of the optimizer inside, whether a step was taken, and the global weights."""
        start = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), specs)
        return self._optimizer.initialize(specs), False, start

    def next(self, state: Any, weights: Any, gradients: Any) -> Any:
        """A step along the gradient that is pulled back to the global weights."""
        inner, moved, start = state
        start = tf.nest.map_structure(
            lambda first, now: tf.where(moved, first, now), start, weights
        )
        pulled = tf.nest.map_structure(
            lambda gradient, now, first: (
                tf.convert_to_tensor(gradient) + self._strength * (now - first)
            ),
            gradients,
            weights,
            start,
        )
        inner, weights = self._optimizer.next(inner, weights, pulled)
        return (inner, True, start), weights


class _ClippedGradients(tff.learning.optimizers.Optimizer):
    """Scales the gradient of a batch to a global L2 norm of at most `norm` before each step."""

    def __init__(self, optimizer: tff.learning.optimizers.Optimizer, norm: float):
        self._optimizer, self._norm = optimizer, norm

    def initialize(self, specs: Any) -> Any:
        """The state of the optimizer inside."""
        return self._optimizer.initialize(specs)

    def next(self, state: Any, weights: Any, gradients: Any) -> Any:
        """A step along the clipped gradient."""
        # The rows of an embedding may come several times, and only their sum is the gradient.
        dense = [tf.convert_to_tensor(gradient) for gradient in tf.nest.flatten(gradients)]
        clipped, _ = tf.clip_by_global_norm(dense, self._norm)
        return self._optimizer.next(state, weights, tf.nest.pack_sequence_as(gradients, clipped))


def build_federated_averaging(
    model: tff.learning.models.FunctionalModel, config: TrainConfig, aggregator: Any
) -> tff.learning.templates.LearningProcess:
    """Federated averaging (McMahan et al., 2017) with optimizers (Reddi et al., 2021).

    An update that is not finite is zeroed on the client, before clipping. No training metric is
    aggregated: it would leave the clients without noise.
    """
    weighted = config.weight_by == "examples"
    build = (
        tff.learning.algorithms.build_weighted_fed_avg
        if weighted
        else tff.learning.algorithms.build_unweighted_fed_avg
    )
    return build(
        model,
        client_optimizer_fn=build_client_optimizer(config),
        server_optimizer_fn=build_server_optimizer(config),
        model_aggregator=aggregator,
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )
