"""Optimizers, learning rates and algorithms, built out of tff.learning."""

import collections
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from privet.components.train.config import ADAPTIVE, TrainConfig
from privet.components.train.optimizer_config import OptimizerConfig, ScheduleConfig

_OPTIMIZERS: dict[str, Callable[..., tff.learning.optimizers.Optimizer]] = {
    "adam": tff.learning.optimizers.build_adam,
    "adagrad": tff.learning.optimizers.build_adagrad,
    "rmsprop": tff.learning.optimizers.build_rmsprop,
    "yogi": tff.learning.optimizers.build_yogi,
}


def build_optimizer(
    config: OptimizerConfig, rate: Any = None, *, name: str = "sgd"
) -> tff.learning.optimizers.Optimizer:
    """An optimizer as pure functions.

    Args:
      config: settings.
      rate: a learning rate (a number or a tensor) in place of the configured one.
      name: of the optimizer if the configuration names none.
    """
    name, rate = config.name or name, config.learning_rate if rate is None else rate
    if name == "sgd":
        return tff.learning.optimizers.build_sgdm(rate, config.momentum or None)
    settings = {} if config.adaptivity is None else {"epsilon": config.adaptivity}
    return _OPTIMIZERS[name](rate, **settings)


def build_client_optimizer(
    config: TrainConfig, rate: Any = None
) -> tff.learning.optimizers.Optimizer:
    """What a client takes its steps with; for `rate` see build_optimizer."""
    optimizer = build_optimizer(config.client_optimizer, rate)
    if config.proximal_strength:
        optimizer = _Proximal(optimizer, config.proximal_strength)
    if config.gradient_clip_norm is not None:
        optimizer = _ClippedGradients(optimizer, config.gradient_clip_norm)
    return optimizer


def build_server_optimizer(config: TrainConfig) -> tff.learning.optimizers.Optimizer:
    """What the server applies the mean update with, as if it were a gradient."""
    return build_optimizer(config.server_optimizer, name=ADAPTIVE.get(config.algorithm, "sgd"))


def with_learning_rate(optimizer: tff.learning.optimizers.Optimizer, state: Any, rate: Any) -> Any:
    """The state of an optimizer, at another learning rate."""
    settings = dict(optimizer.get_hparams(state))
    settings[tff.learning.optimizers.LEARNING_RATE_KEY] = rate
    return optimizer.set_hparams(state, collections.OrderedDict(settings))


def learning_rate(config: OptimizerConfig, round_number: int, rounds: int) -> float:
    """The learning rate of a round.

    Args:
      config: the rate, and how it changes.
      round_number: counted from 1.
      rounds: that are configured. A round after them linear and cosine would end; so no round is
        without a step.

    >>> schedule = ScheduleConfig(kind="linear", final=0.5, warmup_rounds=2)
    >>> config = OptimizerConfig(learning_rate=1.0, schedule=schedule)
    >>> [round(learning_rate(config, number, 6), 9) for number in range(1, 7)]
    [0.5, 1.0, 0.9, 0.8, 0.7, 0.6]
    """
    schedule, rate = config.schedule, config.learning_rate
    if round_number < schedule.warmup_rounds:
        return rate * round_number / schedule.warmup_rounds
    start = max(1, schedule.warmup_rounds)
    passed = round_number - start
    if schedule.kind == "exponential":
        assert schedule.decay is not None  # ScheduleConfig checks it
        return rate * schedule.decay ** (passed / schedule.decay_rounds)
    progress = passed / (rounds - start + 1)
    fall = {
        "constant": 0.0,
        "linear": progress,
        "cosine": (1 - math.cos(math.pi * progress)) / 2,
    }[schedule.kind]
    return rate * (1 - (1 - schedule.final) * fall)


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

    def get_hparams(self, state: Any) -> Any:
        """Those of the optimizer inside."""
        return self._optimizer.get_hparams(state[0])

    def set_hparams(self, state: Any, hparams: Any) -> Any:
        """Sets those of the optimizer inside."""
        return (self._optimizer.set_hparams(state[0], hparams), *state[1:])


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

    def get_hparams(self, state: Any) -> Any:
        """Those of the optimizer inside."""
        return self._optimizer.get_hparams(state)

    def set_hparams(self, state: Any, hparams: Any) -> Any:
        """Sets those of the optimizer inside."""
        return self._optimizer.set_hparams(state, hparams)


def build_learning_process(
    model: tff.learning.models.FunctionalModel, config: TrainConfig, aggregator: Any
) -> tff.learning.templates.LearningProcess:
    """The algorithm on TFF's own runtime: what the other engines are held to.

    An update that is not finite is zeroed on the client, before clipping. No training metric is
    aggregated: it would leave the clients without noise.

    Args:
      model: what is trained.
      config: settings; see TrainConfig for what TFF has no form of.
      aggregator: of updates; weighted if clients are weighed by their examples.
    """
    algorithms, loop = tff.learning.algorithms, tff.learning.LoopImplementation.DATASET_ITERATOR
    server = build_server_optimizer(config)
    weighted = config.weight_by == "examples"
    if config.algorithm == "fed_sgd":
        if not weighted:
            aggregator = tff.aggregators.as_weighted_aggregator(aggregator)
        return algorithms.build_fed_sgd(
            model,
            server_optimizer_fn=server,
            model_aggregator=aggregator,
            loop_implementation=loop,
        )
    if config.client_optimizer.schedule != ScheduleConfig():
        # Over an iterator TFF 0.87 fails here: it takes its ModelWeights for another structure.
        return algorithms.build_weighted_fed_avg_with_optimizer_schedule(
            model,
            client_learning_rate_fn=_rates(config),
            client_optimizer_fn=lambda rate: build_client_optimizer(config, rate),
            server_optimizer_fn=server,
            model_aggregator=aggregator
            if weighted
            else tff.aggregators.as_weighted_aggregator(aggregator),
        )
    client = build_client_optimizer(config)
    if config.algorithm == "mime_lite":
        build = (
            algorithms.build_weighted_mime_lite
            if weighted
            else algorithms.build_unweighted_mime_lite
        )
        return build(
            model,
            base_optimizer=client,
            server_optimizer=server,
            model_aggregator=aggregator,
            loop_implementation=loop,
        )
    build = algorithms.build_weighted_fed_avg if weighted else algorithms.build_unweighted_fed_avg
    return build(
        model,
        client_optimizer_fn=client,
        server_optimizer_fn=server,
        model_aggregator=aggregator,
        loop_implementation=loop,
    )


def _rates(config: TrainConfig) -> Callable[[Any], Any]:
    """The client's learning rate of a round that is counted from 0, inside a program."""
    numbers = range(1, config.rounds + 1)
    rates = [learning_rate(config.client_optimizer, number, config.rounds) for number in numbers]
    return lambda number: tf.gather(tf.constant(rates, tf.float32), number)
