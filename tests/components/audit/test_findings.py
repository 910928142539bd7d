"""audit.json as a whole, and the claim that it stops."""

import json
from typing import Any

import numpy as np
import pytest

from privet.components.audit.canaries import Canaries
from privet.components.audit.config import AuditConfig
from privet.components.audit.findings import audit, check_claim
from privet.components.audit.membership import ClientLosses
from privet.components.shared.errors import PrivacyError

PRIVATE = {
    "private": True,
    "unit": "client",
    "epsilon": 1.5,
    "delta": 1e-6,
    "parts": [{"what": "training", "epsilon": 1.5}],
}
NONE = {"private": False, "unit": "client", "epsilon": None, "delta": None, "parts": []}


def telling() -> Canaries:
    """100 canaries whose statistics say without fail who was in."""
    included = np.arange(100) % 2 == 0
    return Canaries(included, included + 0.001 * np.arange(100), included.astype(float), 0.01)


def test_parts_that_did_not_run_are_null() -> None:
    found = audit(None, None, PRIVATE, AuditConfig(), 0)

    assert (found["membership"], found["canaries"]) == (None, None)
    assert (found["schema"], found["private"], found["confidence"]) == (1, False, 0.95)
    assert found["ledger"] == {"private": True, "epsilon": 1.5, "delta": 1e-6}


@pytest.mark.parametrize(("ledger", "delta"), [(PRIVATE, 1e-6), (NONE, 1e-4)])
def test_delta_is_that_of_the_ledger_if_it_has_one(ledger: Any, delta: float) -> None:
    found = audit(None, telling(), ledger, AuditConfig(delta=1e-4), 0)
    assert found["canaries"]["lower_bound"]["delta"] == delta


def test_same_seed_gives_the_same_file() -> None:
    losses = ClientLosses(*np.random.default_rng(0).exponential(size=(2, 30)).tolist())
    first, again, other = (
        json.dumps(audit(losses, telling(), PRIVATE, AuditConfig(bootstrap=100), seed))
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_claim_below_the_bound_stops_with_all_numbers() -> None:
    content = audit(None, telling(), PRIVATE, AuditConfig(), 0)
    assert content["canaries"]["lower_bound"]["epsilon"] == pytest.approx(2.78, abs=0.01)

    with pytest.raises(PrivacyError) as error:
        check_claim(content, PRIVATE)
    for part in (
        "claims epsilon 1.5 of training at delta 1e-06",
        "show 2.78",
        "0.95 confidence",
        "50 of 50 guesses",
        "Nothing is pushed",
        "Do not publish",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "ledger",
    [
        NONE,
        {**PRIVATE, "unit": "example"},
        {**PRIVATE, "epsilon": 2.8, "parts": [{"what": "training", "epsilon": 2.8}]},
    ],
)
def test_claims_that_canaries_do_not_speak_against_pass(ledger: Any) -> None:
    check_claim(audit(None, telling(), ledger, AuditConfig(), 0), ledger)


def test_what_noised_statistics_spend_hides_no_fault_of_training() -> None:
    parts = [{"what": "statistics", "epsilon": 2.0}, *PRIVATE["parts"]]
    ledger = {**PRIVATE, "epsilon": 3.0, "parts": parts}
    with pytest.raises(PrivacyError, match=r"claims epsilon 1\.5 of training"):
        check_claim(audit(None, telling(), ledger, AuditConfig(), 0), ledger)


def test_without_canaries_there_is_nothing_to_compare() -> None:
    check_claim(audit(None, None, PRIVATE, AuditConfig(), 0), PRIVATE)
