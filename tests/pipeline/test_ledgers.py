"""Ledgers of several runs: composed where they go together, refused where they do not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privet.components.shared import layout
from privet.components.shared.errors import ConfigError, PrivacyError, StoreError
from privet.components.shared.privacy_loss import epsilon_of, gaussians
from privet.components.train.accounting import open_account
from privet.components.train.config import TrainConfig
from privet.components.train.ledger import write_ledger
from privet.components.train.participation import build_participation
from privet.components.train.sampling import build_sampler
from privet.pipeline import cli, ledgers

CLIENTS, DELTA = 100, 1e-5
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the ledger of a run of so many rounds, and gives its path."""

    def ledger(
        name: str, rounds: int, noise: float, sampling: Any = None, **privacy: object
    ) -> Path:
        settings = {"mechanism": "gaussian", "delta": DELTA, "clip_norm": 1.0}
        settings |= {"noise_multiplier": noise} | privacy
        config = TrainConfig.from_mapping(
            {"privacy": settings, "sampling": sampling or {"kind": "all"}, "rounds": rounds}
        )
        sampler = build_sampler(config.sampling, CLIENTS, private=True, seed=0)
        content = write_ledger(
            config.privacy,
            build_participation(config, sampler, 0),
            open_account(config, sampler.draws).including(rounds),
            rounds=rounds,
            rounds_allowed=rounds,
            rounds_planned=rounds,
            ended_by="rounds",
            public_eval=False,
            epsilon_by_round=[None] * rounds,
        )
        path = tmp_path / name / layout.LEDGER
        path.parent.mkdir()
        path.write_text(json.dumps(content))
        return path

    return ledger


def compose(*paths: Path, delta: float | None = None) -> dict[str, Any]:
    return ledgers.compose([ledgers.read_ledger(str(path)) for path in paths], delta)


def change(path: Path, **values: object) -> Path:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))
    return path


def test_two_runs_spend_what_one_of_all_their_rounds_does(write: Write) -> None:
    together = compose(write("a", 3, 8.0), write("b", 5, 8.0, delta=1e-6))

    assert together["epsilon"] == pytest.approx(epsilon_of(gaussians(8.0, 8), DELTA), abs=1e-6)
    assert together["epsilon"] < sum(run["epsilon"] for run in together["runs"])
    assert together["epsilon"] < together["epsilon_rdp"]
    assert together["delta"] == DELTA  # the larger one
    assert [run["delta"] for run in together["runs"]] == [1e-5, 1e-6]
    assert together["unit"] == "client"
    assert together["neighbouring_relation"] == "add_or_remove_one_client"


def test_one_ledger_says_what_its_run_said(write: Write) -> None:
    path = write("a", 20, 2.0, {"kind": "poisson", "cohort_size": 20, "max_cohort_size": 55})
    together = compose(path)

    # What is lost to cut cohorts comes from the ledger, so epsilon is the ledger's own.
    assert ledgers.read_ledger(str(path)).lost > 0
    assert together["epsilon"] == pytest.approx(together["runs"][0]["epsilon"], abs=1e-6)


def test_chances_of_cut_cohorts_add_up(write: Write) -> None:
    capped = {"kind": "poisson", "cohort_size": 20, "max_cohort_size": 50}
    paths = [write(name, 20, 4.0, capped) for name in ("a", "b")]
    runs = [ledgers.read_ledger(str(path)) for path in paths]
    uncapped = write("c", 40, 4.0, {"kind": "poisson", "cohort_size": 20})

    together = ledgers.compose(runs)["epsilon"]
    plain = ledgers.read_ledger(str(uncapped))
    lost = runs[0].lost + runs[1].lost
    assert together == pytest.approx(epsilon_of(plain.event, DELTA, lost), abs=1e-6)
    assert together > plain.epsilon
    with pytest.raises(PrivacyError, match="Give a larger --delta"):
        ledgers.compose(runs, 1e-12)


@pytest.mark.parametrize("delta", [0.01, 0.5])
def test_delta_that_allows_publishing_a_client_is_no_claim(write: Write, delta: float) -> None:
    with pytest.raises(PrivacyError, match=f"delta={delta} is not below 1 / 100 clients"):
        compose(write("a", 2, 5.0), delta=delta)


def test_a_client_that_is_absent_and_one_without_data_are_the_same(write: Write) -> None:
    order = write("order", 4, 5.0, {"kind": "fixed_order", "cohort_size": 50})
    together = compose(order, write("all", 2, 5.0))

    # The fixed order has a client in two of four rounds.
    assert together["epsilon"] == pytest.approx(epsilon_of(gaussians(5.0, 4), DELTA), abs=1e-6)
    assert together["neighbouring_relation"] == "zero_out_one_client"


def test_guarantees_of_other_kinds_do_not_add_up(write: Write) -> None:
    central, local = write("central", 2, 5.0), write("local", 2, 50.0, mechanism="local")
    example = write("example", 2, 5.0, mechanism="example")

    with pytest.raises(PrivacyError, match=r"do not go together: add_or_remove.*replace_one"):
        compose(central, local)
    with pytest.raises(PrivacyError, match=r"different units: one client .*, one example"):
        compose(central, example)
    assert compose(local)["neighbouring_relation"] == "replace_one_client"


def test_a_ledger_counts_once(write: Write) -> None:
    path = write("a", 2, 5.0)
    with pytest.raises(ConfigError, match=r"given twice\. Is it one run"):
        compose(path, path.parent)
    # The ledger of another run may well say the same.
    shutil.copytree(path.parent, path.parents[1] / "b")
    compose(path, path.parents[1] / "b")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"private": False}, PrivacyError, "no guarantee"),
        ({"event": "gone"}, StoreError, "has no `event`"),
        ({"event": {"kind": "laplace"}}, PrivacyError, "no event that Privet writes"),
        ({"schema": 2}, StoreError, "schema 1"),
        ({"delta": "gone"}, StoreError, "is damaged: KeyError 'delta'"),
    ],
)
def test_a_ledger_that_claims_nothing_is_refused(
    write: Write, changed: dict, error: type[Exception], message: str
) -> None:
    path = change(write("a", 2, 5.0), **changed)
    with pytest.raises(error, match=message):
        ledgers.read_ledger(str(path))


def test_a_path_without_a_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"does not exist\. --ledger takes"):
        ledgers.read_ledger(str(tmp_path))
    (tmp_path / layout.LEDGER).write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        ledgers.read_ledger(str(tmp_path))


def test_a_work_directory_stands_for_its_last_run(write: Write, tmp_path: Path) -> None:
    path = write("artifact", 2, 5.0)
    outcome = {"artifacts": {"ledger": "artifact"}}
    (tmp_path / "run.json").write_text(json.dumps(outcome))

    assert ledgers.read_ledger(str(tmp_path)) == ledgers.read_ledger(str(path))


def test_command_composes_ledgers_without_a_configuration(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [f"--ledger={write(name, 3, 8.0)}" for name in ("a", "b")]

    assert cli.main(["plan", *paths, "--delta", "1e-6", "--json"]) == cli.EXIT_DONE
    together = json.loads(capsys.readouterr().out)
    assert together["epsilon"] == pytest.approx(epsilon_of(gaussians(8.0, 6), 1e-6), abs=1e-6)
    assert cli.main(["plan", *paths]) == cli.EXIT_DONE
    assert "together   epsilon" in capsys.readouterr().out
    assert cli.main(["plan", *paths, "--suggest"]) == cli.EXIT_USAGE
    assert "--suggest needs a CONFIG.yaml" in capsys.readouterr().err
    assert cli.main(["plan"]) == cli.EXIT_USAGE
    assert "give --ledger" in capsys.readouterr().err
