"""Every number that a rule of the gate can name, by its name."""

from collections.abc import Iterator, Mapping
from typing import Any

Findings = Mapping[str, Any]

SLICES = "slices"
AUDIT_NUMBERS = {
    "membership": ("auc", "advantage", "tpr"),
    "canaries": ("auc", "epsilon_estimate", "lower_bound"),
}
"""Part of the audit -> what a rule may name of it."""

LEDGER_NUMBERS = ("epsilon", "delta")


def numbers(
    evaluation: Findings, ledger: Findings, audit: Findings | None
) -> dict[str, float | None]:
    """The numbers of a run; None for one that it could not have.

    `<model>.<metric>` is the overall figure, `<model>.<metric>.<statistic>` one over clients,
    `<model>.<metric>.low` and `.high` the ends of the overall figure's interval,
    `<model>.slices.<slice>.<value>.<metric>` the overall figure of a slice.

    Args:
      evaluation: content of evaluation.json, with the served variant as `compressed`.
      ledger: content of privacy_ledger.json.
      audit: content of audit.json; None where nothing was audited.

    >>> figures = {"overall": {"mae": 2.0}, "clients": {"mae": {"p10": 1.0}}}
    >>> numbers({"models": {"float": figures}}, {"epsilon": None, "delta": None}, None)
    {'float.mae': 2.0, 'float.mae.p10': 1.0, 'ledger.epsilon': None, 'ledger.delta': None}
    """
    found: dict[str, float | None] = {}
    for model, figures in _figures(evaluation):
        found |= {f"{model}.{path}": value for path, value in _of_model(figures)}
    found |= {f"ledger.{name}": ledger[name] for name in LEDGER_NUMBERS}
    found |= {f"audit.{path}": value for path, value in _of_audit(audit or {})}
    return found


def _figures(evaluation: Findings) -> Iterator[tuple[str, Findings]]:
    """Everything that has an overall figure and distributions over clients."""
    yield from evaluation["models"].items()
    personalization = evaluation.get("personalization")
    if personalization and personalization["clients"]:
        yield "personalized", personalization["models"]["personalized"]
        yield "personalization_gain", personalization["gain"]


def _of_model(figures: Findings) -> Iterator[tuple[str, float | None]]:
    yield from figures["overall"].items()
    for metric, interval in (figures.get("intervals") or {}).items():
        yield f"{metric}.low", None if interval is None else interval[0]
        yield f"{metric}.high", None if interval is None else interval[1]
    for metric, distribution in figures["clients"].items():
        for statistic, value in distribution.items():
            if value is None or isinstance(value, float):
                yield f"{metric}.{statistic}", value
    for name, values in (figures.get(SLICES) or {}).items():
        for value, part in values.items():
            for metric, number in part["overall"].items():
                yield f"{SLICES}.{name}.{value}.{metric}", number


def _of_audit(audit: Findings) -> Iterator[tuple[str, float | None]]:
    for part, names in AUDIT_NUMBERS.items():
        found = audit.get(part) or {}
        for name in names:
            value = found.get(name)
            if isinstance(value, Mapping):  # the lower bound, with its ceiling
                value = value["epsilon"]
            if name in found:
                yield f"{part}.{name}", value
