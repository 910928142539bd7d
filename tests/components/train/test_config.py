"""Settings of training: a promise of privacy is whole, or refused."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.config import PrivacyConfig, TrainConfig

GAUSSIAN = {"mechanism": "gaussian", "epsilon": 4.0, "delta": 1e-5, "clip_norm": 0.5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing required field `mechanism`"),
        ({"mechanism": "gausian"}, "'gausian' is none of gaussian, none. Did you mean 'gaussian'"),
        ({"mechanism": "none", "epsilon": 4.0}, "'epsilon': 4.0} promise privacy but"),
        ({"mechanism": "none", "clip_norm": 1.0}, "set mechanism: gaussian"),
        ({**GAUSSIAN, "epsilon": 0.0}, "epsilon=0.0 must be > 0"),
        ({**GAUSSIAN, "delta": None}, "delta=None must lie between 0 and 1"),
        ({**GAUSSIAN, "delta": 1.0}, "delta=1.0 must lie between 0 and 1"),
        ({**GAUSSIAN, "clip_norm": None}, "clip_norm=None must be > 0"),
        ({**GAUSSIAN, "clip_norm": 0.0}, "clip_norm=0.0 must be > 0"),
        ({**GAUSSIAN, "noise_multiplier": 0.0}, "noise_multiplier=0.0 must be > 0"),
        ({**GAUSSIAN, "epsilon": None}, r"needs epsilon \(calibrates the noise\) or noise_mult"),
        ({**GAUSSIAN, "epsilon": float("nan")}, "epsilon=nan must be > 0"),
        ({**GAUSSIAN, "clip_norm": float("inf")}, "clip_norm=inf must be"),
        ({**GAUSSIAN, "noise_multiplier": float("inf")}, "noise_multiplier=inf must be"),
    ],
)
def test_privacy_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PrivacyConfig.from_mapping(values)


@pytest.mark.parametrize(
    "changes", [{}, {"epsilon": None, "noise_multiplier": 1.0}, {"noise_multiplier": 1.0}]
)
def test_privacy_accepts_a_budget_a_noise_or_both(changes: dict[str, Any]) -> None:
    assert PrivacyConfig.from_mapping({**GAUSSIAN, **changes}).mechanism == "gaussian"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing required field `privacy`"),
        ({"rounds": 0}, "rounds=0 must be >= 1"),
        ({"batch_size": 0}, "batch_size=0 must be >= 1"),
        ({"local_epochs": -1}, "local_epochs=-1 must be >= 1"),
        ({"evaluate_every": -1}, "evaluate_every=-1 must be >= 0"),
        ({"checkpoint_every": -1}, "checkpoint_every=-1 must be >= 0"),
        ({"early_stop": {"metric": "auc"}}, "'auc' is none of accuracy, loss, mae"),
        ({"early_stop": {"metric": "loss", "patience": 0}}, "patience=0 must be >= 1"),
        (
            {"early_stop": {"metric": "loss", "min_improvement": -0.1}},
            "min_improvement=-0.1 must be >= 0",
        ),
        (
            {"early_stop": {"metric": "loss"}, "evaluate_every": 0},
            "early_stop needs evaluations, but evaluate_every=0",
        ),
        ({"engine": "jax"}, "'jax' is none of auto, compiled, beam, tff"),
        ({"proximal_strength": -0.1}, "proximal_strength=-0.1 must be >= 0"),
        ({"gradient_clip_norm": 0}, "gradient_clip_norm=0.0 must be > 0"),
        ({"max_steps": 0}, "max_steps=0 must be >= 1"),
        ({"sampling": {"kind": "poisson"}}, "cohort_size=None must be >= 1 with kind=poisson"),
        ({"sampling": {"cohort_size": 3}}, "cohort_size=3 does not apply to kind=all"),
        ({"sampling": {"kind": "fixed", "cohort_size": 3}}, "'fixed' is none of all, poisson"),
        ({"client_optimizer": {"learning_rate": 0}}, "learning_rate=0.0 must be > 0"),
        (
            {"client_optimizer": {"learning_rate": 0.1, "momentum": 1.0}},
            r"momentum=1.0 must lie in \[0, 1\)",
        ),
        ({"server_optimizer": {"name": "adam"}}, "missing required field `learning_rate`"),
        (
            {"server_optimizer": {"name": "adam", "learning_rate": 0.1, "momentum": 0.9}},
            "momentum=0.9 applies to sgd only, not to adam",
        ),
    ],
)
def test_training_refuses(values: dict[str, Any], message: str) -> None:
    privacy = {"privacy": {"mechanism": "none"}} if values else {}
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_mapping({**privacy, **values})


def test_weights_by_examples_are_refused_with_privacy() -> None:
    privacy = {"mechanism": "gaussian", "epsilon": 1, "delta": 1e-5, "clip_norm": 1}
    with pytest.raises(ConfigError, match="weight_by=examples lets a client with many examples"):
        TrainConfig.from_mapping({"privacy": privacy, "weight_by": "examples"})
    TrainConfig.from_mapping({"privacy": {"mechanism": "none"}, "weight_by": "examples"})


def test_early_stop_with_privacy_wants_public_eval_clients() -> None:
    values = {"privacy": GAUSSIAN, "early_stop": {"metric": "accuracy"}}
    with pytest.raises(ConfigError, match="early_stop lets the model depend on the eval clients"):
        TrainConfig.from_mapping(values)
    TrainConfig.from_mapping({**values, "public_eval": True})
    TrainConfig.from_mapping({**values, "privacy": {"mechanism": "none"}})
