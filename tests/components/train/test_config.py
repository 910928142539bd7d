"""Settings of training: a promise of privacy is whole, or refused."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.config import TrainConfig
from privet.components.train.privacy_config import PrivacyConfig

GAUSSIAN = {"mechanism": "gaussian", "epsilon": 4.0, "delta": 1e-5, "clip_norm": 0.5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing required field `mechanism`"),
        (
            {"mechanism": "gausian"},
            "example, none. Did you mean 'gaussian'",
        ),
        ({"mechanism": "none", "epsilon": 4.0}, "'epsilon': 4.0} promise privacy but"),
        ({"mechanism": "none", "clip_norm": 1.0}, "set mechanism: gaussian"),
        ({**GAUSSIAN, "epsilon": 0.0}, "epsilon=0.0 must be > 0"),
        ({**GAUSSIAN, "delta": None}, "delta=None must lie between 1e-13 and 1"),
        ({**GAUSSIAN, "delta": 1e-14}, "delta=1e-14 must lie between 1e-13 and 1"),
        ({**GAUSSIAN, "delta": 1.0}, "delta=1.0 must lie between 1e-13 and 1"),
        ({**GAUSSIAN, "clip_norm": None}, "clip_norm=None must lie between"),
        ({**GAUSSIAN, "clip_norm": 0.0}, "clip_norm=0.0 must lie between 1e-09 and 1e"),
        ({**GAUSSIAN, "noise_multiplier": 0.0}, "noise_multiplier=0.0 must be > 0"),
        ({**GAUSSIAN, "epsilon": None}, r"needs epsilon \(calibrates the noise\) or noise_mult"),
        ({**GAUSSIAN, "epsilon": float("nan")}, "epsilon=nan must be > 0"),
        ({**GAUSSIAN, "clip_norm": float("inf")}, "clip_norm=inf must lie between"),
        ({**GAUSSIAN, "noise_multiplier": float("inf")}, "noise_multiplier=inf must be"),
        (
            {**GAUSSIAN, "noise_multiplier": 1e-3},
            r"noise_multiplier=0.001 .* between 0.01 and 1e\+06",
        ),
        ({**GAUSSIAN, "noise_multiplier": 1e7}, "noise_multiplier=10000000.0 must be"),
        ({**GAUSSIAN, "adaptive_clip": {"target_quantile": 1}}, "target_quantile=1.0 must lie"),
        ({**GAUSSIAN, "adaptive_clip": {"learning_rate": 0}}, "learning_rate=0.0 must lie"),
        ({**GAUSSIAN, "adaptive_clip": {"count_noise": 0}}, "count_noise=0.0 must be > 0"),
        ({"mechanism": "none", "adaptive_clip": {}}, "adaptive_clip.* promise privacy but"),
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
        ({"algorithm": "fed_prox"}, "proximal_strength=0.0 must be > 0 and finite"),
        ({"algorithm": "fed_prox", "proximal_strength": -0.1}, "proximal_strength=-0.1 must be"),
        ({"proximal_strength": 0.1}, "applies to algorithm=fed_prox, not to fed_avg"),
        ({"algorithm": "fedavg"}, "'fedavg' is none of .* Did you mean 'fed_avg'"),
        (
            {"algorithm": "fed_adam", "server_optimizer": {"name": "yogi", "learning_rate": 0.1}},
            "fed_avg with server_optimizer.name=adam, not yogi",
        ),
        (
            {
                "algorithm": "fed_adam",
                "server_optimizer": {"momentum": 0.9, "learning_rate": 0.1},
            },
            "server_optimizer.momentum=0.9 applies to sgd only, not to adam",
        ),
        (
            {"server_optimizer": {"adaptivity": 1e-3, "learning_rate": 0.1}},
            "server_optimizer.adaptivity=0.001 does not apply to sgd",
        ),
        (
            {"client_optimizer": {"name": "adam", "adaptivity": 0, "learning_rate": 0.1}},
            "adaptivity=0.0 must be > 0",
        ),
        ({"algorithm": "fed_sgd", "local_epochs": 2}, "takes no step on the client"),
        (
            {"algorithm": "scaffold", "client_optimizer": {"name": "adam", "learning_rate": 0.1}},
            "corrects plain gradient steps",
        ),
        ({"algorithm": "scaffold", "weight_by": "examples"}, "weighs clients equally"),
        ({"algorithm": "scaffold", "update_bits": 8}, "exact control variates"),
        ({"update_rotation": "hadamard"}, "update_rotation=hadamard is for quantized updates"),
        ({"update_code": "deflate"}, "update_code=deflate is for quantized updates"),
        (
            {
                "update_bits": 8,
                "update_code": "deflate",
                "robust_aggregation": {"kind": "median"},
            },
            "leave one of the two out",
        ),
        ({"simulation": {"late_rate": 0.1, "late_discount": 0}}, r"must lie in \(0, 1\]"),
        ({"simulation": {"late_discount": 0.7}}, "is for late_rate, which is 0"),
        (
            {"client_optimizer": {"learning_rate": 1, "schedule": {"warmup_rounds": 31}}},
            "client_optimizer.schedule.warmup_rounds=31 exceeds rounds=30",
        ),
        (
            {"client_optimizer": {"learning_rate": 1, "schedule": {"final": 0.5}}},
            "final=0.5 applies to kind=linear and cosine only, not to constant",
        ),
        ({"algorithm": "scaffold", "engine": "tff"}, "engine=tff has no algorithm=scaffold"),
        (
            {"algorithm": "scaffold", "robust_aggregation": {"kind": "median"}},
            "does not cover what algorithm=scaffold aggregates beside",
        ),
        ({"robust_aggregation": {"kind": "median"}, "weight_by": "examples"}, "clients equally"),
        ({"robust_aggregation": {"kind": "trimmed_mean"}}, "trim is for kind=trimmed_mean"),
        ({"robust_aggregation": {"kind": "median", "trim": 0.1}}, "trim is for kind=trimmed_mean"),
        ({"robust_aggregation": {"kind": "trimmed_mean", "trim": 0.5}}, "trim=0.5 must lie"),
        ({"robust_aggregation": {"kind": "norm_filter", "largest_norm": 1}}, "must be > 1"),
        ({"update_bits": 2}, "'2' is none of 4, 8"),
        (
            {
                "engine": "tff",
                "update_bits": 8,
                "update_rotation": "hadamard",
                "algorithm": "mime_lite",
            },
            "engine=tff has no update_bits with algorithm=mime_lite, update_rotation",
        ),
        (
            {"client_optimizer": {"learning_rate": 1, "schedule": {"kind": "exponential"}}},
            r"decay=None must lie in \(0, 1\]",
        ),
        (
            {"client_optimizer": {"learning_rate": 1, "schedule": {"decay": 0.5}}},
            "apply to kind=exponential only, not to constant",
        ),
        (
            {"client_optimizer": {"learning_rate": 1, "schedule": {"kind": "cosine", "final": 2}}},
            r"final=2.0 must lie in \[0, 1\]",
        ),
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_by": "examples"}, "weight_by=examples lets a client with many examples"),
        ({"algorithm": "mime_lite"}, "algorithm=mime_lite aggregates more than the update"),
        ({"algorithm": "scaffold"}, "algorithm=scaffold aggregates more than the update"),
        ({"robust_aggregation": {"kind": "median"}}, "how far one client moves it is not known"),
        ({"asynchronous": {"buffer_size": 3, "concurrency": 9}}, "in a round several times"),
        ({"simulation": {"late_rate": 0.1}}, "in a round several times"),
        ({"engine": "tff"}, "draws a round's noise from 32 random bits"),
    ],
)
def test_what_no_epsilon_covers_is_refused_with_privacy(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_mapping({"privacy": GAUSSIAN, **settings})
    TrainConfig.from_mapping({"privacy": {"mechanism": "none"}, **settings})


def test_weights_by_examples_are_refused_with_privacy() -> None:
    privacy = {"mechanism": "gaussian", "epsilon": 1, "delta": 1e-5, "clip_norm": 1}
    with pytest.raises(ConfigError, match="weight_by=examples lets a client with many examples"):
        TrainConfig.from_mapping({"privacy": privacy, "weight_by": "examples"})
    TrainConfig.from_mapping({"privacy": {"mechanism": "none"}, "weight_by": "examples"})


@pytest.mark.parametrize("mechanism", ["gaussian", "local", "example"])
def test_a_code_whose_length_depends_on_data_is_refused_with_privacy(mechanism: str) -> None:
    privacy = {**GAUSSIAN, "mechanism": mechanism}
    settings = {"privacy": privacy, "update_bits": 8, "update_rotation": "hadamard"}
    with pytest.raises(ConfigError, match="the length of a client's message depend on its data"):
        TrainConfig.from_mapping({**settings, "update_code": "deflate"})
    TrainConfig.from_mapping(settings)


ORDER = {"kind": "fixed_order", "cohort_size": 10}
POISSON = {"kind": "poisson", "cohort_size": 10}


@pytest.mark.parametrize(
    ("privacy", "settings", "message"),
    [
        ({"mechanism": "tree"}, {}, "once an epoch. Set sampling.kind: fixed_order"),
        ({"mechanism": "banded"}, {"sampling": POISSON}, "for sampling.kind=poisson"),
        ({"mechanism": "tree", "adaptive_clip": {}}, {"sampling": ORDER}, "adaptive_clip is for"),
        ({"mechanism": "local", "adaptive_clip": {}}, {}, "adaptive_clip is for mechanism=gauss"),
        ({"bands": 2}, {}, "bands=2 must be >= 1, and is for mechanism=banded"),
        ({"mechanism": "banded", "bands": 0}, {"sampling": ORDER}, "bands=0 must be >= 1"),
        ({"mechanism": "local", "rounded_noise": True}, {}, "rounded_noise is for noise on a sum"),
        ({"mechanism": "example"}, {"local_epochs": 2}, r"local_epochs: 1 \(not 2\)"),
        ({"mechanism": "example"}, {"algorithm": "fed_sgd"}, "algorithm: fed_avg"),
        ({"mechanism": "example"}, {"gradient_clip_norm": 1.0}, "leave out gradient_clip_norm"),
        ({"mechanism": "local"}, {"sampling": {**POISSON, "max_cohort_size": 99}}, "has none"),
        ({"candidates": 0}, {}, "candidates=0 must be >= 1"),
        ({}, {"sampling": {**ORDER, "max_cohort_size": 20}}, "is for kind=poisson"),
        ({}, {"sampling": {**POISSON, "max_cohort_size": 10}}, "must be above cohort_size=10"),
        ({}, {"sampling": {**ORDER, "population": 9}}, "population=9 must be"),
        ({}, {"sampling": {"kind": "fixed_size"}}, "cohort_size=None must be >= 1 with kind=fixed"),
    ],
)
def test_mechanisms_that_make_no_sense_are_refused(
    privacy: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_mapping({"privacy": {**GAUSSIAN, **privacy}, **settings})


@pytest.mark.parametrize(
    ("privacy", "settings"),
    [
        ({"mechanism": "tree", "rounded_noise": True}, {"sampling": ORDER}),
        ({"mechanism": "banded", "bands": 3}, {"sampling": ORDER}),
        ({"mechanism": "local"}, {"sampling": POISSON, "local_epochs": 5}),
        ({"mechanism": "example"}, {"sampling": ORDER, "max_steps": 3}),
        ({"candidates": 4}, {"sampling": {**POISSON, "max_cohort_size": 40}}),
        ({}, {"sampling": {"kind": "fixed_size", "cohort_size": 4, "population": 9}}),
    ],
)
def test_mechanisms_that_make_sense_are_taken(
    privacy: dict[str, Any], settings: dict[str, Any]
) -> None:
    config = TrainConfig.from_mapping({"privacy": {**GAUSSIAN, **privacy}, **settings})
    assert config.privacy.is_private
    assert config.privacy.noises_sum == (config.privacy.mechanism in ("gaussian", "tree", "banded"))


def test_early_stop_with_privacy_wants_public_eval_clients() -> None:
    values = {"privacy": GAUSSIAN, "early_stop": {"metric": "accuracy"}}
    with pytest.raises(ConfigError, match="early_stop lets the model depend on the eval clients"):
        TrainConfig.from_mapping(values)
    TrainConfig.from_mapping({**values, "public_eval": True})
    TrainConfig.from_mapping({**values, "privacy": {"mechanism": "none"}})
