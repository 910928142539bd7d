"""The quality gate: rules over the evaluation and the ledger, and a verdict on each."""

from collections.abc import Mapping
from typing import Any

from privet.components.shared import tasks
from privet.components.shared.errors import ConfigError
from privet.components.validate.config import PERSONALIZATION, GateConfig, Rule

_BASELINE = "blessed"  # the name of the last blessed model in evaluation.json
_SLACK = 1e-9  # a value equal to its limit passes, whatever the last bit says


def judge(
    config: GateConfig, evaluation: Mapping[str, Any], ledger: Mapping[str, Any]
) -> dict[str, Any]:
    """Applies every rule.

    Args:
      config: the rules.
      evaluation: content of evaluation.json.
      ledger: content of privacy_ledger.json.

    Returns:
      The content of blessing.json: the verdict and each rule with value and limit.

    Raises:
      ConfigError: a rule names a number that does not exist.
    """
    verdicts = [_judge_rule(rule, evaluation, ledger) for rule in config.rules]
    baseline = evaluation["models"].get(_BASELINE)
    return {
        "schema": 1,
        "blessed": all(verdict["passed"] for verdict in verdicts),
        "rules": verdicts,
        "baseline": baseline["overall"] if baseline else None,
    }


def _judge_rule(
    rule: Rule, evaluation: Mapping[str, Any], ledger: Mapping[str, Any]
) -> dict[str, Any]:
    value = _value(rule.metric, evaluation, ledger)
    detail = ""
    if rule.kind == "max_worsening":
        reference = _baseline_value(rule.metric, evaluation)
        value, passed, detail = _worsening(rule, value, reference)
    elif value is None:
        passed, detail = False, _why_none(rule.metric)
    elif rule.kind == "lower_bound":
        passed = value >= rule.limit - _SLACK
    else:
        passed = value <= rule.limit + _SLACK
    return {
        "metric": rule.metric,
        "kind": rule.kind,
        "limit": rule.limit,
        "value": value,
        "passed": bool(passed),
        "detail": detail,
    }


def _worsening(
    rule: Rule, value: float | None, reference: float | None
) -> tuple[float | None, bool, str]:
    """(by how much the value is worse than the blessed model's, verdict, explanation)."""
    if reference is None or value is None:
        return None, True, "there is no earlier blessed model to compare with"
    better_up = tasks.higher_is_better(rule.metric.split(".")[1])
    worsening = reference - value if better_up else value - reference
    detail = f"last blessed {reference:.6g}, candidate {value:.6g}"
    return worsening, worsening <= rule.limit + _SLACK, detail


def _value(metric: str, evaluation: Mapping[str, Any], ledger: Mapping[str, Any]) -> float | None:
    """The number that a rule names; None for one that this run could not have."""
    model, _, rest = metric.partition(".")
    if model == "ledger" and rest in ("epsilon", "delta"):
        return ledger[rest]
    personalization = evaluation.get("personalization")
    if model in PERSONALIZATION and personalization and not personalization["clients"]:
        return None
    found = _look_up(_figures(evaluation).get(model), rest)
    if found is None:
        raise ConfigError(
            f"gate rule metric={metric!r} names no number. Valid: {', '.join(_names(evaluation))}, "
            "with .mean, .p10, .p50, .p90 or .worst for the distribution over clients, and "
            "ledger.epsilon."
        )
    return found


def _why_none(metric: str) -> str:
    if metric.partition(".")[0] in PERSONALIZATION:
        return "no client has enough examples to be personalized, so there is no such number"
    return "the run has no privacy guarantee, so there is no such number"


def _figures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that has an overall figure and distributions over clients, by name in a rule."""
    figures = dict(evaluation["models"])
    personalization = evaluation.get("personalization")
    if personalization and personalization["clients"]:
        figures["personalized"] = personalization["models"]["personalized"]
        figures["personalization_gain"] = personalization["gain"]
    return figures


def _baseline_value(metric: str, evaluation: Mapping[str, Any]) -> float | None:
    return _look_up(evaluation["models"].get(_BASELINE), metric.partition(".")[2])


def _look_up(model: Mapping[str, Any] | None, path: str) -> float | None:
    """`accuracy` is the overall figure, `accuracy.p10` one over clients."""
    if model is None:
        return None
    name, _, statistic = path.partition(".")
    if not statistic:
        return model["overall"].get(name)
    found = model["clients"].get(name, {}).get(statistic)
    return found if isinstance(found, float) else None


def _names(evaluation: Mapping[str, Any]) -> list[str]:
    return [
        f"{model}.{metric}"
        for model, figures in _figures(evaluation).items()
        if model != _BASELINE
        for metric in figures["overall"]
    ]
