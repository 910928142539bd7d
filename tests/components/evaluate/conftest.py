"""Clients with scores, and measures to judge them by."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privet.components.evaluate.batches import Batch
from privet.components.evaluate.config import EvaluateConfig
from privet.components.evaluate.measures import Measures


def measures_for(classes: int, **changes: Any) -> Measures:
    """What is measured of so many classes, or for 0 of a regression."""
    task: Any = {0: "regression", 2: "binary"}.get(classes, "multiclass")
    return Measures(task, classes, EvaluateConfig().metric_directions(task), **changes)


def clients_of(labels: list[Any], sizes: list[int] | np.ndarray, **features: Any) -> Batch:
    """Clients c0, c1, ... with so many of the examples each."""
    return Batch(
        [f"c{number}" for number in range(len(sizes))],
        np.asarray(sizes),
        {name: np.asarray(values) for name, values in features.items()},
        np.asarray(labels),
    )


def scored(classes: int, clients: int, seed: int = 0) -> tuple[Batch, np.ndarray]:
    """Clients of 1 to 19 random examples, and scores of a model that knows something."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 20, clients)
    labels = generator.integers(0, classes, sizes.sum())
    logits = generator.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += 1
    powers = np.exp(logits)
    scores = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    steps = np.float32(256 if classes < 10 else 1 << 14)
    scores = np.round(scores * steps) / steps  # so that there are ties
    scores[:, 0] += 1 - scores.sum(1)
    return clients_of(labels.tolist(), sizes), scores[:, 1:] if classes == 2 else scores


@pytest.fixture(scope="session", name="measures_for")
def _measures_for() -> Callable[..., Measures]:
    return measures_for


@pytest.fixture(scope="session", name="clients_of")
def _clients_of() -> Callable[..., Batch]:
    return clients_of


@pytest.fixture(scope="session", name="scored")
def _scored() -> Callable[..., tuple[Batch, np.ndarray]]:
    return scored
