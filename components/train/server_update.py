"""The server's step inside a program: its optimizer, and what algorithms keep beside weights."""

from typing import Any, NamedTuple

import tensorflow as tf

from privet.components.train.algorithms import (
    build_client_optimizer,
    build_server_optimizer,
    with_learning_rate,
)
from privet.components.train.client_update import Total
from privet.components.train.config import TrainConfig
from privet.components.train.masking import masked


class ServerTensors(NamedTuple):
    """The arrays of a ServerState inside a program."""

    weights: Any
    optimizer: Any
    query: Any
    algorithm: Any
    noise: Any


def initial_algorithm(config: TrainConfig, weights: Any) -> Any:
    """What the algorithm keeps on the server before the first round; () if nothing."""
    if config.algorithm == "mime_lite":
        return build_client_optimizer(config).initialize(weights)
    if config.algorithm == "scaffold":
        return tf.nest.map_structure(lambda spec: tf.zeros(spec.shape), weights)
    return ()


def plain_update(
    config: TrainConfig,
    query: Any,
    state: ServerTensors,
    total: Total,
    rate: Any,
    population: int,
    masks: Any = (),
) -> tuple[ServerTensors, Any, Any]:
    """The server's step along the plain mean, the event, and that mean."""
    result, _, event = query.get_noised_result(total.updates, state.query)
    mean = tf.nest.map_structure(lambda value: tf.math.divide_no_nan(value, total.weight), result)
    share = total.weight / population
    updated = server_step(config, state, mean, rate, share, masks)
    # Of nobody there is no mean: momentum must not move the model either.
    somebody = total.weight > 0
    updated = tf.nest.map_structure(lambda new, old: tf.where(somebody, new, old), updated, state)
    return updated, event, mean


def server_step(
    config: TrainConfig, state: ServerTensors, mean: Any, rate: Any, share: Any, masks: Any = ()
) -> ServerTensors:
    """A step of the server's optimizer against the mean of what clients sent.

    Args:
      config: settings.
      state: before it.
      mean: of the form client_update.record_like.
      rate: the learning rate.
      share: of the population that took part.
      masks: of the weights, where training prunes. The mean is masked before the optimizer sees it,
        so that momentum gathers no noise on what is pruned.
    """
    algorithm, mean = state.algorithm, masked(mean, masks)
    if config.algorithm == "mime_lite":
        mean, gradient = mean
        still = tf.nest.map_structure(tf.zeros_like, gradient)
        algorithm, _ = build_client_optimizer(config).next(algorithm, still, gradient)
    if config.algorithm == "scaffold":
        mean, change = mean
        algorithm = tf.nest.map_structure(lambda a, b: a + share * b, algorithm, change)
    optimizer = build_server_optimizer(config)
    stepped = with_learning_rate(optimizer, state.optimizer, rate)
    stepped, weights = optimizer.next(stepped, state.weights, mean)
    weights = masked(tuple(weights), masks)  # momentum of before would still move them
    return ServerTensors(weights, stepped, state.query, algorithm, state.noise)
