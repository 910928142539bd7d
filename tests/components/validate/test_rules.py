"""Each kind of rule at its boundary, with and without an earlier blessed model."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.validate.config import GateConfig
from privet.components.validate.rules import judge

LEDGER = {"epsilon": 4.0, "delta": 1e-5}
NOT_PRIVATE = {"epsilon": None, "delta": None}


def figures(accuracy: float, mae: float) -> dict[str, Any]:
    return {
        "overall": {"accuracy": accuracy, "mae": mae},
        "intervals": {"accuracy": [accuracy - 0.125, accuracy + 0.125], "mae": None},
        "slices": {"age": {"under 1.5": {"overall": {"accuracy": accuracy - 0.5}}}},
        "clients": {
            "accuracy": {
                "mean": accuracy,
                "mean_interval": [0.0, 1.0],
                "p10": accuracy - 0.25,
                "worst_decile": accuracy - 0.375,
                "worst": 0.0,
                "histogram": {},
            },
            "mae": {"mean": mae, "p90": mae + 1.0},
        },
    }


def evaluation(*, blessed: bool = False) -> dict[str, Any]:
    models = {"float": figures(0.875, 1.5), "compressed": figures(0.75, 2.0)}
    if blessed:
        models["blessed"] = figures(0.875, 1.75)
    return {"models": models}


def verdict(
    metric: str,
    *,
    blessed: bool = False,
    ledger: Any = LEDGER,
    audit: Any = None,
    than: str = "blessed",
    **limit: float,
) -> dict[str, Any]:
    gate = GateConfig.from_mapping({"rules": [{"metric": metric, "than": than, **limit}]})
    result = judge(gate, evaluation(blessed=blessed), ledger, audit)
    (rule,) = result["rules"]
    assert result["blessed"] is rule["passed"]
    return rule


@pytest.mark.parametrize(
    ("metric", "limit", "value", "passed"),
    [
        ("compressed.accuracy", {"lower_bound": 0.75}, 0.75, True),
        ("compressed.accuracy", {"lower_bound": 0.750001}, 0.75, False),
        ("float.accuracy", {"lower_bound": 0.8}, 0.875, True),
        ("compressed.mae", {"upper_bound": 2.0}, 2.0, True),
        ("compressed.mae", {"upper_bound": 1.999999}, 2.0, False),
        ("compressed.accuracy.p10", {"lower_bound": 0.5}, 0.5, True),
        ("compressed.accuracy.worst", {"lower_bound": 0.01}, 0.0, False),
        ("compressed.mae.p90", {"upper_bound": 3.0}, 3.0, True),
        ("ledger.epsilon", {"upper_bound": 4.0}, 4.0, True),
        ("ledger.epsilon", {"upper_bound": 3.999999}, 4.0, False),
        ("ledger.delta", {"upper_bound": 1e-5}, 1e-5, True),
        ("compressed.accuracy.worst_decile", {"lower_bound": 0.375}, 0.375, True),
        ("compressed.accuracy.low", {"lower_bound": 0.7}, 0.625, False),
        ("float.accuracy.high", {"lower_bound": 1.0}, 1.0, True),
        ("compressed.slices.age.under 1.5.accuracy", {"lower_bound": 0.25}, 0.25, True),
    ],
)
def test_bound_is_part_of_what_passes(
    metric: str, limit: dict[str, float], value: float, passed: bool
) -> None:
    rule = verdict(metric, **limit)

    assert (rule["value"], rule["passed"]) == (value, passed)
    assert {rule["kind"]: rule["limit"]} == limit
    assert rule["metric"] == metric


@pytest.mark.parametrize(
    ("metric", "limit", "worsening", "passed"),
    [
        ("compressed.accuracy", 0.125, 0.125, True),
        ("compressed.accuracy", 0.12499, 0.125, False),
        ("compressed.mae", 0.25, 0.25, True),
        ("compressed.mae", 0.24999, 0.25, False),
        ("compressed.accuracy.p10", 0.125, 0.125, True),
        ("compressed.mae.p90", 0.2, 0.25, False),
    ],
)
def test_worsening_against_the_last_blessed_model(
    metric: str, limit: float, worsening: float, passed: bool
) -> None:
    rule = verdict(metric, blessed=True, max_worsening=limit)

    assert (rule["value"], rule["passed"]) == (worsening, passed)
    assert rule["detail"].startswith("last blessed ")


@pytest.mark.parametrize(
    ("metric", "limit", "worsening", "passed"),
    [
        ("compressed.accuracy", 0.125, 0.125, True),
        ("compressed.accuracy", 0.005, 0.125, False),
        ("compressed.mae", 0.5, 0.5, True),
        ("compressed.slices.age.under 1.5.accuracy", 0.1, 0.125, False),
    ],
)
def test_worsening_by_compression(
    metric: str, limit: float, worsening: float, passed: bool
) -> None:
    rule = verdict(metric, max_worsening=limit, than="float")

    assert (rule["value"], rule["passed"], rule["than"]) == (worsening, passed, "float")
    assert rule["detail"].startswith("float ")


AUDIT = {
    "membership": {"auc": 0.5625, "advantage": 0.125, "tpr": 0.0, "roc": {}},
    "canaries": {"auc": 0.75, "epsilon_estimate": None, "lower_bound": {"epsilon": 1.5}},
}


@pytest.mark.parametrize(
    ("metric", "limit", "value", "passed"),
    [
        ("audit.membership.auc", {"upper_bound": 0.6}, 0.5625, True),
        ("audit.membership.tpr", {"upper_bound": 0.0}, 0.0, True),
        ("audit.canaries.auc", {"upper_bound": 0.7}, 0.75, False),
        ("audit.canaries.lower_bound", {"upper_bound": 1.5}, 1.5, True),
        ("audit.canaries.epsilon_estimate", {"upper_bound": 9.0}, None, False),
    ],
)
def test_audit_can_be_gated(
    metric: str, limit: dict[str, float], value: float | None, passed: bool
) -> None:
    rule = verdict(metric, audit=AUDIT, **limit)

    assert (rule["value"], rule["passed"]) == (value, passed)


def test_rule_on_an_audit_that_did_not_run_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'audit\.canaries\.auc' names no number"):
        verdict("audit.canaries.auc", audit={**AUDIT, "canaries": None}, upper_bound=0.8)


def test_slice_without_an_example_passes_no_rule() -> None:
    rule = verdict("compressed.slices.age.over 90.accuracy", lower_bound=0.0)

    assert (rule["value"], rule["passed"]) == (None, False)
    assert rule["detail"] == "no held-out client has an example in this part of the slice"


def test_slice_that_was_not_evaluated_is_an_error() -> None:
    with pytest.raises(ConfigError, match="names no number"):
        verdict("compressed.slices.size.small.accuracy", lower_bound=0.0)


def test_metric_of_ones_own_worsens_as_the_evaluation_says() -> None:
    results = evaluation()
    for model, value in (("float", 1.0), ("compressed", 1.5)):
        results["models"][model]["overall"]["cost"] = value
    results["metrics"] = {"cost": {"higher_is_better": False}}
    rule = {"metric": "compressed.cost", "max_worsening": 0.25, "than": "float"}
    (judged,) = judge(GateConfig.from_mapping({"rules": [rule]}), results, LEDGER)["rules"]

    assert (judged["value"], judged["passed"]) == (0.5, False)


def test_improvement_is_a_negative_worsening() -> None:
    results = evaluation(blessed=True)
    results["models"]["blessed"] = figures(0.5, 9.0)
    gate = GateConfig.from_mapping(
        {
            "rules": [
                {"metric": "compressed.accuracy", "max_worsening": 0.0},
                {"metric": "compressed.mae", "max_worsening": 0.0},
            ]
        }
    )
    result = judge(gate, results, LEDGER)

    assert [rule["value"] for rule in result["rules"]] == [-0.25, -7.0]
    assert result["blessed"] is True
    assert result["baseline"] == {"accuracy": 0.5, "mae": 9.0}


def test_first_model_cannot_worsen() -> None:
    rule = verdict("compressed.accuracy", max_worsening=0.0)

    assert rule["passed"] is True
    assert rule["value"] is None
    assert rule["detail"] == "there is no earlier blessed model to compare with"


def test_one_failing_rule_refuses_the_model() -> None:
    gate = GateConfig.from_mapping(
        {
            "rules": [
                {"metric": "compressed.accuracy", "lower_bound": 0.5},
                {"metric": "compressed.accuracy", "lower_bound": 0.9},
            ]
        }
    )
    result = judge(gate, evaluation(), LEDGER)

    assert [rule["passed"] for rule in result["rules"]] == [True, False]
    assert result["blessed"] is False
    assert result["baseline"] is None


@pytest.mark.parametrize("bound", ["upper_bound", "lower_bound"])
def test_epsilon_rule_fails_for_a_run_without_privacy(bound: str) -> None:
    rule = verdict("ledger.epsilon", ledger=NOT_PRIVATE, **{bound: 100.0})

    assert rule["passed"] is False
    assert rule["value"] is None
    assert rule["detail"] == "the run has no privacy guarantee, so there is no such number"


@pytest.mark.parametrize(
    "metric",
    [
        "compressed.acuracy",
        "compresed.accuracy",
        "accuracy",
        "compressed",
        "compressed.accuracy.p11",
        "compressed.accuracy.histogram",
        "ledger.epsilom",
    ],
)
def test_unknown_number_lists_those_that_exist(metric: str) -> None:
    with pytest.raises(ConfigError) as error:
        verdict(metric, lower_bound=0.0)
    assert str(error.value) == (
        f"gate rule metric={metric!r} names no number. Valid: float.accuracy, float.mae, "
        "compressed.accuracy, compressed.mae, ledger.epsilon, ledger.delta; the models' also with "
        ".mean, .p10, .p50, .p90, .worst_decile or .worst for the distribution over clients."
    )


def test_unknown_number_is_refused_with_max_worsening_too() -> None:
    with pytest.raises(ConfigError, match="names no number"):
        verdict("compressed.acuracy", max_worsening=0.0)


def test_number_that_is_none_passes_no_rule() -> None:
    results = evaluation()
    results["models"]["compressed"]["overall"]["accuracy"] = float("nan")
    for limit in ({"lower_bound": 0.0}, {"upper_bound": 1.0}, {"max_worsening": 1.0}):
        gate = GateConfig.from_mapping({"rules": [{"metric": "compressed.accuracy", **limit}]})
        assert judge(gate, results, LEDGER)["blessed"] is False


def personalized_verdict(personalization: Any, metric: str, **limit: float) -> dict[str, Any]:
    gate = GateConfig.from_mapping({"rules": [{"metric": metric, **limit}]})
    result = judge(gate, {**evaluation(), "personalization": personalization}, LEDGER)
    return result["rules"][0]


@pytest.mark.parametrize(
    ("metric", "limit", "value", "passed"),
    [
        ("personalized.accuracy", {"lower_bound": 0.9}, 0.9375, True),
        ("personalized.accuracy.p10", {"lower_bound": 0.7}, 0.6875, False),
        ("personalization_gain.accuracy", {"lower_bound": 0.0}, 0.125, True),
        ("personalization_gain.accuracy.worsened", {"upper_bound": 0.25}, 0.25, True),
        ("personalization_gain.accuracy.worsened", {"upper_bound": 0.2}, 0.25, False),
    ],
)
def test_what_personalization_gave_can_be_gated(
    metric: str, limit: dict[str, float], value: float, passed: bool
) -> None:
    gain = {"overall": {"accuracy": 0.125}, "clients": {"accuracy": {"worsened": 0.25}}}
    models = {"baseline": figures(0.8125, 2.0), "personalized": figures(0.9375, 1.0)}
    personalization = {"clients": 4, "models": models, "gain": gain}
    rule = personalized_verdict(personalization, metric, **limit)

    assert (rule["value"], rule["passed"]) == (value, passed)


def test_personalization_of_nobody_passes_no_rule() -> None:
    nobody = {"clients": 0, "models": {}, "gain": None}
    rule = personalized_verdict(nobody, "personalized.accuracy", lower_bound=0.0)

    assert (rule["value"], rule["passed"]) == (None, False)
    assert rule["detail"].startswith("no client has enough examples to be personalized")


def test_rule_on_personalization_that_did_not_run_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"names no number\. Valid: float\."):
        personalized_verdict(None, "personalized.accuracy", lower_bound=0.0)


@pytest.mark.parametrize("statistic", ["low", "p10"])
def test_number_that_is_not_defined_is_a_failed_rule_and_no_error(statistic: str) -> None:
    results = evaluation()
    results["models"]["compressed"]["intervals"]["accuracy"] = None
    results["models"]["compressed"]["clients"]["accuracy"]["p10"] = None
    metric = f"compressed.accuracy.{statistic}"
    gate = GateConfig.from_mapping({"rules": [{"metric": metric, "lower_bound": 0.0}]})
    (rule,) = judge(gate, results, LEDGER)["rules"]

    assert (rule["value"], rule["passed"]) == (None, False)
    assert rule["detail"] == "it is not defined on these clients"
