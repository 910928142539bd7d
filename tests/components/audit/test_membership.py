"""The membership attack's numbers, from losses that are given."""

import numpy as np
import pytest

from privet.components.audit.config import AuditConfig
from privet.components.audit.membership import ClientLosses, advantage_by_chance, attack
from privet.components.audit.separation import Groups


def test_low_loss_is_taken_for_membership() -> None:
    found = attack(ClientLosses([0.1, 0.2], [0.15, 0.9]), AuditConfig(), 0)

    assert (found["attack"], found["unit"]) == ("loss_threshold", "client")
    assert (found["members"], found["non_members"]) == (2, 2)
    assert found["auc"] == pytest.approx(3 / 4)
    assert found["advantage"] == pytest.approx(1 / 2)
    assert (found["fpr"], found["tpr"]) == (0.01, 1 / 2)
    assert found["roc"] == {"fpr": [0, 0, 0.5, 0.5, 1], "tpr": [0, 0.5, 0.5, 1, 1]}
    for name in ("auc", "advantage", "tpr"):
        low, high = found[f"{name}_interval"]
        assert low <= found[name] <= high


def test_confidence_widens_the_intervals() -> None:
    generator = np.random.default_rng(0)
    losses = ClientLosses(*generator.exponential(size=(2, 100)).tolist())
    (low, high), (lower, higher) = (
        attack(losses, AuditConfig(confidence=confidence), 0)["auc_interval"]
        for confidence in (0.9, 0.99)
    )
    assert lower < low < 0.55
    assert 0.45 < high < higher


def test_advantage_of_nothing_is_what_chance_gives() -> None:
    """The mean of 400 advantages has a deviation of about 0.002; small groups have steps."""
    generator = np.random.default_rng(0)
    found = [
        Groups(generator.normal(size=150), generator.normal(size=100)).roc().advantage
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(advantage_by_chance(150, 100), abs=0.012)
