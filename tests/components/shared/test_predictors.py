"""The models under evaluation answer with scores, whatever form they come in."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.predictors import load_keras, load_servable, servable_fits
from privet.components.validate.infra import sample_inputs

KINDS = ["convolutional", "embedding", "binary", "regression", "image", "text"]


@pytest.mark.parametrize("kind", KINDS)
def test_keras_and_servable_give_the_same_scores(
    kinds: Any, trained: Any, servable: Any, kind: str
) -> None:
    schema = kinds[kind].schema
    inputs = sample_inputs(schema, 12)
    scores = load_keras(trained(kind), schema)(inputs)
    compressed = load_servable(str(servable(kind, "int8_weights")))(inputs)

    assert scores.shape == compressed.shape == (12, schema.output_units)
    assert scores.dtype == compressed.dtype == np.float32
    # Apart by what int8 costs, and no more.
    assert 0 < np.abs(scores - compressed).max() < 0.05 * np.ptp(scores) + 0.02


def test_uncompressed_servable_is_the_keras_model(kinds: Any, trained: Any, servable: Any) -> None:
    schema = kinds["convolutional"].schema
    inputs = sample_inputs(schema, 12)
    wanted = load_keras(trained("convolutional"), schema)(inputs)
    answer = load_servable(str(servable("convolutional", "float32")))(inputs)

    np.testing.assert_allclose(answer, wanted, atol=1e-6)


def test_one_servable_answers_clients_of_any_size(kinds: Any, servable: Any) -> None:
    predict = load_servable(str(servable("binary", "int8_weights")))
    inputs = sample_inputs(kinds["binary"].schema, 9)
    whole = np.array(predict(inputs))

    for start, stop in ((0, 1), (1, 9), (4, 5)):
        part = predict({"x": inputs["x"][start:stop]})
        np.testing.assert_allclose(part, whole[start:stop], atol=1e-6)


def test_servable_fits_only_the_features_that_it_was_made_for(
    kinds: Any, servable: Any, schema_of: Any
) -> None:
    for kind in KINDS:
        folder = str(servable(kind, "int8_weights"))
        fitting = {other for other in kinds if servable_fits(folder, kinds[other].schema)}
        same_features = {"binary", "other_binary", "regression"}
        assert fitting == (same_features if kind in same_features else {kind})
    assert not servable_fits(str(servable("binary", "int8_weights")), schema_of({"z": 6}, 2))
    wrong_type = schema_of({"image": {"columns": "image", "shape": [28, 28]}}, 3)
    assert not servable_fits(str(servable("image", "int8_weights")), wrong_type)
