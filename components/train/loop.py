"""The training loop: draws cohorts, runs rounds, accounts for them, knows when to stop."""

import bisect
import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import dp_accounting
import numpy as np

from privet.components.shared.errors import ConfigError, ModelError, PrivacyError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of
from privet.components.train.accounting import (
    Accountant,
    joint_noise_multiplier,
    round_event,
    rounds_event,
)
from privet.components.train.checkpoint import Checkpoint, Checkpoints
from privet.components.train.config import TrainConfig
from privet.components.train.early_stop import has_stalled
from privet.components.train.engines import Engine, Late
from privet.components.train.history import Round
from privet.components.train.participation import Part, Participation
from privet.components.train.sampling import Sampler

_EPSILONS = 20
"""Rounds for which epsilon is computed: each takes PLD far longer than a small model a round."""


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """The planned mechanism and its account.

    Attributes:
      noise_multiplier: noise in units of the clip norm.
      accountant: composes the rounds that ran.
      budget: epsilon not to exceed, or None.
    """

    noise_multiplier: float
    accountant: Accountant
    budget: float | None

    def event(self, sampler: Sampler) -> dp_accounting.DpEvent:
        """What one round adds to the account."""
        return round_event(sampler, self.noise_multiplier)


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result.

    Attributes:
      weights: the final ones.
      rounds: those that the weights went through.
      rounds_counted: noised rounds that were started: `rounds`, and those that a kill cut short.
      rounds_allowed: how many would have been counted without early stopping.
      ended_by: what ended training.
    """

    weights: list[np.ndarray]
    rounds: list[Round]
    rounds_counted: int
    rounds_allowed: int
    ended_by: Literal["rounds", "budget", "early_stop"]


def train(
    engine: Engine,
    sampler: Sampler,
    participation: Participation,
    config: TrainConfig,
    *,
    mechanism: Mechanism | None,
    evaluate: Callable[[Sequence[np.ndarray]], dict[str, float]],
    progress: Callable[[Round], None],
    example_counts: np.ndarray,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains for the configured rounds, until the budget allows no further one, or early_stop.

    With checkpoints it goes on after the last one. What decides the rest is in them: the order of
    examples, and without privacy the cohorts, depend on the number of the round alone.

    Args:
      engine: runs a round.
      sampler: knows what drawing the cohorts means for the account.
      participation: says who reports in each round.
      config: settings.
      mechanism: the DP mechanism that the engine's aggregator applies; None without privacy.
      evaluate: metrics of weights on held-out clients.
      progress: is told of every finished round.
      example_counts: int64 [clients], how many examples each client's steps take in a round.
      checkpoints: of this run; None to keep nothing.

    Raises:
      ConfigError: the budget does not allow a single round.
      ModelError: training diverged.
      PrivacyError: the engine ran another mechanism than the one planned, or what an earlier
        process has spent is not known.
      StoreError: a checkpoint is damaged.
    """
    kept = checkpoints.load() if checkpoints else None
    rounds = list(kept.rounds) if kept else []
    counted = checkpoints.started if checkpoints and mechanism else 0
    if mechanism:
        for _ in range(counted):
            mechanism.accountant.compose(mechanism.event(sampler))
    left = _affordable_rounds(mechanism, sampler, config.rounds, len(rounds), counted)
    end, allowed = len(rounds) + left, counted + left
    spacing, every, save_every = (
        -(-end // _EPSILONS),
        config.evaluate_every,
        config.checkpoint_every,
    )
    stop = config.early_stop
    values = [r.evaluation[stop.metric] for r in rounds if stop and r.evaluation]
    last = len(rounds) if has_stalled(stop, values) else end
    secret = mechanism is not None and sampler.describe()["amplification"]
    before = [engine.restore(one) for one in kept.states] if kept else [engine.initialize()]
    states = collections.deque(before, maxlen=participation.most_staleness + 1)
    started = time.monotonic()
    for number, (first, *others) in _cohorts(engine, participation, len(rounds) + 1, last):
        if mechanism:
            counted += 1
            if checkpoints:
                checkpoints.start_round()
        late = [Late(states[-1 - part.staleness], cohort, part.discount) for part, cohort in others]
        state, event = engine.next(states[-1], first.cohort, late)
        states.append(state)
        if mechanism:
            _account(event, mechanism, sampler)
        due = every and (number % every == 0 or number == last)
        evaluation = evaluate(_finite_weights(engine, state)) if due else None
        if stop and evaluation:
            values.append(evaluation[stop.metric])
        ends = number == last or has_stalled(stop, values)
        epsilon = None
        if mechanism and (number == 1 or number % spacing == 0 or ends):
            epsilon = mechanism.accountant.epsilon()
        drawn = np.concatenate([part.clients for part, _ in (first, *others)])
        taken = None if secret else int(example_counts[drawn].sum())
        seconds = time.monotonic() - started
        rounds.append(Round(number, len(drawn), seconds, epsilon, evaluation, taken))
        progress(rounds[-1])
        if checkpoints and (ends or (save_every and number % save_every == 0)):
            checkpoints.save(Checkpoint(rounds, counted, [engine.save(one) for one in states]))
            engine.forget_before(state)
        elif not (checkpoints and save_every):
            engine.forget_before(state)
        if ends:
            break
        started = time.monotonic()
    weights = _finite_weights(engine, states[-1])
    if kept and len(rounds) == len(kept.rounds):  # rounds after it were lost, and no more allowed
        rounds[-1] = dataclasses.replace(
            rounds[-1],
            epsilon=mechanism.accountant.epsilon() if mechanism else None,
            evaluation=rounds[-1].evaluation or (evaluate(weights) if every else None),
        )
    return Trained(weights, rounds, counted, allowed, _reason(len(rounds), end, config.rounds))


class _Reading(NamedTuple):
    """Clients that are being read."""

    part: Part
    cohort: Any


def _cohorts(
    engine: Engine, participation: Participation, first: int, last: int
) -> Iterator[tuple[int, list[_Reading]]]:
    """Numbers of rounds with their clients, read while the round before trains."""

    def read(number: int) -> list[_Reading]:
        parts = participation.parts(number)
        return [
            _Reading(part, engine.read(part.clients, number - part.staleness)) for part in parts
        ]

    if first > last:
        return
    following = read(first)
    for number in range(first, last + 1):
        readings = following
        if number < last:
            following = read(number + 1)
        yield number, readings


def _reason(done: int, affordable: int, wanted: int) -> Literal["rounds", "budget", "early_stop"]:
    """What ended training after so many rounds."""
    if done == wanted:
        return "rounds"
    return "budget" if done == affordable else "early_stop"


def _finite_weights(engine: Engine, state: Any) -> list[np.ndarray]:
    weights = engine.weights(state)
    if not all(np.isfinite(weight).all() for weight in weights):
        raise ModelError(
            "training diverged: the global model's weights are no longer finite. Lower "
            "train.server_optimizer.learning_rate or train.client_optimizer.learning_rate."
        )
    return weights


def _affordable_rounds(
    mechanism: Mechanism | None, sampler: Sampler, rounds: int, done: int, counted: int
) -> int:
    """How many further rounds there are to be: training stops before the budget is exceeded.

    Args:
      mechanism: with its budget.
      sampler: of the cohorts.
      rounds: that are wanted in all.
      done: of them, that the model has gone through.
      counted: noised rounds that are spent already, which may be more.
    """
    left = rounds - done
    if mechanism is None or mechanism.budget is None:
        return left
    noise, accountant = mechanism.noise_multiplier, mechanism.accountant

    def spent(further: int) -> float:
        event = rounds_event(sampler, noise, counted + further, accountant.before)
        return epsilon_of(event, accountant.delta)

    if spent(left) <= mechanism.budget:
        return left
    affordable = bisect.bisect_right(range(1, left + 1), mechanism.budget, key=spent)
    if not affordable and not done:
        also = "" if accountant.before == NOTHING else " (with the statistics of ingestion)"
        lost = f" after {counted} that were started and lost" if counted else ""
        raise ConfigError(
            f"train.privacy.epsilon={mechanism.budget} does not allow a single round{lost}: with "
            f"noise_multiplier={noise} one spends {spent(1):.4g}{also}. Raise either, or leave "
            "noise_multiplier out to have it calibrated."
        )
    return affordable


def _account(ran: dp_accounting.DpEvent, mechanism: Mechanism, sampler: Sampler) -> None:
    """Composes what the aggregator says it did, after checking it against the plan."""
    noise = joint_noise_multiplier(ran)
    planned = mechanism.noise_multiplier
    if noise is None or not np.isclose(noise, planned, rtol=1e-5):
        raise PrivacyError(
            f"the aggregator reports {ran}, planned was noise_multiplier={planned}. The run "
            "stops without releasing a model; please report this configuration."
        )
    mechanism.accountant.compose(mechanism.event(sampler))
