"""The release: what one client can change, the noise in numbers, and what is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest

from privet.components.evaluate import release
from privet.components.evaluate.config import EvaluateConfig, ReleaseConfig
from privet.components.evaluate.release import (
    HISTOGRAM_BINS,
    MEAN_STEPS,
    Released,
    bounded_sums,
    noise_multiplier,
    released_of,
)
from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.noised_statistics import describe
from privet.components.shared.privacy_loss import epsilon_of, gaussians

CONFIG = ReleaseConfig(epsilon=2.0, delta=1e-6)
ACCURACY = Released("accuracy", 0.0, 1.0)
SIGMAS = 6


def sums_of(values: list[float], released: Released = ACCURACY) -> np.ndarray:
    return bounded_sums({released.metric: np.array(values)}, released)


def test_sums_by_hand() -> None:
    clients, scaled, *histogram = sums_of([0.0, 0.5, 1.0, 0.76]).tolist()

    assert clients == 4
    assert scaled == round(0.52 * MEAN_STEPS)  # -1 + 0 + 1 + 0.52
    assert {place: count for place, count in enumerate(histogram) if count} == {
        0: 1,
        10: 1,
        15: 1,
        19: 1,
    }


@pytest.mark.parametrize("value", [-1e300, 0.0, 3.0, 10.0, 1e300, math.nan])
def test_no_client_changes_a_statistic_by_more_than_its_sensitivity(value: float) -> None:
    released = Released("loss", 0.0, 10.0)
    change = sums_of([2.0, value], released) - sums_of([2.0], released)

    assert change[0] == 1
    assert abs(change[1]) <= MEAN_STEPS
    assert (change[2:].sum(), change[2:].max()) == (1, 1)


def test_noise_is_calibrated_over_all_that_is_released() -> None:
    for models in (1, 4):
        noise = noise_multiplier(CONFIG, models)
        spent = epsilon_of(gaussians(noise, 1 + 2 * models), CONFIG.delta)
        assert 1.99 < spent <= 2.0


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """Of 3,000 clients under two models and the last blessed one; half of them are at 0.75."""
    sums = {name: sums_of([0.25, 0.75] * 1500) for name in ("float", "int8", "blessed")}
    return release.release(sums, CONFIG, ACCURACY, "eval", {"private": False})


def test_release_is_near_the_truth_and_says_how_near(written: dict[str, Any]) -> None:
    noise = noise_multiplier(CONFIG, 2)
    assert written["standard_error"] == pytest.approx(math.sqrt(noise**2 + 1 / 12))
    assert abs(written["clients"] - 3000) < SIGMAS * written["standard_error"]
    for model in written["models"].values():
        counts = np.array(model["histogram"]["counts"])
        truth = np.zeros(HISTOGRAM_BINS)
        truth[[5, 15]] = 1500
        assert abs(counts - truth).max() < SIGMAS * written["standard_error"]
        assert abs(model["mean"] - 0.5) < SIGMAS * model["mean_standard_error"]
        assert model["mean_standard_error"] == pytest.approx(noise / 2 / 3000, rel=0.05)
    assert json.loads(json.dumps(written)) == written


def test_release_says_what_it_spent_and_leaves_the_blessed_model_out(
    written: dict[str, Any],
) -> None:
    assert written["private"] is True
    assert set(written["models"]) == {"float", "int8"}
    mechanism = written["mechanism"]
    assert (mechanism["epsilon"], mechanism["delta"]) == (2.0, 1e-6)
    assert mechanism["compositions"] == 5
    assert mechanism["noise_source"] == "operating system"
    assert written["epsilon_with_ingestion"] is None


def test_noise_is_another_in_every_release_and_of_its_size() -> None:
    sums = {"float": sums_of([0.5] * 100)}
    found = [
        release.release(sums, CONFIG, ACCURACY, "eval", {"private": False})["models"]["float"]
        for _ in range(40)
    ]
    empty = np.array([one["histogram"]["counts"][0] for one in found])
    noise = np.array([one["histogram"]["counts"] for one in found])
    noise[:, 10] -= 100

    assert len(set(empty.tolist())) > 5
    count = noise.size
    expected = noise_multiplier(CONFIG, 1) ** 2 + 1 / 12
    assert abs(noise.mean()) < SIGMAS * math.sqrt(expected / count)
    assert abs(noise.var() / expected - 1) < SIGMAS * math.sqrt(2 / count)


def test_seeded_noise_is_marked_as_not_private() -> None:
    sums = {"float": sums_of([0.5] * 100)}
    generator = np.random.default_rng(0)
    found = release.release(sums, CONFIG, ACCURACY, "eval", {"private": False}, generator)

    assert found["private"] is False
    assert found["mechanism"]["noise_source"] == "seeded generator"


def test_epsilon_with_noised_ingestion_statistics_covers_both() -> None:
    sums = {"float": sums_of([0.5] * 100)}
    statistics = {"private": True, "mechanism": describe(8.0, 3)}
    found = release.release(sums, CONFIG, ACCURACY, "eval", statistics)

    own = found["mechanism"]["epsilon"]
    alone = epsilon_of(gaussians(8.0, 3), CONFIG.delta)
    assert own < found["epsilon_with_ingestion"] < own + alone


def test_delta_that_would_publish_a_client_is_refused() -> None:
    config = ReleaseConfig(epsilon=2.0, delta=0.01)
    with pytest.raises(PrivacyError, match=r"evaluate.release.delta=0.01 is not below 1 / 100"):
        release.release({"float": sums_of([0.5] * 100)}, config, ACCURACY, "eval", {})


def test_features_that_were_learned_from_the_clients_are_refused(schema_of: Any) -> None:
    words = {"columns": "word", "dtype": "int64", "vocabulary": ["a", "b"]}
    schema = schema_of({"word": words}, 2)
    learned = type(schema).from_mapping(
        {**json.loads(schema.to_json()), "learned_features": ["word"]}
    )

    assert released_of(CONFIG, schema) == ACCURACY
    with pytest.raises(PrivacyError, match="the features word were learned from the clients"):
        released_of(CONFIG, learned)


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        ({"metric": "loss"}, 3, "loss has no bounds of its own"),
        ({}, None, "mae has no bounds of its own"),
        ({"metric": "own"}, 3, "evaluate.release.metric=own is none of accuracy, loss, f1"),
        ({"metric": "f1"}, 2, "metric=f1 cannot be released of two classes"),
    ],
)
def test_release_that_would_be_doubtful_is_refused(
    schema_of: Any, values: Any, classes: Any, message: str
) -> None:
    release_config = {"epsilon": 1, "delta": 1e-6, **values}
    config = EvaluateConfig.from_mapping({"release": release_config})
    with pytest.raises(ValueError, match=message):
        config.check_schema(schema_of({"x": 1}, classes))


def test_release_does_not_go_with_training_that_stops_by_these_clients() -> None:
    config = EvaluateConfig(release=CONFIG)
    config.check_training(stops_by_clients=False)
    EvaluateConfig().check_training(stops_by_clients=True)
    with pytest.raises(ValueError, match="does not go with train"):
        config.check_training(stops_by_clients=True)


def test_unbounded_metric_is_released_within_public_bounds(schema_of: Any) -> None:
    config = EvaluateConfig.from_mapping(
        {"release": {"epsilon": 1, "delta": 1e-6, "metric": "mae", "bounds": [0, 4]}}
    )
    schema = schema_of({"x": 1}, None)
    config.check_schema(schema)

    assert config.release is not None
    assert released_of(config.release, schema) == Released("mae", 0.0, 4.0)
    with pytest.raises(ConfigError, match="metric=auc cannot be released"):
        EvaluateConfig.from_mapping({"release": {"epsilon": 1, "delta": 1e-6, "metric": "auc"}})
