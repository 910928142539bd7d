"""The curve on held-out clients: by example, on the weights it is given."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.storage import ClientStore
from privet.components.train.held_out import build_evaluation


def test_metrics_are_by_example_and_follow_the_weights(
    write_store: Any, schema_of: Any, client: Any, linear_model: Any, tmp_path: Any
) -> None:
    clients = [
        client("ann", [1.0, 2.0, 3.0], dtype="float32", x=[[1, 0], [2, 0], [3, 0]]),
        client("bob", [5.0], dtype="float32", x=[[1, 0]]),
    ]
    directory = write_store(tmp_path, schema_of({"x": 2}, None), {"eval": clients})
    model = linear_model()
    evaluate = build_evaluation(model, ClientStore(directory, "eval"))

    # y = a: right on ann, 4 off on bob. y = a + 1: 1 off on ann, 3 off on bob.
    identity = [np.array([[1.0], [0.0]]), np.array([0.0])]
    assert evaluate(identity) == pytest.approx({"mae": 1.0, "loss": 4.0})
    assert evaluate([identity[0], np.array([1.0])]) == pytest.approx({"mae": 1.5, "loss": 3.0})
    assert evaluate(identity) == pytest.approx({"mae": 1.0, "loss": 4.0})
