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
            [{"metric": "float.accuracy", "max_worsening": 0.1}],
            "max_worsening compares the compressed model, not metric=float.accuracy",
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


@pytest.mark.parametrize("values", [{"timeout_seconds": 0}, {"requests": 0}, {"tolerance": -1e-9}])
def test_infra_refuses(values: dict[str, float]) -> None:
    ((name, _),) = values.items()
    with pytest.raises(ConfigError, match=f"{name}=.* must be >"):
        InfraConfig.from_mapping(values)


def gate(metric: str) -> GateConfig:
    return GateConfig.from_mapping({"rules": [{"metric": metric, "lower_bound": 0}]})


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("multiclass", "compressed.accuracy"),
        ("binary", "float.loss.worst"),
        ("regression", "compressed.mae.p90"),
        ("regression", "ledger.epsilon"),
        ("multiclass", "ledger.delta"),
    ],
)
def test_metric_of_the_task_is_accepted_before_anything_runs(task: Any, metric: str) -> None:
    gate(metric).check_metrics(task)


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("multiclass", "compressed.mae"),
        ("regression", "compressed.accuracy"),
        ("multiclass", "compressed.accuracy.p11"),
        ("multiclass", "ledger.epsilon.mean"),
        ("multiclass", "blessed.accuracy"),
        ("multiclass", "accuracy"),
    ],
)
def test_metric_that_the_task_has_not_is_refused(task: Any, metric: str) -> None:
    with pytest.raises(ValueError, match=f"metric={metric!r} names no number of a {task} run"):
        gate(metric).check_metrics(task)


@pytest.mark.parametrize(
    "metric",
    [
        "personalized.accuracy",
        "personalized.loss.p90",
        "personalization_gain.accuracy",
        "personalization_gain.accuracy.p10",
        "personalization_gain.loss.improved",
        "personalization_gain.accuracy.worsened",
    ],
)
def test_metric_of_personalization_is_accepted_where_it_runs(metric: str) -> None:
    gate(metric).check_metrics("multiclass", personalized=True)
    with pytest.raises(ValueError, match=r"multiclass run without evaluate\.personalization"):
        gate(metric).check_metrics("multiclass")


@pytest.mark.parametrize(
    "metric", ["personalized.accuracy.improved", "personalization_gain.mae", "baseline.accuracy"]
)
def test_metric_that_personalization_has_not_is_refused(metric: str) -> None:
    with pytest.raises(ValueError, match=f"metric={metric!r} names no number of a multiclass run"):
        gate(metric).check_metrics("multiclass", personalized=True)
