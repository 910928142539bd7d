"""What the attacks found, beside what the ledger promises: audit.json, and when it stops a run."""

from collections.abc import Mapping
from typing import Any

from privet.components.audit import canaries, membership
from privet.components.audit.canaries import Canaries
from privet.components.audit.config import AuditConfig
from privet.components.audit.membership import ClientLosses
from privet.components.shared.errors import PrivacyError

NOTE = (
    "An audit finds faults; it cannot show that there are none. `membership` rests on exact losses "
    "of training and held-out clients, for the gate inside the trust boundary: releasing it is not "
    "covered by epsilon. `canaries`, but for `overhead`, rests on noised numbers and on coins "
    "alone: it is covered as the model is."
)


def audit(
    losses: ClientLosses | None,
    found: Canaries | None,
    ledger: Mapping[str, Any],
    config: AuditConfig,
    seed: int,
) -> dict[str, Any]:
    """The content of audit.json.

    Args:
      losses: of the attacked clients; None if none are.
      found: the canaries of the training; None if it had none.
      ledger: content of privacy_ledger.json.
      config: settings.
      seed: of the bootstrap.
    """
    delta = config.delta if ledger["delta"] is None else ledger["delta"]
    return {
        "schema": 1,
        "private": False,
        "note": NOTE,
        "confidence": config.confidence,
        "membership": losses and membership.attack(losses, config, seed),
        "canaries": found and canaries.judge(found, delta, config, seed),
        "ledger": {name: ledger[name] for name in ("private", "epsilon", "delta")},
    }


def check_claim(content: Mapping[str, Any], ledger: Mapping[str, Any]) -> None:
    """Checks that the ledger claims no less for training than the canaries show.

    Canaries are clients, so they speak against a claim about clients only; and they are in
    training alone, so what noised statistics spend beside it hides no fault.

    Args:
      content: of audit.json.
      ledger: content of privacy_ledger.json.

    Raises:
      PrivacyError: the lower bound on epsilon exceeds the ledger's of training.
    """
    if content["canaries"] is None or not ledger["private"] or ledger["unit"] != "client":
        return
    bound = content["canaries"]["lower_bound"]
    (claimed,) = (part["epsilon"] for part in ledger["parts"] if part["what"] == "training")
    if bound["epsilon"] <= claimed:
        return
    chance = 1 - bound["confidence"]
    raise PrivacyError(
        f"the ledger claims epsilon {claimed:.4g} of training at delta {ledger['delta']:g}, but "
        f"its canaries show {bound['epsilon']:.4g} or more with {bound['confidence']:.4g} "
        f"confidence: {bound['correct']} of {bound['guesses']} guesses at who took part are right "
        f"(AUC {content['canaries']['auc']:.3f}). Noise, clipping or sampling did not do what the "
        f"ledger says, unless the guesses were lucky, which has a chance of {chance:.2g} at most. "
        "Nothing is pushed. Do not publish this model; keep the work directory, and report it as a "
        "fault in the privacy of training. A further run that passes does not undo this one."
    )
