"""The three prediction tasks: from a model's raw output to scores, and how scores are judged.

A user's model returns logits (classification) or values (regression). `scores` turns them into
what the servable returns, and `example_metrics` compares those with labels, example by example,
so that any weighting (by example, by client) is a plain mean of its result.
"""

from collections.abc import Mapping

import numpy as np

from privet.components.shared.schema import Task

_TINY = 1e-7  # keeps log(0) out of the cross entropy, as Keras does


def primary_metric(task: Task) -> str:
    """The metric that headlines and gates use."""
    return "mae" if task == "regression" else "accuracy"


def metric_names(task: Task) -> tuple[str, ...]:
    """The metrics that `example_metrics` gives, the primary one first: those of training."""
    return (primary_metric(task), "loss")


def evaluation_metrics(task: Task) -> tuple[str, ...]:
    """The metrics that evaluation gives, those of training first.

    Perplexity is e to the loss, rmse the root of it. Classification's others are f1, auc (of two
    classes those of class 1, of more the mean over classes) and calibration_error.
    """
    more = ("rmse",) if task == "regression" else ("f1", "auc", "perplexity", "calibration_error")
    return (*metric_names(task), *more)


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of the metric is an improvement."""
    return metric in ("accuracy", "f1", "auc")


def scores(task: Task, outputs: np.ndarray) -> np.ndarray:
    """Scores from raw model outputs.

    Args:
      task: the task.
      outputs: float [examples, units]; logits, or values for regression.

    Returns:
      float32 [examples, units]: softmax, sigmoid, or the values themselves.
    """
    outputs = np.asarray(outputs, np.float64)
    if task == "multiclass":
        exponents = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        result = exponents / exponents.sum(axis=-1, keepdims=True)
    elif task == "binary":
        result = 0.5 * (1.0 + np.tanh(0.5 * outputs))  # a sigmoid that cannot overflow
    else:
        result = outputs
    return result.astype(np.float32)


def mean_metrics(task: Task, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The mean over examples of each of their metrics; see example_metrics."""
    metrics = example_metrics(task, predicted, labels)
    return {name: float(values.mean()) for name, values in metrics.items()}


def example_metrics(
    task: Task, predicted: np.ndarray, labels: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Metrics of each example.

    Args:
      task: the task.
      predicted: float32 [examples, units], as `scores` returns.
      labels: [examples]; class indices, or values for regression.

    Returns:
      name -> float64 [examples]. Classification: accuracy (0 or 1) and loss (cross entropy,
      nats). Regression: mae (absolute error) and loss (squared error).
    """
    if task == "regression":
        error = predicted[:, 0].astype(np.float64) - labels
        return {"mae": np.abs(error), "loss": error**2}
    predicted = predicted.astype(np.float64)
    if task == "binary":
        predicted = np.concatenate([1.0 - predicted, predicted], axis=1)
    chosen = np.take_along_axis(predicted, labels.astype(np.int64)[:, None], axis=1)[:, 0]
    return {
        "accuracy": (predicted.argmax(axis=1) == labels).astype(np.float64),
        "loss": -np.log(np.maximum(chosen, _TINY)),
    }
