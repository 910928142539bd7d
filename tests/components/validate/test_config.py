"""Settings of validation."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.validate.config import GateConfig, InfraConfig


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], r"rules=\[\] would bless any model"),
        ([{"metric": "a.b"}], "metric=a.b needs exactly one of lower_bound, upper_bound, max_wor"),
        ([{"metric": "a.b", "lower_bound": 0, "upper_bound": 1}], "needs exactly one of"),
        (
            [{"metric": "compressed.accuracy", "upper_bound": float("nan")}],
            "metric=compressed.accuracy: upper_bound=nan must be finite",
        ),
        (
            [{"metric": "float.accuracy", "max_worsening": 0.1}],
            "max_worsening compares the compressed model, not metric=float.accuracy",
        ),
        (
            [{"metric": "compressed.accuracy", "lower_bound": 0.1, "than": "float"}],
            "than=float is for max_worsening; metric=compressed.accuracy has a bound instead",
        ),
        ([{"metric": "a.b", "upper_limit": 1}], "unknown configuration key .*upper_limit"),
    ],
)
def test_gate_refuses(rules: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GateConfig.from_mapping({"rules": rules})


def test_rule_has_the_limit_that_was_given() -> None:
    gate = GateConfig.from_mapping(
        {
            "rules": [
                {"metric": "compressed.accuracy", "lower_bound": 0},
                {"metric": "ledger.epsilon", "upper_bound": 4},
                {"metric": "compressed.accuracy.p10", "max_worsening": 0.02},
            ]
        }
    )

    assert [(rule.kind, rule.limit) for rule in gate.rules] == [
        ("lower_bound", 0.0),
        ("upper_bound", 4.0),
        ("max_worsening", 0.02),
    ]


def gate_of(metric: str) -> GateConfig:
    return GateConfig.from_mapping({"rules": [{"metric": metric, "lower_bound": 0.0}]})


@pytest.mark.parametrize(
    "metric",
    [
        "float.accuracy",
        "compressed.cost.worst_decile",
        "compressed.accuracy.low",
        "personalized.cost.p90",
        "compressed.slices.age.under 1.5.cost",
        "personalization_gain.accuracy.improved",
        "ledger.delta",
        "audit.canaries.lower_bound",
    ],
)
def test_numbers_that_a_run_will_have(metric: str) -> None:
    gate_of(metric).check_metrics(
        ("accuracy", "cost"), slices=("age",), personalized=True, audited=("canaries",)
    )


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "compressed.acuracy",
            "of this run. Valid: float.accuracy, compressed.acc",
        ),
        ("compressed.accuracy.improved", "names no number"),
        ("compressed.slices.size.small.accuracy", "names no number"),
        ("compressed.slices.age.old.cost", "names no number"),
        ("blessed.slices.age.old.accuracy", "names no number"),
        ("personalized.accuracy", "of this run without evaluate.personalization"),
        ("audit.canaries.auc", "of this run without train.canaries"),
        ("audit.membership.auc", "of this run without audit.membership"),
        ("compressed.accuracy.p11", "names no number"),
        ("ledger.epsilon.mean", "names no number"),
        ("personalization_gain.accuracy", "of this run without evaluate.personalization"),
        ("blessed.accuracy", "names no number"),
        ("accuracy", "names no number"),
    ],
)
def test_numbers_that_a_run_will_not_have(metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gate_of(metric).check_metrics(("accuracy",), slices=("age",))


@pytest.mark.parametrize("values", [{"timeout_seconds": 0}, {"requests": 0}, {"tolerance": -1e-9}])
def test_infra_refuses(values: dict[str, float]) -> None:
    ((name, _),) = values.items()
    with pytest.raises(ConfigError, match=f"{name}=.* must be >"):
        InfraConfig.from_mapping(values)
