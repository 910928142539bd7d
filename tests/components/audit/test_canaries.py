"""canaries.json: read, held against the ledger, and made into numbers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.audit import canaries
from privet.components.audit.canaries import Canaries, read_canaries
from privet.components.audit.config import AuditConfig
from privet.components.audit.gaussian_fit import estimate_epsilon
from privet.components.audit.lower_bound import ceiling
from privet.components.shared.errors import PrivacyError, StoreError

LEDGER = {"private": True, "rounds": 5, "canaries": 2}
FILE = {
    "schema": 1,
    "private": True,
    "count": 2,
    "norm": 1.0,
    "dimension": 9,
    "rounds": 5,
    "participation": {"kind": "all", "probability": 1.0},
    "included": [True, False],
    "all_iterates": [0.9, 0.1],
    "final": [0.4, -0.2],
    "seconds": 0.2,
    "seconds_of_rounds": 10.0,
}


def written(folder: Path, **changes: Any) -> str:
    content = {name: value for name, value in {**FILE, **changes}.items() if value is not None}
    (folder / "canaries.json").write_text(json.dumps(content))
    return str(folder)


def test_file_is_read(tmp_path: Path) -> None:
    found = read_canaries(written(tmp_path), LEDGER)

    assert found is not None
    assert found.included.tolist() == [True, False]
    assert (found.all_iterates.tolist(), found.final.tolist()) == ([0.9, 0.1], [0.4, -0.2])
    assert found.overhead == pytest.approx(0.02)


def test_training_without_canaries_has_none(tmp_path: Path) -> None:
    assert read_canaries(str(tmp_path), {**LEDGER, "canaries": 0}) is None


def test_canaries_that_were_in_training_cannot_be_left_out_of_the_audit(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match=r"canaries=2 were in training, but there is no .*json"):
        read_canaries(str(tmp_path), LEDGER)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema"),
        ({"final": None}, "missing required field `final`"),
        ({"included": [True, "no"]}, "included"),
        ({"included": [True, False, True]}, "count=2, and holds 3 included, 2 all_iterates"),
        ({"final": [0.1]}, "count=2, and holds 2 included, 2 all_iterates, 1 final"),
        ({"count": 0, "included": [], "all_iterates": [], "final": []}, "count=0"),
        ({"all_iterates": [0.9, float("nan")]}, "malformed|invalid"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreError, match=f"canaries.json.*{said}"):
        read_canaries(written(tmp_path, **changes), LEDGER)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = Path(written(tmp_path), "canaries.json")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match="Train again"):
        read_canaries(str(tmp_path), LEDGER)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"private": False}, "canaries.json says private=False, privacy_ledger.json says "),
        (
            {"count": 1, "included": [True], "all_iterates": [0.9], "final": [0.4]},
            "count=1 canaries, privacy_ledger.json about canaries=2",
        ),
        ({"rounds": 6}, "rounds=6; wanted the rounds=5 of"),
        ({"rounds": 0}, "rounds=0; wanted the rounds=5 of"),
    ],
)
def test_canaries_of_another_training_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(PrivacyError, match=re.escape(said)):
        read_canaries(written(tmp_path, **changes), LEDGER)


def drawn(count: int, shift: float, seed: int) -> Canaries:
    """Canaries of which those that are in have both statistics raised by so many deviations."""
    generator = np.random.default_rng(seed)
    included = generator.random(count) < 0.5
    all_iterates, final = 0.01 * (generator.normal(size=(2, count)) + shift * included)
    return Canaries(included, all_iterates, final, None)


def test_figures_by_hand() -> None:
    found = canaries.judge(
        Canaries(
            np.array([True, True, False, False]),
            np.array([0.9, 0.2, 0.3, -0.1]),
            np.array([0.1, 0.2, 0.3, 0.4]),
            0.005,
        ),
        1e-5,
        AuditConfig(guesses=1.0),
        0,
    )
    assert (found["count"], found["included"], found["statistic"]) == (4, 2, "all_iterates")
    assert found["auc"] == pytest.approx(3 / 4)
    assert found["final"]["auc"] == 0.0
    # In: 0.9 and 0.3, of which one is right; out: 0.2 and -0.1, of which one is.
    bound = found["lower_bound"]
    assert (bound["guesses"], bound["correct"], bound["epsilon"]) == (4, 2, 0.0)
    assert (bound["confidence"], bound["delta"]) == (0.95, 1e-5)
    edges, counts = found["histogram"]["edges"], found["histogram"]
    assert (edges[0], edges[-1], len(edges)) == (-0.1, 0.9, 21)
    assert (sum(counts["included"]), sum(counts["excluded"])) == (2, 2)
    assert (counts["included"][-1], counts["excluded"][0]) == (1, 1)
    assert found["overhead"] == 0.005


def test_without_noise_the_bound_is_at_its_ceiling() -> None:
    found = canaries.judge(drawn(200, 12.0, 0), 1e-5, AuditConfig(), 0)

    bound = found["lower_bound"]
    assert found["auc"] == found["final"]["auc"] == 1.0
    assert bound["correct"] == bound["guesses"] == 100
    assert bound["epsilon"] == bound["ceiling"] == ceiling(200, 0.5, 1e-5, 0.95)
    assert found["epsilon_estimate"] > 50


def test_bound_is_below_what_the_canaries_were_drawn_with() -> None:
    """Shifted by one deviation epsilon is 4.38 at delta 1e-5; the bound finds 1 of it or so."""
    sample = drawn(200, 1.0, 0)
    found = canaries.judge(sample, 1e-5, AuditConfig(), 0)

    assert 0.3 < found["lower_bound"]["epsilon"] < 2.0
    wanted = estimate_epsilon(
        sample.all_iterates[sample.included], sample.all_iterates[~sample.included], 1e-5
    )
    assert found["epsilon_estimate"] == wanted
    low, high = found["auc_interval"]
    assert low < found["auc"] < high


def test_coins_that_all_came_up_the_same_give_no_auc() -> None:
    one = Canaries(np.array([True, True]), np.array([0.1, 0.2]), np.array([0.1, 0.2]), None)
    found = canaries.judge(one, 1e-5, AuditConfig(guesses=1.0), 0)

    assert (found["auc"], found["auc_interval"], found["epsilon_estimate"]) == (None, None, None)
    assert found["final"] == {"auc": None, "epsilon_estimate": None}
    assert found["lower_bound"]["correct"] == 1
    json.dumps(found, allow_nan=False)
