"""Scores and metrics of the three tasks, against numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privet.components.shared import tasks


def test_softmax_of_equal_logits_is_uniform() -> None:
    scores = tasks.scores("multiclass", np.array([[5.0, 5.0, 5.0, 5.0], [0.0, math.log(3), 0, 0]]))

    np.testing.assert_allclose(scores, [[0.25] * 4, [1 / 6, 0.5, 1 / 6, 1 / 6]], rtol=1e-6)
    assert scores.dtype == np.float32


def test_sigmoid_of_a_logit_is_its_odds() -> None:
    scores = tasks.scores("binary", np.array([[0.0], [math.log(3)], [-1000.0], [1000.0]]))

    np.testing.assert_allclose(scores, [[0.5], [0.75], [0.0], [1.0]], atol=1e-7)


def test_regression_values_are_their_own_scores() -> None:
    np.testing.assert_array_equal(tasks.scores("regression", np.array([[-3.5]])), [[-3.5]])


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(2, 5)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    )
)
def test_scores_are_a_distribution_for_any_logits(logits: np.ndarray) -> None:
    scores = tasks.scores("multiclass", logits)

    assert np.all((scores >= 0) & (scores <= 1))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_multiclass_metrics_by_hand() -> None:
    predicted = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32)
    metrics = tasks.example_metrics("multiclass", predicted, np.array([0, 1]))

    assert metrics["accuracy"].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(metrics["loss"], [math.log(2), math.log(5)], rtol=1e-6)


def test_binary_metrics_by_hand() -> None:
    predicted = np.array([[0.75], [0.75], [0.25]], np.float32)
    metrics = tasks.example_metrics("binary", predicted, np.array([1, 0, 0]))

    assert metrics["accuracy"].tolist() == [1.0, 0.0, 1.0]
    np.testing.assert_allclose(metrics["loss"], [math.log(4 / 3), math.log(4), math.log(4 / 3)])


def test_regression_metrics_by_hand() -> None:
    metrics = tasks.example_metrics(
        "regression", np.array([[1.0], [4.0]], np.float32), np.array([3.0, 3.5], np.float32)
    )

    assert metrics["mae"].tolist() == [2.0, 0.5]
    assert metrics["loss"].tolist() == [4.0, 0.25]


def test_loss_of_an_impossible_answer_is_finite() -> None:
    metrics = tasks.example_metrics("multiclass", np.array([[1.0, 0.0, 0.0]]), np.array([2]))

    assert metrics["loss"][0] == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize(
    ("task", "metric", "up"),
    [("multiclass", "accuracy", True), ("binary", "accuracy", True), ("regression", "mae", False)],
)
def test_headline_metric_and_its_direction(task: Any, metric: str, up: bool) -> None:
    assert tasks.primary_metric(task) == metric
    assert tasks.higher_is_better(metric) is up
    assert not tasks.higher_is_better("loss")
    labels = np.zeros(1, np.int64)
    computed = tasks.example_metrics(task, np.full((1, 1 + (task == "multiclass")), 0.5), labels)
    assert set(tasks.metric_names(task)) == set(computed)
