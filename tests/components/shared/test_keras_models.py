"""The losses that training and fine-tuning minimise, and what a model is called with."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.keras_models import build_loss, model_inputs


def test_losses_by_hand(schema_of: Any) -> None:
    def loss(classes: int | None, label: list[list[float]], output: list[list[float]]) -> float:
        return float(build_loss(schema_of({"x": 1}, classes))(np.array(label), np.array(output)))

    assert loss(4, [[1]], [[0.0, 0.0, 0.0, 0.0]]) == pytest.approx(np.log(4))
    assert loss(2, [[1.0]], [[0.0]]) == pytest.approx(np.log(2))
    assert loss(None, [[1.0], [0.0]], [[3.0], [1.0]]) == pytest.approx(2.5)


def test_only_feature_goes_in_alone_and_several_by_name() -> None:
    assert model_inputs({"x": 1}) == 1
    assert model_inputs({"x": 1, "z": 2}) == {"x": 1, "z": 2}
