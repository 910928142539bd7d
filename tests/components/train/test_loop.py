"""The loop over rounds, on an engine that only counts: budget, checks, evaluation, history."""

from typing import Any

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError, ModelError, PrivacyError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of, gaussians, in_sequence
from privet.components.train.accounting import Accountant
from privet.components.train.history import training_history
from privet.components.train.loop import Trained, train
from privet.components.train.mechanism import gaussian
from privet.components.train.participation import build_participation
from privet.components.train.sampling import AllClients, PoissonSampler, Sampler

DELTA = 1e-5


def epsilon_after(
    sampler: Sampler, noise: float, rounds: int, before: dp_accounting.DpEvent = NOTHING
) -> float:
    return epsilon_of(in_sequence(before, gaussian(sampler.draws, noise).event(rounds)), DELTA)


class CountingEngine:
    """Adds one to its only weight in each round and reports the mechanism it is told to."""

    def __init__(self, noise: float | None = None):
        self.event = (
            dp_accounting.GaussianDpEvent(noise) if noise else dp_accounting.NonPrivateDpEvent()
        )
        self.read_ahead: list[int] = []
        self.cohorts: list[list[int]] = []

    def initialize(self) -> int:
        return 0

    def read(self, cohort: np.ndarray, round_number: int) -> tuple[int, list[int]]:
        self.read_ahead.append(round_number - len(self.cohorts))
        return round_number, cohort.tolist()

    def next(self, state: int, cohort: Any, late: Any = ()) -> tuple[int, dp_accounting.DpEvent]:
        assert all(group.state == state - 1 for group in late)
        round_number, positions = cohort
        assert round_number == len(self.cohorts) + 1
        self.cohorts.append(positions)
        return state + 1, self.event

    def weights(self, state: int) -> list[np.ndarray]:
        return [np.array([state], np.float32)]

    def sent(self, state: int) -> None:
        pass

    def canaries(self, state: int) -> None:
        pass

    def forget_before(self, state: int) -> None:
        pass

    def close(self) -> None:
        pass


CLIENTS = 8
EXAMPLES = np.arange(1, CLIENTS + 1)


def told(rounds: Any, config: Any, sampler: Any) -> Any:
    participation = build_participation(config, sampler, seed=0)
    return training_history(
        rounds, config, sampler, participation, metric="accuracy", shapes=[(2, 5)]
    )


def run(
    config: Any,
    *,
    planned: float | None = None,
    ran: float | None = None,
    budget: float | None = None,
    sampler: Any = None,
    engine: CountingEngine | None = None,
) -> tuple[Trained, CountingEngine, list[Any]]:
    engine, told = engine or CountingEngine(ran or planned), []
    draws = (sampler or AllClients(CLIENTS)).draws
    accountant = Accountant(gaussian(draws, planned), DELTA, budget=budget) if planned else None
    trained = train(
        engine,
        sampler or AllClients(CLIENTS),
        build_participation(config, sampler or AllClients(CLIENTS), seed=0),
        config,
        accountant=accountant,
        evaluate=lambda weights: {"accuracy": float(weights[0][0])},
        progress=told.append,
        example_counts=EXAMPLES,
    )
    return trained, engine, told


def test_diverged_training_is_an_error_and_no_model(
    train_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingEngine, "weights", lambda self, state: [np.array([np.nan])])
    with pytest.raises(ModelError, match="training diverged"):
        run(train_config(rounds=1))


def test_all_rounds_run_on_all_clients(train_config: Any) -> None:
    trained, engine, told = run(train_config(rounds=3))

    assert trained.weights[0].tolist() == [3.0]
    assert engine.cohorts == [list(range(8))] * 3
    assert engine.read_ahead == [1, 2, 2]  # the next cohort is read while one trains
    assert [r.number for r in trained.rounds] == [1, 2, 3]
    assert [r.epsilon for r in trained.rounds] == [None] * 3
    assert told == trained.rounds


@pytest.mark.parametrize(
    ("every", "evaluated"),
    [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (9, [5]), (0, [])],
)
def test_evaluation_is_due_every_so_many_rounds_and_at_the_end(
    train_config: Any, every: int, evaluated: list[int]
) -> None:
    trained, _, _ = run(train_config(rounds=5, evaluate_every=every))

    found = {r.number: r.evaluation for r in trained.rounds if r.evaluation}
    assert found == {number: {"accuracy": float(number)} for number in evaluated}


@pytest.mark.parametrize("rounds_affordable", [1, 3])
def test_run_stops_before_the_round_that_would_exceed_the_budget(
    train_config: Any, rounds_affordable: int
) -> None:
    def spent(rounds: int) -> float:
        return epsilon_after(AllClients(8), 2.0, rounds)

    budget = (spent(rounds_affordable) + spent(rounds_affordable + 1)) / 2
    config = train_config(rounds=6, evaluate_every=4)
    trained, engine, _ = run(config, planned=2.0, budget=budget)

    assert len(engine.cohorts) == len(trained.rounds) == rounds_affordable
    assert trained.weights[0].tolist() == [rounds_affordable]
    assert [r.epsilon for r in trained.rounds] == [
        spent(r) for r in range(1, rounds_affordable + 1)
    ]
    assert trained.rounds[-1].evaluation is not None  # the last round that ran is evaluated


def test_budget_equal_to_the_planned_spending_allows_every_round(train_config: Any) -> None:
    budget = epsilon_after(AllClients(8), 2.0, 4)
    trained, _, _ = run(train_config(rounds=4), planned=2.0, budget=budget)

    assert len(trained.rounds) == 4


def test_budget_that_allows_no_round_is_refused(train_config: Any) -> None:
    with pytest.raises(ConfigError, match=r"epsilon=0\.1 does not allow a single round: .* 1\.99"):
        run(train_config(rounds=4), planned=2.0, budget=0.1)


def test_budget_that_the_statistics_have_almost_spent_allows_fewer_rounds(
    train_config: Any,
) -> None:
    statistics = gaussians(4.0, 4)  # as much as one round of noise 2
    budget = epsilon_after(AllClients(8), 2.0, 3) + 0.01

    def affordable(budget: float) -> list[float]:
        engine = CountingEngine(2.0)
        trained = train(
            engine,
            AllClients(8),
            build_participation(train_config(), AllClients(8), seed=0),
            train_config(rounds=5),
            accountant=Accountant(
                gaussian(AllClients(8).draws, 2.0), DELTA, budget=budget, before=statistics
            ),
            evaluate=lambda weights: {},
            progress=lambda told: None,
            example_counts=EXAMPLES,
        )
        return [one.epsilon for one in trained.rounds if one.epsilon is not None]

    spent = affordable(budget)
    assert len(spent) == 2  # without the statistics it would be 3
    assert spent[-1] == pytest.approx(budget - 0.01, abs=0.005)
    one_round = epsilon_after(AllClients(8), 2.0, 1)
    with pytest.raises(ConfigError, match=r"\(with the statistics of ingestion\)\. Raise"):
        affordable(one_round + 0.01)


def test_of_many_rounds_epsilon_is_computed_for_some_and_for_the_last(train_config: Any) -> None:
    trained, _, _ = run(train_config(rounds=45, evaluate_every=0), planned=50.0)

    known = {r.number: r.epsilon for r in trained.rounds if r.epsilon is not None}
    assert list(known) == [1, *range(3, 46, 3)]
    assert known[45] == epsilon_after(AllClients(CLIENTS), 50.0, 45)


@pytest.mark.parametrize("ran", [1.99, 2.1])
def test_engine_that_ran_other_noise_than_planned_stops_the_run(
    train_config: Any, ran: float
) -> None:
    with pytest.raises(PrivacyError, match=r"reports GaussianDpEvent.*noise_multiplier=2\.0"):
        run(train_config(rounds=2), planned=2.0, ran=ran)


def test_no_noise_is_not_close_to_a_little(train_config: Any) -> None:
    engine = CountingEngine()
    engine.event = dp_accounting.GaussianDpEvent(0.0)
    with pytest.raises(PrivacyError, match=r"planned was noise_multiplier=1e-09"):
        run(train_config(rounds=2), planned=1e-9, engine=engine)


def test_engine_without_noise_stops_a_private_run(train_config: Any) -> None:
    with pytest.raises(PrivacyError, match="NonPrivateDpEvent"):
        run(train_config(rounds=2), planned=2.0, engine=CountingEngine())


def test_sampled_cohorts_are_what_the_engine_gets(train_config: Any) -> None:
    sampler = PoissonSampler(8, 4, seed=3)
    trained, engine, _ = run(train_config(rounds=5), sampler=sampler)

    assert engine.cohorts == [sampler.draw(number).tolist() for number in range(1, 6)]
    assert len({tuple(cohort) for cohort in engine.cohorts}) > 1
    assert [r.cohort for r in trained.rounds] == [len(cohort) for cohort in engine.cohorts]


def test_client_drawn_twice_is_in_the_cohort_once(train_config: Any) -> None:
    class Repeating(AllClients):
        def draw(self, round_number: int) -> np.ndarray:
            return np.array([3, 1, 3, 3])

    trained, engine, _ = run(train_config(rounds=2), sampler=Repeating(CLIENTS))

    assert engine.cohorts == [[1, 3]] * 2
    assert [(r.cohort, r.examples) for r in trained.rounds] == [(2, 2 + 4)] * 2


@pytest.mark.parametrize("sampler", [AllClients(8), PoissonSampler(8, 4)])
def test_history_tells_cohorts_and_times_only_when_they_are_no_secret(
    train_config: Any, sampler: Any
) -> None:
    config = train_config(rounds=2)
    trained, _, _ = run(config, planned=2.0, sampler=sampler)
    written = told(trained.rounds, config, sampler)

    secret = sampler.draws.probability is not None
    for number, one in enumerate(written["rounds"], start=1):
        assert (one["cohort"] is None) == (one["seconds"] is None) == secret
        assert one["round"] == number
        assert one["epsilon"] == trained.rounds[number - 1].epsilon
        assert one["eval"] == {"accuracy": float(number)}
    assert written["eval_private"] is False


def test_bytes_are_four_for_each_parameter_and_a_header_for_each_participation(
    train_config: Any,
) -> None:
    config = train_config(rounds=3)
    trained, _, _ = run(config)
    written = told(trained.rounds, config, AllClients(8))

    assert written["bytes"] == {
        "down_per_client_round": 52,
        "up_per_client_round": 52,
        "up_measured": False,
        "down_total": 52 * 8 * 3,
        "up_total": 52 * 8 * 3,
    }
    assert written["parameters"] == 10


def test_late_clients_get_the_state_that_they_began_with(train_config: Any) -> None:
    config = train_config(rounds=6, simulation={"late_rate": 0.5})
    trained, engine, _ = run(config)
    assert len(trained.rounds) == 6
    # Some report in time and the others a round later, but for those late in the last round.
    assert sum(one.cohort for one in trained.rounds) > sum(map(len, engine.cohorts))


def test_buffered_rounds_hold_so_many_updates(train_config: Any) -> None:
    config = train_config(rounds=9, asynchronous={"buffer_size": 3, "concurrency": 1})
    trained, _, _ = run(config)
    assert [one.cohort for one in trained.rounds] == [3] * 9


def test_early_stop_ends_training_and_says_so_unless_the_budget_did(train_config: Any) -> None:
    def spent(rounds: int) -> float:
        return epsilon_after(AllClients(8), 20.0, rounds)

    stop = {"metric": "loss", "patience": 2}  # of which there is no lower one than the first
    config = train_config(rounds=9, early_stop=stop, evaluate_every=2)

    def ended(budget: float | None) -> tuple[int, int, str]:
        trained = train(
            CountingEngine(20.0),
            AllClients(8),
            build_participation(config, AllClients(8), seed=0),
            config,
            accountant=Accountant(gaussian(AllClients(8).draws, 20.0), DELTA, budget=budget),
            evaluate=lambda weights: {"loss": float(weights[0][0])},
            progress=lambda told: None,
            example_counts=EXAMPLES,
        )
        assert trained.rounds[-1].epsilon == spent(len(trained.rounds))
        return len(trained.rounds), trained.rounds_allowed, trained.ended_by

    assert ended(None) == (6, 9, "early_stop")
    assert ended(spent(8) + 1e-6) == (6, 8, "early_stop")
    assert ended(spent(6) + 1e-6) == (6, 6, "budget")


@pytest.mark.parametrize(("private", "sampler"), [(True, PoissonSampler(8, 4)), (False, None)])
def test_examples_of_a_round_are_told_only_when_they_are_no_secret(
    train_config: Any, private: bool, sampler: Any
) -> None:
    trained, _, told = run(
        train_config(rounds=2), planned=20.0 if private else None, sampler=sampler
    )
    assert [one.examples for one in told] == [None if private else 36] * 2
    assert told == trained.rounds
