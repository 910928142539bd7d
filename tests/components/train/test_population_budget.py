"""Several runs on one budget: at the same time, killed, failed, resumed, repeated."""

import concurrent.futures
import json
import math
import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fasteners
import numpy as np
import pytest
from scipy import stats

from privet.components.shared.errors import ConfigError, ModelError, PrivacyError
from privet.components.shared.privacy_loss import epsilon_of, gaussians
from privet.components.train.accounting import Accountant, open_account
from privet.components.train.checkpoint import Checkpoints
from privet.components.train.config import TrainConfig
from privet.components.train.mechanism import Mechanism
from privet.components.train.population_budget import PopulationBudget, summary_of
from privet.components.train.privacy_config import PopulationBudgetConfig
from privet.components.train.run import TrainingResult, run_training
from privet.components.train.sampling import AllClients, Draws, FixedSizeSampler

DELTA = 1e-5
ALL = AllClients(100).draws
MODEL = """
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=(2,), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(inputs))
"""
SPENDER = """
import uuid
from privet.components.train.population_budget import PopulationBudget


def reserve_on_and_on(config, accountant):
    while True:
        PopulationBudget(config, uuid.uuid4().hex, "now").reserve(accountant, 1)
"""


def account(
    noise: float = 10.0, draws: Draws = ALL, kind: str = "gaussian", **given: Any
) -> Accountant:
    return Accountant(Mechanism(kind, draws, noise), DELTA, **given)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clients" / "budget.json"


@pytest.fixture
def budget(file: Path) -> Callable[..., PopulationBudget]:
    """The budget as a run of that name sees it."""

    def make(
        run: str = "a", epsilon: float = 5.0, delta: float = DELTA, holder: str = "one process"
    ) -> PopulationBudget:
        config = PopulationBudgetConfig(file=str(file), epsilon=epsilon, delta=delta)
        return PopulationBudget(config, run, "2026-01-02T03:04:05+00:00", holder)

    return make


def content(file: Path) -> Any:
    return json.loads(file.read_text())


def gaussian_delta(noise: float, epsilon: float) -> float:
    """Of a Gaussian mechanism, exactly (Balle and Wang, 2018, theorem 8)."""
    norm = stats.norm.cdf
    return float(
        norm(0.5 / noise - epsilon * noise)
        - math.exp(epsilon) * norm(-0.5 / noise - epsilon * noise)
    )


def test_two_runs_together_are_one_with_all_their_rounds(budget: Any, file: Path) -> None:
    first, second = account(10.0), account(20.0)
    budget("a").reserve(first, 50)
    told = budget("a").settle(first, 50)
    budget("b").reserve(second, 200)
    both = budget("b").settle(second, 200)

    # 50 rounds with noise 10 and 200 with noise 20 are each one with noise sqrt(2): together 1.
    assert told["epsilon_before"] == 0
    assert gaussian_delta(math.sqrt(2), told["epsilon_after"]) == pytest.approx(DELTA, rel=0.01)
    assert both["epsilon_before"] == pytest.approx(told["epsilon_after"], rel=1e-3)
    assert gaussian_delta(1.0, both["epsilon_after"]) == pytest.approx(DELTA, rel=0.01)
    assert both["epsilon_after"] < 2 * told["epsilon_after"]
    assert {name: both[name] for name in ("file", "run", "runs", "epsilon", "delta")} == {
        "file": "budget.json",
        "run": "b",
        "runs": 2,
        "epsilon": 5.0,
        "delta": DELTA,
    }
    assert content(file) == {
        "schema": 1,
        "epsilon": 5.0,
        "delta": DELTA,
        "unit": "client",
        "runs": [
            {
                "run": run,
                "state": "spent",
                "event": {
                    "kind": "repeated",
                    "count": rounds,
                    "event": {"kind": "gaussian", "noise_multiplier": noise},
                },
                "lost": 0.0,
                "relation": "add_or_remove_one_client",
                "rounds": rounds,
                "rounds_run": 0,
                "started": "2026-01-02T03:04:05+00:00",
                "holder": "one process",
            }
            for run, rounds, noise in (("a", 50, 10.0), ("b", 200, 20.0))
        ],
    }
    assert file.stat().st_mode & 0o777 == 0o600


def test_run_that_would_exceed_is_refused_with_all_numbers(budget: Any, file: Path) -> None:
    allowed = epsilon_of(gaussians(10.0, 70), DELTA)
    budget("a", allowed).reserve(account(), 40)
    before = file.read_bytes()
    with pytest.raises(PrivacyError) as refused:
        budget("b", allowed).reserve(account(), 31)
    spent, with_this = (epsilon_of(gaussians(10.0, rounds), DELTA) for rounds in (40, 71))
    for part in (f"={allowed} at", f"reserved {spent:.4g}", f"to {with_this:.4g}", "Lower train."):
        assert part in str(refused.value)
    assert file.read_bytes() == before
    budget("b", allowed).reserve(account(), 30)  # what is left, to the last round


def test_what_did_not_run_is_given_back_only_at_the_end(budget: Any) -> None:
    allowed = epsilon_of(gaussians(10.0, 50), DELTA)
    first = account()
    budget("a", allowed).reserve(first, 40)
    with pytest.raises(PrivacyError, match=r"Other runs \(1\)"):
        budget("b", allowed).reserve(account(), 20)
    for _ in range(30):
        first.count_round()
    budget("a", allowed).settle(first, 0)
    budget("b", allowed).reserve(account(), 20)


def test_statistics_candidates_and_cut_cohorts_are_charged(budget: Any, file: Path) -> None:
    draws = Draws("poisson", 100, 20.0, probability=0.2, overflow=1e-9)
    charged = account(2.0, draws, before=gaussians(8.0, 3), candidates=2)
    budget().reserve(charged, 10)
    told = budget().settle(charged, 10)

    whole = charged.including(10)
    assert whole.lost == 20e-9
    assert told["epsilon_after"] == pytest.approx(epsilon_of(whole.event, DELTA, whole.lost))
    assert told["epsilon_after"] > epsilon_of(whole.event, DELTA)
    (entry,) = content(file)["runs"]
    assert (entry["lost"], entry["rounds"]) == (20e-9, 10)
    assert [part["count"] for part in entry["event"]["events"]] == [3, 20]


def test_run_that_goes_on_replaces_its_own_entry(budget: Any, file: Path) -> None:
    budget("a").reserve(account(), 10)
    resumed = account(stretches=[3, 0])  # one of them was lost, so 8 of 10 are left
    budget("a").reserve(resumed, 8)
    budget("other").reserve(account(), 1)
    (entry,) = (one for one in content(file)["runs"] if one["run"] == "a")
    assert (entry["rounds"], entry["rounds_run"], entry["state"]) == (11, 3, "reserved")
    assert entry["event"]["count"] == 11


def test_later_runs_must_state_the_same(budget: Any) -> None:
    budget("a").reserve(account(), 1)
    with pytest.raises(ConfigError, match=r"epsilon=5.0 at delta=1e-05, but .* epsilon=6.0"):
        budget("b", 6.0).reserve(account(), 1)
    with pytest.raises(ConfigError, match="delta=1e-06"):
        summary_of(budget("b", delta=1e-6).config, account(stretches=[1]))


def test_only_runs_that_bound_the_same_are_added_up(budget: Any) -> None:
    in_places = FixedSizeSampler(100, 20).draws
    budget("a").reserve(account(), 1)
    budget("b").reserve(account(draws=in_places), 1)  # a client's data, or nothing in its place
    with pytest.raises(PrivacyError, match="replace_one_client, zero_out_one_client"):
        budget("c").reserve(account(kind="local"), 1)
    with pytest.raises(PrivacyError, match="one client, but this one protects one example"):
        budget("d").reserve(account(kind="example"), 1)
    for kind in ("local", "example"):  # nor does a plan say that they fit
        with pytest.raises(PrivacyError, match=r"does not add up|protects one example"):
            summary_of(budget().config, account(kind=kind, stretches=[1]))


def test_local_runs_add_up_among_themselves(budget: Any) -> None:
    for run in "ab":
        budget(run).reserve(account(kind="local"), 1)
    with pytest.raises(PrivacyError, match="add_or_remove_one_client, replace_one_client"):
        budget("c").reserve(account(), 1)


def test_summary_tells_what_a_run_would_add_and_writes_nothing(budget: Any, file: Path) -> None:
    config = budget().config
    assert summary_of(config, account(stretches=[50])) == {
        "file": "budget.json",
        "runs": 0,
        "epsilon_spent": 0.0,
        "epsilon_with_run": epsilon_of(gaussians(10.0, 50), DELTA),
        "epsilon": 5.0,
        "delta": DELTA,
    }
    assert not file.parent.exists()
    budget("a").reserve(account(), 50)
    told = summary_of(config, account(stretches=[50]))
    assert told["epsilon_spent"] == epsilon_of(gaussians(10.0, 50), DELTA)
    assert told["epsilon_with_run"] == epsilon_of(gaussians(10.0, 100), DELTA)
    assert told["runs"] == 1


def _without_state(kept: Any) -> None:
    del kept["runs"][0]["state"]


def _unknown_event(kept: Any) -> None:
    kept["runs"][0]["event"] = {"kind": "laplace"}


def _unaccountable_event(kept: Any) -> None:
    nested = {"kind": "repeated", "count": 2, "event": kept["runs"][0]["event"]}
    kept["runs"][0]["event"] = {"kind": "poisson_sampled", "probability": 0.5, "event": nested}


def _same_name_twice(kept: Any) -> None:
    kept["runs"] *= 2


def _newer_schema(kept: Any) -> None:
    kept["schema"] = 2


def _negative_chance(kept: Any) -> None:
    kept["runs"][0]["lost"] = -1.0


@pytest.mark.parametrize(
    "damage",
    [
        _without_state,
        _unknown_event,
        _unaccountable_event,
        _same_name_twice,
        _newer_schema,
        _negative_chance,
    ],
)
def test_damaged_file_stops_every_run(
    budget: Any, file: Path, damage: Callable[[Any], None]
) -> None:
    budget("a").reserve(account(), 50)
    kept = content(file)
    damage(kept)
    file.write_text(json.dumps(kept))
    with pytest.raises(PrivacyError, match="Put the file back as it was"):
        budget("b").reserve(account(), 1)
    with pytest.raises(PrivacyError, match="Put the file back as it was"):
        summary_of(budget().config, account(stretches=[1]))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"runs": "\xff"}'])
def test_file_that_is_no_budget_stops_every_run(budget: Any, file: Path, text: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(text)
    with pytest.raises(PrivacyError, match="is damaged"):
        budget().reserve(account(), 1)
    assert file.read_bytes() == text


def test_lost_reservation_is_no_model(budget: Any, file: Path) -> None:
    budget("a").reserve(account(), 1)
    file.unlink()
    with pytest.raises(PrivacyError, match="No model is released"):
        budget("a").settle(account(stretches=[1]), 0)
    with pytest.raises(PrivacyError, match=r"1 noised rounds, which .* knows nothing of"):
        budget("a").reserve(account(stretches=[1]), 0)


def test_of_two_processes_that_go_on_with_copies_of_a_run_only_the_last_has_a_model(
    budget: Any, file: Path
) -> None:
    budget("a", holder="first").reserve(account(), 3)
    budget("a", holder="copy").reserve(account(stretches=[1]), 2)
    with pytest.raises(PrivacyError, match=r"by a copy of its state, .* No model is released"):
        budget("a", holder="first").settle(account(stretches=[3]), 0)
    budget("a", holder="copy").settle(account(stretches=[3]), 0)

    (entry,) = content(file)["runs"]
    assert (entry["state"], entry["rounds"], entry["holder"]) == ("spent", 3, "copy")


def test_place_that_cannot_be_written_is_explained(budget: Any, file: Path) -> None:
    file.parent.write_text("no folder")
    with pytest.raises(ConfigError, match=r"cannot use train.privacy.population_budget.file="):
        budget().reserve(account(), 1)
    with pytest.raises(ConfigError, match="cannot use"):
        summary_of(budget().config, account(stretches=[1]))


def test_file_is_replaced_as_a_whole(budget: Any, file: Path) -> None:
    budget("a").reserve(account(), 1)
    before = file.read_bytes()
    with file.open("rb") as reader:
        budget("b").reserve(account(), 1)
        assert reader.read() == before != file.read_bytes()


def test_links_to_the_file_are_the_file(budget: Any, file: Path, tmp_path: Path) -> None:
    budget("a").reserve(account(), 1)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    linked = PopulationBudgetConfig(file=str(link), epsilon=5.0, delta=DELTA)
    PopulationBudget(linked, "b", "now").reserve(account(), 1)
    assert link.is_symlink()
    assert len(content(file)["runs"]) == 2


GAUSSIAN = {"mechanism": "gaussian", "delta": DELTA, "clip_norm": 1.0, "noise_multiplier": 30.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "gs://bucket/budget.json"}, "must be on a filesystem with locks"),
        ({"file": ""}, "file must name a JSON file"),
        ({"delta": 1e-6}, r"delta=1e-05 must not be above population_budget.delta=1e-06"),
    ],
)
def test_settings_that_no_budget_can_be_kept_by_are_refused(
    train_config: Any, changes: dict[str, Any], message: str
) -> None:
    shared = {"file": "budget.json", "epsilon": 1.0, "delta": DELTA, **changes}
    with pytest.raises(ConfigError, match=message):
        train_config(privacy={**GAUSSIAN, "population_budget": shared})


def test_delta_of_the_budget_exposes_no_client(train_config: Any) -> None:
    shared = {"file": "budget.json", "epsilon": 1.0, "delta": 0.01}
    config = train_config(privacy={**GAUSSIAN, "population_budget": shared})
    assert TrainConfig.from_json(config.to_json()) == config
    with pytest.raises(PrivacyError, match=r"population_budget.delta=0.01 is not below 1 / 100"):
        open_account(config, ALL)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts processes that have imported the budget already; they can import `spender`."""
    folder = tmp_path_factory.mktemp("spender")
    (folder / "spender.py").write_text(SPENDER)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["privet.components.train.population_budget"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield context
    sys.modules.pop("spender", None)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # else it stays till pytest ends


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_of_five_that_want_two_fifths_at_the_same_time_two_get_them(
    processes: Any, budget: Any, file: Path, kind: str
) -> None:
    allowed = epsilon_of(gaussians(10.0, 50), DELTA)  # rounds with the same noise add up
    five: concurrent.futures.Executor = concurrent.futures.ThreadPoolExecutor(5)
    if kind == "processes":
        five = concurrent.futures.ProcessPoolExecutor(5, mp_context=processes)
    with five as pool:
        runs = [
            pool.submit(budget(f"run {number}", allowed).reserve, account(), 20)
            for number in range(5)
        ]
        errors = [run.exception() for run in runs]

    refused = [str(error) for error in errors if isinstance(error, PrivacyError)]
    assert errors.count(None) == 2
    assert len(refused) == 3
    assert all("Other runs (2) have spent or reserved" in message for message in refused)
    got = {f"run {number}" for number, error in enumerate(errors) if error is None}
    assert {entry["run"] for entry in content(file)["runs"]} == got
    assert summary_of(budget("", allowed).config, account(stretches=[10]))[
        "epsilon_with_run"
    ] == pytest.approx(allowed)


def test_processes_killed_with_the_lock_in_their_hands_leave_it_and_a_whole_file(
    processes: Any, budget: Any, file: Path
) -> None:
    import spender  # type: ignore[import-not-found]

    def held() -> bool:
        probe = fasteners.InterProcessLock(f"{file}.lock")
        if probe.acquire(blocking=False):
            probe.release()
            return False
        return True

    config = budget("", 50.0).config
    budget("first", 50.0).reserve(account(), 1)
    generator = np.random.default_rng()
    for _ in range(6):
        process = processes.Process(target=spender.reserve_on_and_on, args=(config, account()))
        process.start()
        end = time.monotonic() + 60
        while time.monotonic() < end and not held():
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.5))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        process.close()
        assert not held()
        summary_of(config, account(stretches=[1]))
    runs = len(content(file)["runs"])
    file.with_name(f"{file.name}.tmp-of-a-killed-one").touch()
    budget("last", 50.0).reserve(account(), 1)

    assert len(content(file)["runs"]) == runs + 1
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "budget.json",
        "budget.json.lock",
    ]


def test_name_of_a_run_lasts_as_long_as_its_journal(tmp_path: Path) -> None:
    def name() -> str:
        return Checkpoints(str(tmp_path), "f" * 32, private=True).lasting_name()

    first = name()
    (kept,) = tmp_path.glob("*/journal/name")
    assert name() == first == kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text("")  # by a kill right after the file was made
    second = name()
    assert len({first, second, name(), ""}) == 3
    shutil.rmtree(kept.parent)
    assert name() not in (first, second)


class KilledError(Exception):
    """Stands for the end of the process, right after a round and before its checkpoint."""


@pytest.fixture
def train(
    write_store: Any, schema_of: Any, client: Any, train_config: Any, file: Path, tmp_path: Path
) -> Callable[..., TrainingResult]:
    """Really trains, for as many rounds of noise 30 as are asked for, on a budget for ten."""
    generator = np.random.default_rng(0)

    def one(name: str) -> Any:
        labels = generator.integers(0, 3, 4)
        return client(name, labels, x=generator.normal(size=(4, 2)).astype(np.float32))

    (tmp_path / "model.py").write_text(MODEL)
    clients = {"train": [one(f"t{i}") for i in range(4)], "eval": [one("e")]}
    write_store(tmp_path / "examples", schema_of({"x": 2}, 3), clients)
    allowed = epsilon_of(gaussians(30.0, 10), DELTA)
    shared = {"file": str(file), "epsilon": allowed, "delta": DELTA}

    def run(
        rounds: int, *, until: int | None = None, state: bool = True, **changes: Any
    ) -> TrainingResult:
        def progress(finished: Any) -> None:
            if finished.number == until:
                raise KilledError

        return run_training(
            str(tmp_path / "examples"),
            str(tmp_path / "model.py"),
            "build_model",
            train_config(
                **{
                    "rounds": rounds,
                    "xla": "off",
                    "privacy": {**GAUSSIAN, "population_budget": shared},
                    **changes,
                }
            ),
            0,
            progress,
            state=str(tmp_path / "state") if state else None,
        )

    return run


def entries(file: Path) -> list[SimpleNamespace]:
    return [SimpleNamespace(**entry) for entry in content(file)["runs"]]


def test_training_that_fails_keeps_its_reservation(train: Any, file: Path) -> None:
    with pytest.raises(ModelError, match="diverged"):
        train(6, server_optimizer={"learning_rate": 3e38})
    (failed,) = entries(file)
    assert (failed.state, failed.rounds, failed.event["count"]) == ("reserved", 6, 6)
    with pytest.raises(PrivacyError, match=r"so it does not start"):
        train(5, until=1)  # would be KilledError after a round
    assert len(entries(file)) == 1

    ledger = train(4).ledger
    assert [(one.state, one.rounds) for one in entries(file)] == [("reserved", 6), ("spent", 4)]
    told = ledger["population_budget"]
    assert told["epsilon_before"] == epsilon_of(gaussians(30.0, 6), DELTA)
    assert told["epsilon_after"] == told["epsilon"] == epsilon_of(gaussians(30.0, 10), DELTA)
    assert (told["file"], told["runs"], told["run"]) == ("budget.json", 2, entries(file)[1].run)
    assert ledger["epsilon"] == epsilon_of(gaussians(30.0, 4), DELTA)


def test_run_that_goes_on_is_charged_once_with_its_lost_round(train: Any, file: Path) -> None:
    with pytest.raises(KilledError):
        train(4, until=3)
    (killed,) = entries(file)
    result = train(4)
    (spent,) = entries(file)

    assert (killed.state, killed.rounds, killed.rounds_run) == ("reserved", 4, 0)
    assert (spent.state, spent.rounds, spent.rounds_run) == ("spent", 5, 5)
    assert (spent.run, spent.started) == (killed.run, killed.started)
    assert spent.event == result.ledger["event"]
    again = train(4)  # has finished, and spends no more
    assert again.ledger == result.ledger
    (after,) = entries(file)
    assert {**vars(after), "holder": ""} == {**vars(spent), "holder": ""}


def test_run_whose_state_is_gone_is_charged_again(train: Any, file: Path, tmp_path: Path) -> None:
    train(3)
    shutil.rmtree(tmp_path / "state")
    train(3)
    train(3, state=False)  # nor does it find its own where there is none
    assert [(one.state, one.rounds) for one in entries(file)] == [("spent", 3)] * 3
    assert len({one.run for one in entries(file)}) == 3


def test_state_that_was_set_back_stops_the_run(train: Any, file: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(3, until=1)
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    train(3)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    before = file.read_bytes()
    with pytest.raises(PrivacyError, match=r"counts 4 noised rounds of this run, .* only 1"):
        train(3)
    assert file.read_bytes() == before


def test_early_stop_gives_no_allowed_round_back(train: Any, file: Path) -> None:
    stop = {"metric": "accuracy", "patience": 1, "min_improvement": 1.0}
    result = train(9, early_stop=stop, public_eval=True)
    (entry,) = entries(file)

    assert result.ledger["ended_by"] == "early_stop"
    assert (entry.state, entry.rounds, entry.rounds_run) == ("spent", 9, 2)
    assert entry.event == result.ledger["event"]
