"""Epsilon under each assumption: the published numbers, and none that a run has not earned."""

import json

import pytest

from privet.components.shared.privacy_loss import epsilon_of, gaussians
from privet.components.train import accounting
from privet.components.train.config import TrainConfig
from privet.components.train.ledger import write_ledger
from privet.components.train.participation import build_participation
from privet.components.train.sampling import build_sampler
from privet.pipeline.assumptions import Assumption, side_by_side

WRITERS, COHORT, NOISE, ROUNDS, DELTA = 3383, 120, 1.2, 100, 1e-5


def run_of(sampling: dict, **privacy: object) -> TrainConfig:
    settings = {"mechanism": "gaussian", "noise_multiplier": NOISE, "delta": DELTA, "clip_norm": 1}
    return TrainConfig.from_mapping(
        {"privacy": settings | privacy, "sampling": sampling, "rounds": ROUNDS}
    )


def account_of(config: TrainConfig, clients: int = WRITERS) -> accounting.Accountant:
    sampler = build_sampler(config.sampling, clients, private=True, seed=0)
    return accounting.open_account(config, sampler.draws).including(config.rounds)


def rows_of(config: TrainConfig, clients: int = WRITERS) -> list[Assumption]:
    account = account_of(config, clients)
    return side_by_side(account, account.epsilon_pld())


def test_tutorials_run_has_its_published_numbers() -> None:
    # TFF's tutorial claims (2, 1e-5) by Poisson RDP.
    rows = rows_of(run_of({"kind": "poisson", "cohort_size": COHORT}))

    assert [(row.sampling, row.accountant, row.earned) for row in rows] == [
        ("poisson", "pld", True),
        ("poisson", "rdp", True),
        ("fixed_size", "rdp", False),
        ("fixed_size", "rdp", False),
        ("none", "rdp", True),
        ("none", "pld", True),
    ]
    expected = [1.707, 1.986, 3.556, 14.094, 72.98, 69.457]
    assert [row.epsilon for row in rows] == pytest.approx(expected, abs=1e-3)
    assert [row.relation for row in rows[1:5:2]] == [
        "add_or_remove_one_client",
        "replace_one_client",
    ]
    assert rows[0].note is None
    assert all("2 x clip_norm" in (row.note or "") for row in rows[2:4])


def test_fixed_size_cohorts_never_show_the_poisson_epsilon() -> None:
    config = run_of({"kind": "fixed_size", "cohort_size": COHORT}, noise_multiplier=12.0)
    account = account_of(config)
    rows = side_by_side(account, account.epsilon_pld())
    participation = build_participation(
        config, build_sampler(config.sampling, WRITERS, private=True, seed=0), seed=0
    )
    ledger = write_ledger(
        config.privacy,
        participation,
        account,
        rounds=ROUNDS,
        rounds_allowed=ROUNDS,
        rounds_planned=ROUNDS,
        ended_by="rounds",
        public_eval=False,
        epsilon_by_round=[None] * ROUNDS,
    )

    assert [(row.sampling, row.relation, row.earned) for row in rows] == [
        ("none", "zero_out_one_client", True),
        ("none", "zero_out_one_client", True),
        ("fixed_size", "replace_one_client", True),
    ]
    # 100 rounds of noise 12 are one of noise 1.2, where Poisson sampling would make it 0.11.
    assert rows[0].epsilon == pytest.approx(epsilon_of(gaussians(1.2, 1), DELTA), abs=1e-3)
    assert min(row.epsilon for row in rows) > 0.2
    assert ledger["epsilon"] == rows[0].epsilon
    assert "poisson" not in json.dumps(ledger)
    assert ledger["sampling"]["amplification"] is False


@pytest.mark.parametrize(
    ("sampling", "privacy", "name", "relation"),
    [
        ({"kind": "all"}, {}, "all", "add_or_remove_one_client"),
        ({"kind": "fixed_order", "cohort_size": 2}, {}, "fixed_order", "zero_out_one_client"),
        (
            {"kind": "poisson", "cohort_size": 2},
            {"mechanism": "local"},
            "none",
            "replace_one_client",
        ),
        (
            {"kind": "fixed_size", "cohort_size": 2},
            {"mechanism": "example"},
            "none",
            "zero_out_one_example",
        ),
    ],
)
def test_other_runs_show_what_they_claim_and_nothing_else(
    sampling: dict, privacy: dict, name: str, relation: str
) -> None:
    rows = rows_of(run_of(sampling, noise_multiplier=50, **privacy), clients=8)

    assert [(row.sampling, row.relation, row.accountant) for row in rows] == [
        (name, relation, "pld"),
        (name, relation, "rdp"),
    ]
    assert rows[0].epsilon < rows[1].epsilon


def test_candidates_are_charged_under_every_assumption() -> None:
    # Two candidates of 50 rounds are 100 rounds.
    config = run_of({"kind": "poisson", "cohort_size": COHORT}, candidates=2)
    account = account_of(config)
    account.stretches = [ROUNDS // 2]
    rows = side_by_side(account, account.epsilon_pld())

    assert [row.epsilon for row in rows[2:]] == pytest.approx(
        [3.556, 14.094, 72.98, 69.457], abs=1e-3
    )


def test_statistics_of_ingestion_count_without_amplification_and_have_no_replaced_client() -> None:
    config = run_of({"kind": "poisson", "cohort_size": 2}, noise_multiplier=50)
    draws = build_sampler(config.sampling, 8, private=True, seed=0).draws
    before = gaussians(10.0, 1)
    account = accounting.open_account(config, draws, before).including(ROUNDS)
    rows = side_by_side(account, account.epsilon_pld())

    assert [row.sampling for row in rows] == ["poisson", "poisson", "none", "none"]
    # 100 rounds of noise 50 are one of noise 5; with one of noise 10 they are one of sqrt(20).
    assert rows[-1].epsilon == pytest.approx(epsilon_of(gaussians(20**0.5, 1), DELTA), abs=1e-3)
