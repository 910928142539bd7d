"""Optimizers by name: each takes a step down the gradient."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.train.algorithms import build_optimizer
from privet.components.train.optimizer_config import OptimizerConfig


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad", "rmsprop", "yogi"])
def test_every_optimizer_steps_against_the_gradient(name: Any) -> None:
    optimizer = build_optimizer(OptimizerConfig(name=name, learning_rate=0.25))
    state = optimizer.initialize(tf.TensorSpec([2], tf.float32))
    _, weights = optimizer.next(state, tf.constant([1.0, 1.0]), tf.constant([2.0, -2.0]))

    assert weights[0] < 1.0 < weights[1]


def test_sgd_with_momentum_remembers_the_last_step() -> None:
    optimizer = build_optimizer(OptimizerConfig(learning_rate=0.5, momentum=0.5))
    state = optimizer.initialize(tf.TensorSpec([], tf.float32))
    weights, steps = tf.constant(0.0), []
    for _ in range(3):
        state, after = optimizer.next(state, weights, tf.constant(1.0))
        steps.append(float(after - weights))
        weights = after

    np.testing.assert_allclose(steps, [-0.5, -0.75, -0.875])
