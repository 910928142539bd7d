"""What statistics.json says about its noise comes back as the event that the ledger composes."""

from typing import Any

import pytest

from privet.components.shared.errors import PrivacyError
from privet.components.shared.noised_statistics import describe, event_of
from privet.components.shared.privacy_loss import NOTHING, gaussians


def test_description_comes_back_as_the_event() -> None:
    statistics = {"private": True, "mechanism": {**describe(7.25, 9), "epsilon": 1.0}}

    assert event_of(statistics) == gaussians(7.25, 9)


@pytest.mark.parametrize("private", [{}, {"private": False}, {"private": "yes"}])
def test_exact_statistics_spend_nothing_that_a_ledger_could_tell(private: dict[str, Any]) -> None:
    assert event_of({**private, "mechanism": describe(7.25, 9)}) == NOTHING


@pytest.mark.parametrize(
    "mechanism",
    [
        None,
        {},
        {**describe(7.25, 9), "kind": "laplace"},
        describe(0.0, 9),
        describe(7.25, 0),
        {"kind": "gaussian", "noise_multiplier": "7.25", "compositions": 9},
    ],
)
def test_claim_by_an_unknown_mechanism_is_refused(mechanism: Any) -> None:
    with pytest.raises(PrivacyError, match=r"mechanism that is not known.* Ingest the data again"):
        event_of({"private": True, "mechanism": mechanism})
