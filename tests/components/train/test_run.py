"""A whole training run through TFF: model, ledger and history belong together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.train.accounting import epsilon_of, rounds_event
from privet.components.train.run import TrainingResult, run_training
from privet.components.train.sampling import PoissonSampler

pytestmark = pytest.mark.usefixtures("no_worker_left")

MODEL = """
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=(2,), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3, kernel_initializer="zeros")(inputs))
"""
GAUSSIAN = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1.0}


@pytest.fixture(scope="module")
def place(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store of four training and two held-out clients on three separable classes."""
    centres = np.array([[4, 0], [0, 4], [-4, -4]], np.float32)
    generator = np.random.default_rng(0)

    def one(name: str) -> Any:
        labels = generator.permutation(3)
        noise = generator.normal(size=(3, 2)).astype(np.float32)
        return client(name, labels, x=centres[labels] + noise)

    place = tmp_path_factory.mktemp("run")
    (place / "model.py").write_text(MODEL)
    write_store(
        place / "examples",
        schema_of({"x": 2}, 3),
        {"train": [one(f"t{i}") for i in range(4)], "eval": [one(f"e{i}") for i in range(2)]},
    )
    return place


def run(place: Path, config: Any, told: list[Any] | None = None) -> TrainingResult:
    return run_training(
        str(place / "examples"),
        str(place / "model.py"),
        "build_model",
        config,
        0,
        (told if told is not None else []).append,
    )


@pytest.fixture(scope="module")
def plain(place: Path, train_config: Any) -> TrainingResult:
    return run(place, train_config(rounds=3, evaluate_every=2))


def test_separable_classes_are_learned(plain: TrainingResult) -> None:
    scores = plain.model(np.array([[4.0, 0.0], [0, 4], [-4, -4]])).numpy()
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    assert [one["eval"] is not None for one in plain.history["rounds"]] == [False, True, True]
    assert plain.history["rounds"][-1]["eval"]["accuracy"] == 1.0
    assert plain.history["metric"] == "accuracy"
    assert plain.history["parameters"] == 9


def test_run_without_privacy_says_so(plain: TrainingResult) -> None:
    assert plain.ledger["private"] is False
    assert plain.ledger["epsilon"] is None
    assert plain.ledger["rounds"] == plain.ledger["rounds_planned"] == 3
    assert [one["epsilon"] for one in plain.history["rounds"]] == [None] * 3


def test_private_run_stops_within_its_budget_and_says_so(place: Path, train_config: Any) -> None:
    sampler = PoissonSampler(4, 2)
    spent = [epsilon_of(rounds_event(sampler, 3.0, r), 1e-5) for r in (1, 2, 3)]
    privacy = {**GAUSSIAN, "noise_multiplier": 3.0, "epsilon": (spent[1] + spent[2]) / 2}
    sampling = {"kind": "poisson", "cohort_size": 2}
    told: list[Any] = []
    result = run(place, train_config(rounds=9, privacy=privacy, sampling=sampling), told)

    assert result.ledger["private"] is True
    assert (result.ledger["rounds"], result.ledger["rounds_planned"]) == (2, 9)
    assert result.ledger["epsilon_by_round"] == spent[:2]
    assert result.ledger["epsilon"] == spent[1] <= privacy["epsilon"]
    assert result.ledger["mechanism"]["noise_multiplier"] == 3.0
    assert result.ledger["mechanism"]["denominator"] == 2.0
    assert result.ledger["sampling"] == sampler.describe()
    assert len(result.history["rounds"]) == len(told) == 2
    assert [one["cohort"] for one in result.history["rounds"]] == [None, None]
    assert all(np.isfinite(part).all() for part in result.model.get_weights())


def test_calibrated_run_takes_all_its_rounds(place: Path, train_config: Any) -> None:
    result = run(place, train_config(rounds=2, privacy={**GAUSSIAN, "epsilon": 3.0}))

    assert result.ledger["rounds"] == 2
    assert 2.99 < result.ledger["epsilon"] <= 3.0
    assert result.ledger["sampling"]["kind"] == "all"


def test_delta_of_one_in_the_number_of_clients_is_refused(place: Path, train_config: Any) -> None:
    privacy = {**GAUSSIAN, "noise_multiplier": 1.0, "delta": 0.25}
    with pytest.raises(PrivacyError, match=r"delta=0\.25 is not below 1 / 4 clients"):
        run(place, train_config(privacy=privacy))


def test_cohort_larger_than_the_training_clients_is_refused(place: Path, train_config: Any) -> None:
    with pytest.raises(ConfigError, match="cohort_size=5 exceeds the 4 clients in train"):
        run(place, train_config(sampling={"kind": "poisson", "cohort_size": 5}))
