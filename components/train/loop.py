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
from privet.components.shared.privacy_loss import NOTHING
from privet.components.shared.sparsity import share_of_zeros
from privet.components.train.accounting import Accountant, joint_noise_multiplier
from privet.components.train.canaries import CanaryScores
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
class Trained:
    """The result.

    Attributes:
      weights: the final ones.
      rounds: those that the weights went through.
      rounds_allowed: how many would have been counted without early stopping.
      ended_by: what ended training.
      sent: messages of clients and their bytes, int64 [2]; None where they are not measured.
      canaries: what the rounds tell of them; None where there are none.
    """

    weights: list[np.ndarray]
    rounds: list[Round]
    rounds_allowed: int
    ended_by: Literal["rounds", "budget", "early_stop"]
    sent: np.ndarray | None = None
    canaries: CanaryScores | None = None


def train(
    engine: Engine,
    sampler: Sampler,
    participation: Participation,
    config: TrainConfig,
    *,
    accountant: Accountant | None,
    evaluate: Callable[[Sequence[np.ndarray]], dict[str, float]],
    progress: Callable[[Round], None],
    example_counts: np.ndarray,
    checkpoints: Checkpoints | None = None,
    reserve: Callable[[Accountant, int], None] | None = None,
) -> Trained:
    """Trains for the configured rounds, until the budget allows no further one, or early_stop.

    With checkpoints it goes on after the last one. What decides the rest is in them: the order of
    examples, and without privacy the cohorts, depend on the number of the round alone.

    Args:
      engine: runs a round.
      sampler: draws the cohorts.
      participation: says who reports in each round.
      config: settings.
      accountant: of the DP mechanism that the engine applies; None without privacy.
      evaluate: metrics of weights on held-out clients.
      progress: is told of every finished round.
      example_counts: int64 [clients], how many examples each client's steps take in a round.
      checkpoints: of this run; None to keep nothing.
      reserve: is told of the account and of how many further rounds there may be, before the first
        of them; with privacy only.

    Raises:
      ConfigError: the budget does not allow a single round.
      ModelError: training diverged.
      PrivacyError: the engine ran another mechanism than the one planned, or what an earlier
        process has spent is not known.
      StoreError: a checkpoint is damaged.
    """
    kept = checkpoints.load() if checkpoints else None
    rounds = list(kept.rounds) if kept else []
    anew = False
    if accountant and checkpoints:
        accountant.stretches = list(checkpoints.stretches)
        anew = accountant.rounds > (kept.counted if kept else 0)  # some were cut short
        if anew:
            accountant.begin_stretch()
    counted = accountant.rounds if accountant else 0
    left = _affordable_rounds(accountant, config.rounds, len(rounds))
    end, allowed = len(rounds) + left, counted + left
    if accountant and reserve:
        reserve(accountant, left)
    spacing, every, save_every = (
        -(-end // _EPSILONS),
        config.evaluate_every,
        config.checkpoint_every,
    )
    stop = config.early_stop
    values = [r.evaluation[stop.metric] for r in rounds if stop and r.evaluation]
    last = len(rounds) if has_stalled(stop, values) else end
    secret = accountant is not None and sampler.draws.probability is not None
    before = [engine.restore(one) for one in kept.states] if kept else [engine.initialize()]
    if anew:
        before[-1] = engine.begin_stretch(before[-1])
    states = collections.deque(before, maxlen=participation.most_staleness + 1)
    started = time.monotonic()
    for number, (first, *others) in _cohorts(engine, participation, len(rounds) + 1, last):
        if accountant:
            if checkpoints:
                checkpoints.start_round(number, accountant.mechanism.describe(), anew=anew)
                anew = False
            accountant.count_round()
        late = [Late(states[-1 - part.staleness], cohort, part.discount) for part, cohort in others]
        state, event = engine.next(states[-1], first.cohort, late)
        states.append(state)
        if accountant:
            _check_event(event, accountant.mechanism.noise_multiplier)
        due = every and (number % every == 0 or number == last)
        evaluation = evaluate(_finite_weights(engine, state)) if due else None
        if stop and evaluation:
            values.append(evaluation[stop.metric])
        ends = number == last or has_stalled(stop, values)
        epsilon = None
        if accountant and (number == 1 or number % spacing == 0 or ends):
            epsilon = accountant.epsilon()
        drawn = np.concatenate([part.clients for part, _ in (first, *others)])
        taken = None if secret else int(example_counts[drawn].sum())
        seconds = time.monotonic() - started
        zeros = share_of_zeros(engine.weights(state)) if config.pruning else None
        rounds.append(Round(number, len(drawn), seconds, epsilon, evaluation, taken, zeros))
        progress(rounds[-1])
        if checkpoints and (ends or (save_every and number % save_every == 0)):
            counted = accountant.rounds if accountant else 0
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
            epsilon=accountant.epsilon() if accountant else None,
            evaluation=rounds[-1].evaluation or (evaluate(weights) if every else None),
        )
    reason, sent = _reason(len(rounds), end, config.rounds), engine.sent(states[-1])
    return Trained(weights, rounds, allowed, reason, sent, engine.canaries(states[-1]))


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


def _affordable_rounds(accountant: Accountant | None, rounds: int, done: int) -> int:
    """How many further rounds there are to be: training stops before the budget is exceeded.

    Args:
      accountant: of the noised rounds that were started, with its budget.
      rounds: that are wanted in all.
      done: of them, that the model has gone through.
    """
    left = rounds - done
    if accountant is None or accountant.budget is None:
        return left

    def spent(further: int) -> float:
        return accountant.including(further).epsilon_pld()

    if spent(left) <= accountant.budget:
        return left
    affordable = bisect.bisect_right(range(1, left + 1), accountant.budget, key=spent)
    if not affordable and not done:
        also = "" if accountant.before == NOTHING else " (with the statistics of ingestion)"
        lost = f" after {accountant.rounds} that were started and lost" if accountant.rounds else ""
        raise ConfigError(
            f"train.privacy.epsilon={accountant.budget} does not allow a single round{lost}: with "
            f"noise_multiplier={accountant.mechanism.noise_multiplier} one spends "
            f"{spent(1):.4g}{also}. Raise either, or leave noise_multiplier out to have it "
            "calibrated."
        )
    return affordable


def _check_event(ran: dp_accounting.DpEvent, planned: float) -> None:
    """Checks what the engine says it did against the noise that is accounted for."""
    noise = joint_noise_multiplier(ran)
    if noise is None or not np.isclose(noise, planned, rtol=1e-5, atol=0):
        raise PrivacyError(
            f"the aggregator reports {ran}, planned was noise_multiplier={planned}. The run "
            "stops without releasing a model; please report this configuration."
        )
