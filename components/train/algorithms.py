"""Federated algorithms, built out of tff.learning."""

from collections.abc import Callable
from typing import Any

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


def build_federated_averaging(
    model: tff.learning.models.FunctionalModel, config: TrainConfig, aggregator: Any
) -> tff.learning.templates.LearningProcess:
    """Unweighted federated averaging (McMahan et al., 2017) with optimizers (Reddi et al., 2021).

    Every client counts the same, whatever its number of examples: a weight would let one client
    move the sum by more than clip_norm. An update that is not finite is zeroed on the client,
    before clipping. No training metric is aggregated: it would leave the clients without noise.
    """
    return tff.learning.algorithms.build_unweighted_fed_avg(
        model,
        client_optimizer_fn=build_optimizer(config.client_optimizer),
        server_optimizer_fn=build_optimizer(config.server_optimizer),
        model_aggregator=aggregator,
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )
