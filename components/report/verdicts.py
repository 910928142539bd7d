"""How a run and its privacy stand, in words: the banners, the plain statement, the gate's rules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, Literal

from privet.components.report import wording

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Banner:
    """A message at the top of the page: how the run, or its privacy, stands."""

    kind: Literal["good", "bad", "unsure", "alarm"]
    title: str
    text: str = ""
    items: tuple[str, ...] = ()


def is_private(ledger: Facts | None) -> bool:
    """Whether the ledger states a guarantee: private, with a finite epsilon and delta."""
    if ledger is None or ledger.get("private") is not True:
        return False
    return all(wording.is_finite_number(ledger.get(key)) for key in ("epsilon", "delta"))


def privacy_banner(ledger: Facts | None) -> Banner | None:
    """The loud warning for a run without a guarantee; None if there is one."""
    if is_private(ledger):
        return None
    if ledger is None:
        return Banner(
            "unsure",
            "No privacy ledger",
            "Training has not written one. Until it does, treat any model of this run as not "
            "private.",
        )
    because = ledger.get("not_private_because")
    if not because and ledger.get("private") is True:
        because = "The ledger says private, but states no finite epsilon and delta."
    return Banner(
        "alarm",
        "Not private",
        "This run gives no differential privacy guarantee. Its model may reveal what single "
        "clients hold.",
        (str(because),) if because else (),
    )


def privacy_statement(ledger: Facts | None) -> tuple[str, ...]:
    """What the guarantee says, in plain sentences; empty without one.

    A guess whether one client took part, at even odds beforehand, is right with a probability of
    at most (e^epsilon + delta) / (1 + e^epsilon): Kairouz, Oh and Viswanath, "The Composition
    Theorem for Differential Privacy" (2015), section 2. Numbers are rounded up.
    """
    if ledger is None or not is_private(ledger):
        return ()
    epsilon, delta = float(ledger["epsilon"]), float(ledger["delta"])
    unit = str(ledger.get("unit") or "client")
    relation = str(ledger.get("neighbouring_relation") or "")
    change = "Replacing" if relation.startswith("replace") else "Adding or removing"
    shown = wording.scientific(delta)
    if epsilon > 20:
        return (
            f"With ε = {wording.rounded_up(epsilon)} the guarantee is so weak that it says next to "
            f"nothing: the model may tell with near certainty whether one {unit} took part.",
        )
    factor = _rounded_up(math.exp(epsilon), 3)
    sure = _rounded_up(100 * min(1.0, (math.exp(epsilon) + delta) / (1 + math.exp(epsilon))), 3)
    return (
        f"{change} any one {unit} makes no outcome of this training more than {factor} times as "
        f"likely (e to the power of ε), but for a probability of {shown} (δ).",
        f"In other words: who knows all else, and at first thinks it as likely as not that one "
        f"{unit} took part, can guess right in at most {sure}% of cases after seeing the model.",
    )


def contradiction(audit: Facts | None) -> Banner | None:
    """The warning of an audit whose lower bound lies above the ledger's epsilon; None otherwise."""
    claimed = (audit or {}).get("ledger") or {}
    bound = (((audit or {}).get("canaries") or {}).get("lower_bound") or {}).get("epsilon")
    if not is_private(claimed) or not wording.is_finite_number(bound):
        return None
    if bound <= claimed["epsilon"]:
        return None
    return Banner(
        "bad",
        "The audit contradicts the ledger",
        f"Epsilon is at least {wording.number(bound)} by the audit, and at most "
        f"{wording.rounded_up(claimed['epsilon'])} by the ledger. Do not publish this model: look "
        "for a fault in the training or in its accounting.",
    )


def _rounded_up(value: float, digits: int) -> str:
    """A number with so many digits, never less than it is.

    >>> _rounded_up(54.05, 3), _rounded_up(2.0, 3), _rounded_up(1096.7, 3)
    ('54.1', '2', '1,100')
    """
    context = Context(prec=digits, rounding=ROUND_CEILING)
    return f"{context.create_decimal(Decimal(repr(value))).normalize():,f}"


def refusals(verdict: Facts | None, infra: Facts | None) -> tuple[str, ...]:
    """Why the gate or the infra check refused the model, one line each."""
    lines = [
        f"{rule.get('metric')}: {rule['value_text']}, {rule['rule_text']} {rule['limit_text']}"
        for rule in rules(verdict)
        if not rule.get("passed")
    ]
    if verdict and not verdict.get("blessed") and not lines:
        lines.append("the quality gate did not bless the model")
    if infra and not infra.get("blessed"):
        failed = [check for check in infra.get("checks", ()) if not check.get("passed")]
        lines += [
            f"{check.get('engine')}, {check.get('api')}: {check.get('detail')}" for check in failed
        ] or ["the infra check did not bless the model"]
    return tuple(lines)


def rules(verdict: Facts | None) -> list[dict[str, Any]]:
    """The gate's rules, each with the words and numbers to show."""
    kinds = {
        "lower_bound": "must be at least",
        "upper_bound": "must be at most",
        "max_worsening": "may worsen by at most",
    }
    shown = []
    for rule in (verdict or {}).get("rules", ()):
        value, limit = telling_apart(rule.get("value"), rule.get("limit"))
        kind = kinds.get(str(rule.get("kind")), str(rule.get("kind")))
        shown.append({**rule, "rule_text": kind, "value_text": value, "limit_text": limit})
    return shown


def telling_apart(value: Any, limit: Any) -> tuple[str, str]:
    """Writes two numbers with as many digits as it takes to see which one is larger.

    >>> telling_apart(0.921, 0.85), telling_apart(0.84999, 0.85)
    (('0.921', '0.850'), ('0.84999', '0.85'))
    """
    texts = wording.number(value), wording.number(limit)
    if texts[0] == texts[1] and value != limit:
        return str(value), str(limit)
    return texts
