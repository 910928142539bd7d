"""The ledger's words and numbers, with and without noised statistics of ingestion."""

from typing import Any

import dp_accounting
import pytest

from privet.components.shared.noised_statistics import describe, event_of
from privet.components.shared.privacy_loss import NOTHING, epsilon_of, gaussians, in_sequence
from privet.components.train.accounting import Accountant
from privet.components.train.ledger import write_ledger
from privet.components.train.mechanism import gaussian
from privet.components.train.participation import Cohorts
from privet.components.train.participation_config import SimulationConfig
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import AllClients, PoissonSampler, Sampler
from privet.components.train.sampling import describe as describe_draws

DELTA = 1e-5


def epsilon_after(
    sampler: Sampler, noise: float, rounds: int, before: dp_accounting.DpEvent = NOTHING
) -> float:
    return epsilon_of(in_sequence(before, gaussian(sampler.draws, noise).event(rounds)), DELTA)


STATISTICS = {
    "private": True,
    "mechanism": {
        **describe(12.0, 6),
        "epsilon": 0.8,
        "delta": 1e-6,
        "max_examples_per_client": 20,
        "clients_covered": ["train", "eval"],
    },
    "splits": {"train": {"clients": 97}},
}


def ledger(
    sampler: Sampler,
    noise: float | None,
    rounds: int = 3,
    planned: int = 5,
    statistics: dict[str, Any] | None = None,
) -> Any:
    if noise is None:
        config, accountant = PrivacyConfig(mechanism="none"), None
    else:
        config = PrivacyConfig(mechanism="gaussian", epsilon=9.0, delta=DELTA, clip_norm=0.5)
        accountant = Accountant(
            gaussian(sampler.draws, noise),
            DELTA,
            before=event_of(statistics or {}),
            stretches=[rounds],
        )
    return write_ledger(
        config,
        Cohorts(sampler, SimulationConfig(), seed=None),
        accountant,
        rounds=rounds,
        rounds_allowed=planned,
        rounds_planned=planned,
        ended_by="budget",
        public_eval=False,
        epsilon_by_round=[] if noise is None else [1.0, 2.0, 3.0],
        statistics=statistics,
    )


def test_ledger_says_what_ran_and_under_which_assumptions() -> None:
    sampler = PoissonSampler(100, 20)
    written = ledger(sampler, 1.5)

    assert written["private"] is True
    assert written["epsilon"] == epsilon_after(sampler, 1.5, 3)
    assert (written["delta"], written["target_epsilon"]) == (DELTA, 9.0)
    assert (written["rounds"], written["rounds_planned"]) == (3, 5)
    assert written["neighbouring_relation"] == "add_or_remove_one_client"
    assert written["unit"] == "client"
    assert written["sampling"] == describe_draws(sampler.draws)
    assert written["mechanism"] == {
        "kind": "gaussian",
        "clip_norm": 0.5,
        "noise_multiplier": 1.5,
        "denominator": 20.0,
        "noise_source": "operating system",
        "noise_arithmetic": "float32",
        "adaptive_clip": None,
    }
    assert written["event"] == {
        "kind": "repeated",
        "count": 3,
        "event": {
            "kind": "poisson_sampled",
            "probability": 0.2,
            "event": {"kind": "gaussian", "noise_multiplier": 1.5},
        },
    }
    assert written["epsilon_rdp"] >= written["epsilon"]
    covered = " ".join(written["not_covered"])
    for thing in ("Evaluation", "membership attack", "statistics", "Other runs"):
        assert thing in covered
    assert "number of training clients" in covered
    assert any("trusted" in text for text in written["assumptions"])


def test_ledger_of_all_clients_never_prints_the_poisson_epsilon() -> None:
    # 200 clients, 60 rounds, noise 1.42: 7.96 if cohorts of 50 were Poisson samples, else 37.4.
    written = ledger(AllClients(200), 1.42, 60)

    assert written["epsilon"] == pytest.approx(37.4, abs=0.05)
    assert written["sampling"]["amplification"] is False
    assert "poisson" not in str(written["event"])


def test_ledger_without_privacy_claims_nothing() -> None:
    written = ledger(AllClients(3), None)

    assert written["private"] is False
    assert written["epsilon"] is None
    assert written["delta"] is None
    assert written["mechanism"] == {"kind": "none"}
    assert written["not_covered"] == ["Everything: this model carries no privacy guarantee."]
    assert "mechanism=none" in written["not_private_because"]
    assert written["epsilon_by_round"] == []


def test_ledger_of_no_round_has_spent_nothing() -> None:
    assert ledger(AllClients(3), 1.0, rounds=0)["epsilon"] == 0


def test_ledger_covers_statistics_and_rounds_together_and_lists_both() -> None:
    sampler = PoissonSampler(100, 20)
    written = ledger(sampler, 1.5, statistics=STATISTICS)
    statistics, training = written["parts"]

    whole = epsilon_after(sampler, 1.5, 3, gaussians(12.0, 6))
    assert written["epsilon"] == whole
    assert written["epsilon_before_rounds"] == statistics["epsilon"]
    assert statistics["what"] == "statistics"
    assert statistics["epsilon"] == epsilon_of(gaussians(12.0, 6), DELTA)
    assert statistics["delta"] == training["delta"] == DELTA
    assert statistics["clients"] == ["train", "eval"]
    assert statistics["mechanism"]["compositions"] == 6
    assert (statistics["mechanism"]["epsilon"], statistics["mechanism"]["delta"]) == (0.8, 1e-6)
    assert (training["what"], training["clients"], training["rounds"]) == ("training", ["train"], 3)
    assert training["epsilon"] == epsilon_after(sampler, 1.5, 3)
    assert max(statistics["epsilon"], training["epsilon"]) < whole
    assert whole < statistics["epsilon"] + training["epsilon"]


def test_ledger_calls_statistics_exact_only_where_they_are() -> None:
    exact = {**STATISTICS, "private": False}
    for statistics in (None, exact):
        written = ledger(AllClients(100), 1.5, statistics=statistics)
        assert [part["what"] for part in written["parts"]] == ["training"]
        assert written["epsilon_before_rounds"] == 0
        assert any("They are exact" in text and "labels" in text for text in written["not_covered"])

    noised = ledger(AllClients(100), 1.5, statistics=STATISTICS)
    assert not any("labels" in text for text in noised["not_covered"])
    assert any("refused rows" in text for text in noised["not_covered"])
    assert any("Other ingestions" in text for text in noised["not_covered"])
    assert any("rounded to whole numbers" in text for text in noised["assumptions"])


def test_ledger_without_private_training_still_lists_the_statistics() -> None:
    written = ledger(AllClients(3), None, statistics=STATISTICS)

    assert written["private"] is False
    assert written["epsilon"] is None
    (part,) = written["parts"]
    assert part["epsilon"] == epsilon_of(gaussians(12.0, 6), 1e-6)
    assert part["delta"] == 1e-6
    assert written["not_covered"] == [
        "Everything but the noised statistics: the model carries no privacy guarantee."
    ]
