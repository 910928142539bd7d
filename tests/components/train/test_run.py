"""A whole training run: model, ledger and history belong together."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared import files, layout
from privet.components.shared.errors import ConfigError, ModelError, PrivacyError
from privet.components.shared.noised_statistics import describe
from privet.components.shared.privacy_loss import epsilon_of, gaussians, in_sequence
from privet.components.train.mechanism import gaussian
from privet.components.train.run import TrainingResult, run_training
from privet.components.train.sampling import AllClients, PoissonSampler, Sampler
from privet.components.train.sampling import describe as describe_draws

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


def epsilon_after(sampler: Sampler, noise: float, rounds: int) -> float:
    return epsilon_of(gaussian(sampler.draws, noise).event(rounds), 1e-5)


def test_private_run_stops_within_its_budget_and_says_so(place: Path, train_config: Any) -> None:
    sampler = PoissonSampler(4, 2)
    spent = [epsilon_after(sampler, 3.0, r) for r in (1, 2, 3)]
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
    assert result.ledger["sampling"] == describe_draws(sampler.draws)
    assert len(result.history["rounds"]) == len(told) == 2
    assert [one["cohort"] for one in result.history["rounds"]] == [None, None]
    assert all(np.isfinite(part).all() for part in result.model.get_weights())


def test_calibrated_run_takes_all_its_rounds(place: Path, train_config: Any) -> None:
    result = run(place, train_config(rounds=2, privacy={**GAUSSIAN, "epsilon": 3.0}))

    assert result.ledger["rounds"] == 2
    assert 2.99 < result.ledger["epsilon"] <= 3.0
    assert result.ledger["sampling"]["kind"] == "all"


def test_adaptive_clipping_is_accounted_with_its_count(place: Path, train_config: Any) -> None:
    adaptive = {"target_quantile": 0.7, "learning_rate": 0.3, "count_noise": 4.0}
    privacy = {**GAUSSIAN, "noise_multiplier": 3.0, "adaptive_clip": adaptive}
    ledger = run(place, train_config(rounds=2, privacy=privacy)).ledger

    assert ledger["epsilon"] == epsilon_after(AllClients(4), 3.0, 2)
    assert ledger["mechanism"]["noise_multiplier"] == 3.0
    assert ledger["mechanism"]["adaptive_clip"] == {
        **adaptive,
        "value_noise_multiplier": pytest.approx((1 / 9 - 1 / 64) ** -0.5),
    }


@pytest.fixture
def noised(place: Path, tmp_path: Path) -> Path:
    """The same place, with statistics that were released with noise."""
    (tmp_path / "model.py").write_text(MODEL)
    shutil.copytree(place / "examples", tmp_path / "examples")
    mechanism = {
        **describe(12.0, 6),
        "epsilon": 1.0,
        "delta": 1e-6,
        "max_examples_per_client": 3,
        "clients_covered": ["train", "eval"],
    }
    statistics = {"schema": 2, "private": True, "mechanism": mechanism, "splits": {}}
    files.write_json(str(tmp_path / "examples" / layout.STATISTICS), statistics)
    return tmp_path


def test_budget_covers_noised_statistics_and_training(noised: Path, train_config: Any) -> None:
    result = run(noised, train_config(rounds=2, privacy={**GAUSSIAN, "epsilon": 3.0}))

    ledger, before = result.ledger, gaussians(12.0, 6)
    noise = ledger["mechanism"]["noise_multiplier"]
    whole = in_sequence(before, gaussian(AllClients(4).draws, noise).event(2))
    assert ledger["epsilon"] == epsilon_of(whole, 1e-5)
    assert 2.99 < ledger["epsilon"] <= 3.0
    assert [part["what"] for part in ledger["parts"]] == ["statistics", "training"]
    assert ledger["epsilon_by_round"][0] > ledger["epsilon_before_rounds"] > 0
    assert ledger["epsilon_before_rounds"] == epsilon_of(before, 1e-5)
    assert ledger["rounds"] == 2


def test_statistics_that_spent_the_budget_stop_the_run(noised: Path, train_config: Any) -> None:
    privacy = {**GAUSSIAN, "epsilon": 0.5}
    with pytest.raises(ConfigError, match=r"epsilon=0\.5 covers the noised statistics"):
        run(noised, train_config(privacy=privacy))


def test_run_without_privacy_lists_noised_statistics(noised: Path, train_config: Any) -> None:
    ledger = run(noised, train_config(rounds=1)).ledger

    assert ledger["private"] is False
    assert [part["what"] for part in ledger["parts"]] == ["statistics"]


def test_delta_of_one_in_the_number_of_clients_is_refused(place: Path, train_config: Any) -> None:
    privacy = {**GAUSSIAN, "noise_multiplier": 1.0, "delta": 0.25}
    with pytest.raises(PrivacyError, match=r"delta=0\.25 is not below 1 / 4 clients"):
        run(place, train_config(privacy=privacy))


@pytest.mark.parametrize("stored", [True, False])
def test_vocabulary_learned_from_clients_stops_a_private_run_only(
    place: Path, train_config: Any, tmp_path: Path, stored: bool
) -> None:
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    schema = json.loads((tmp_path / "examples" / "schema.json").read_text())
    schema["features"]["words"] = {"columns": "text", "dtype": "int64"}
    if stored:  # as ingestion leaves it
        schema["features"]["words"]["vocabulary"] = ["secret"]
        schema["learned_features"] = ["words"]
    else:
        schema["features"]["words"]["learn_vocabulary"] = 10
    (tmp_path / "examples" / "schema.json").write_text(json.dumps(schema))

    privacy = {**GAUSSIAN, "noise_multiplier": 1.0}
    with pytest.raises(PrivacyError, match=r"features words: .* covered by no epsilon") as error:
        run(tmp_path, train_config(privacy=privacy))
    assert "secret" not in str(error.value)
    with pytest.raises(ModelError, match="words"):  # not for its vocabulary
        run(tmp_path, train_config())


def test_cohort_larger_than_the_training_clients_is_refused(place: Path, train_config: Any) -> None:
    with pytest.raises(ConfigError, match="cohort_size=5 exceeds the 4 clients in train"):
        run(place, train_config(sampling={"kind": "poisson", "cohort_size": 5}))


@pytest.mark.parametrize("name", ["folder", "file.keras", "file.h5"])
def test_training_starts_from_saved_weights(
    place: Path, plain: TrainingResult, train_config: Any, tmp_path: Path, name: str
) -> None:
    plain.model.save(tmp_path / name)
    rate = {"learning_rate": 1e-9}
    config = train_config(rounds=1, client_optimizer=rate, initial_weights=str(tmp_path / name))
    started = run(place, config)

    for weight, saved in zip(started.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, saved, atol=1e-6)
        assert np.abs(weight).max() > 1e-3  # the model function's own are zero


def test_weights_of_another_model_are_refused(
    place: Path, train_config: Any, linear_model: Any, tmp_path: Path
) -> None:
    path = str(tmp_path / "other.keras")
    linear_model().save(path)
    with pytest.raises(
        ModelError, match=r"shapes \[\(2, 1\), \(1,\)\], but .* \[\(2, 3\), \(3,\)\]"
    ):
        run(place, train_config(initial_weights=path))
    Path(path).write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"other\.keras cannot be read as a Keras model"):
        run(place, train_config(initial_weights=path))
    with pytest.raises(ModelError, match="cannot be read as a Keras model"):
        run(place, train_config(initial_weights=str(tmp_path / "nothing")))
