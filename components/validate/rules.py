"""The quality gate: rules over evaluation, ledger and audit, and a verdict on each."""

import math
from collections.abc import Mapping
from typing import Any

from privet.components.shared import tasks
from privet.components.shared.errors import ConfigError
from privet.components.validate.config import GAIN, PERSONALIZED, GateConfig, Rule
from privet.components.validate.numbers import SLICES, Findings, numbers

_BASELINE = "blessed"  # the name of the last blessed model in evaluation.json
_SLACK = 1e-9  # a value equal to its limit passes, whatever the last bit says

Numbers = Mapping[str, float | None]


def judge(
    config: GateConfig, evaluation: Findings, ledger: Findings, audit: Findings | None = None
) -> dict[str, Any]:
    """Applies every rule.

    Args:
      config: the rules.
      evaluation: content of evaluation.json, with the served variant as `compressed`.
      ledger: content of privacy_ledger.json.
      audit: content of audit.json; None where nothing was audited.

    Returns:
      The content of blessing.json: the verdict and each rule with value and limit.

    Raises:
      ConfigError: a rule names a number that does not exist.
    """
    known = numbers(evaluation, ledger, audit)
    verdicts = [_judge_rule(rule, known, evaluation) for rule in config.rules]
    baseline = evaluation["models"].get(_BASELINE)
    return {
        "schema": 1,
        "blessed": all(verdict["passed"] for verdict in verdicts),
        "rules": verdicts,
        "baseline": baseline["overall"] if baseline else None,
    }


def _judge_rule(rule: Rule, known: Numbers, evaluation: Findings) -> dict[str, Any]:
    value, detail = _value(rule, known, evaluation), ""
    if value is None or math.isnan(value):
        value, passed, detail = None, False, _why_none(rule)
    elif rule.kind == "max_worsening":
        value, passed, detail = _worsening(rule, value, known, evaluation)
    elif rule.kind == "lower_bound":
        passed = value >= rule.limit - _SLACK
    else:
        passed = value <= rule.limit + _SLACK
    return {
        "metric": rule.metric,
        "kind": rule.kind,
        "limit": rule.limit,
        "than": rule.than if rule.kind == "max_worsening" else None,
        "value": value,
        "passed": bool(passed),
        "detail": detail,
    }


def _worsening(
    rule: Rule, value: float, known: Numbers, evaluation: Findings
) -> tuple[float | None, bool, str]:
    """(by how much the value is worse than the other model's, verdict, explanation)."""
    path = rule.metric.partition(".")[2]
    reference = known.get(f"{rule.than}.{path}")
    if reference is None:
        missing = f"{rule.than}.{path}" if rule.than in evaluation["models"] else None
        if missing:
            return None, False, f"there is no number {missing} to compare with"
        return None, True, "there is no earlier blessed model to compare with"
    metric = rule.slice[1] if rule.slice else path.partition(".")[0]
    worsening = reference - value if _higher_is_better(metric, evaluation) else value - reference
    other = "last blessed" if rule.than == _BASELINE else rule.than
    detail = f"{other} {reference:.6g}, candidate {value:.6g}"
    return worsening, worsening <= rule.limit + _SLACK, detail


def _higher_is_better(metric: str, evaluation: Findings) -> bool:
    stated = evaluation.get("metrics", {}).get(metric)
    return stated["higher_is_better"] if stated else tasks.higher_is_better(metric)


def _value(rule: Rule, known: Numbers, evaluation: Findings) -> float | None:
    """The number that a rule names; None for one that this run could not have."""
    if rule.metric in known:
        return known[rule.metric]
    model = rule.metric.partition(".")[0]
    personalization = evaluation.get("personalization")
    if model in (PERSONALIZED, GAIN) and personalization and not personalization["clients"]:
        return None
    if rule.slice is not None and _has_slice(evaluation, model, rule.slice[0]):
        return None
    names = [name for name in known if name.count(".") == 1 and not name.startswith(_BASELINE)]
    names += [name for name in known if name.startswith("audit.")]
    raise ConfigError(
        f"gate rule metric={rule.metric!r} names no number. Valid: {', '.join(names)}; the models' "
        "also with .mean, .p10, .p50, .p90, .worst_decile or .worst for the distribution over "
        "clients."
    )


def _has_slice(evaluation: Findings, model: str, name: str) -> bool:
    return name in (evaluation["models"].get(model, {}).get(SLICES) or {})


def _why_none(rule: Rule) -> str:
    if rule.metric.startswith("ledger."):
        return "the run has no privacy guarantee, so there is no such number"
    if rule.metric.startswith("audit."):
        return "the audit of this run could not tell this number"
    if rule.slice is not None:
        return "no held-out client has an example in this part of the slice"
    if rule.metric.partition(".")[0] in (PERSONALIZED, GAIN):
        return "no client has enough examples to be personalized, so there is no such number"
    return "it is not defined on these clients"
