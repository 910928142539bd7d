"""The training loop: draws cohorts, runs rounds, accounts for them, stops within the budget."""

import bisect
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import dp_accounting
import numpy as np

from privet.components.shared.errors import ConfigError, ModelError, PrivacyError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of
from privet.components.train.accounting import Accountant, joint_noise_multiplier, rounds_event
from privet.components.train.config import TrainConfig
from privet.components.train.engines import Engine
from privet.components.train.sampling import Sampler

_EPSILONS = 20
"""Rounds for which epsilon is computed: each takes PLD far longer than a small model a round."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What is known about one round.

    Attributes:
      number: counted from 1.
      cohort: clients that took part. A secret under Poisson sampling.
      seconds: wall time.
      epsilon: spent up to and including this round; None without privacy, and in those of many
        rounds for which it was not computed.
      evaluation: metrics of the global model on the eval clients, or None if not evaluated.
    """

    number: int
    cohort: int
    seconds: float
    epsilon: float | None
    evaluation: dict[str, float] | None


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


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result: final weights and the rounds that led to them."""

    weights: list[np.ndarray]
    rounds: list[Round]


def train(
    engine: Engine,
    sampler: Sampler,
    config: TrainConfig,
    *,
    mechanism: Mechanism | None,
    evaluate: Callable[[Sequence[np.ndarray]], dict[str, float]],
    progress: Callable[[Round], None],
) -> Trained:
    """Trains for the configured rounds, or until the budget allows no further one.

    Args:
      engine: runs a round.
      sampler: draws the cohorts.
      config: settings.
      mechanism: the DP mechanism that the engine's aggregator applies; None without privacy.
      evaluate: metrics of weights on held-out clients.
      progress: is told of every finished round.

    Raises:
      ConfigError: the budget does not allow a single round.
      ModelError: training diverged.
      PrivacyError: the engine ran another mechanism than the one planned.
    """
    affordable = _affordable_rounds(mechanism, sampler, config.rounds)
    state = engine.initialize()
    rounds: list[Round] = []
    spacing = -(-affordable // _EPSILONS)
    following = sampler.draw(1)
    reading = engine.read(following, 1)
    for number in range(1, affordable + 1):
        started = time.monotonic()
        drawn, cohort = following, reading
        if number < affordable:
            following = sampler.draw(number + 1)
            reading = engine.read(following, number + 1)
        state, event = engine.next(state, cohort)
        epsilon = None
        if mechanism:
            _account(event, mechanism, sampler)
            if number % spacing == 0 or number in (1, affordable):
                epsilon = mechanism.accountant.epsilon()
        every = config.evaluate_every
        due = every and (number % every == 0 or number == affordable)
        evaluation = evaluate(_finite_weights(engine, state)) if due else None
        seconds = time.monotonic() - started
        rounds.append(Round(number, len(drawn), seconds, epsilon, evaluation))
        progress(rounds[-1])
    return Trained(_finite_weights(engine, state), rounds)


def _finite_weights(engine: Engine, state: Any) -> list[np.ndarray]:
    weights = engine.weights(state)
    if not all(np.isfinite(weight).all() for weight in weights):
        raise ModelError(
            "training diverged: the global model's weights are no longer finite. Lower "
            "train.server_optimizer.learning_rate or train.client_optimizer.learning_rate."
        )
    return weights


def _affordable_rounds(mechanism: Mechanism | None, sampler: Sampler, rounds: int) -> int:
    """How many of the rounds the budget allows: training stops before one that would exceed it."""
    if mechanism is None or mechanism.budget is None:
        return rounds
    noise, accountant = mechanism.noise_multiplier, mechanism.accountant

    def spent(count: int) -> float:
        event = rounds_event(sampler, noise, count, accountant.before)
        return epsilon_of(event, accountant.delta)

    if spent(rounds) <= mechanism.budget:
        return rounds
    affordable = bisect.bisect_right(range(1, rounds + 1), mechanism.budget, key=spent)
    if not affordable:
        also = "" if accountant.before == NOTHING else " (with the statistics of ingestion)"
        raise ConfigError(
            f"train.privacy.epsilon={mechanism.budget} does not allow a single round: with "
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
    mechanism.accountant.compose(sampler.account(dp_accounting.GaussianDpEvent(planned)))


def history(
    trained: Trained, config: TrainConfig, sampler: Sampler, *, metric: str, parameters: int
) -> dict[str, Any]:
    """The content of training_history.json.

    Realised cohort sizes (and, with them, the time of a round) are written only when they are
    no secret: amplification by Poisson sampling assumes that nobody learns who took part.

    Args:
      trained: the finished run.
      config: settings.
      sampler: what drew the cohorts.
      metric: the headline metric of the task.
      parameters: number of trainable weights.
    """
    secret = sampler.describe()["amplification"]
    update_bytes = 4 * parameters  # float32, uncompressed
    participations = sampler.expected_cohort * len(trained.rounds)
    return {
        "schema": 1,
        "metric": metric,
        "rounds": [
            {
                "round": round_.number,
                "cohort": None if secret else round_.cohort,
                "seconds": None if secret else round(round_.seconds, 4),
                "epsilon": round_.epsilon,
                "eval": round_.evaluation,
            }
            for round_ in trained.rounds
        ],
        "eval_private": False,
        "eval_note": "measured on the eval clients, which do not train; not covered by epsilon",
        "bytes": {
            "down_per_client_round": update_bytes,
            "up_per_client_round": update_bytes,
            "down_total": round(update_bytes * participations),
            "up_total": round(update_bytes * participations),
        },
        "parameters": parameters,
        "local_epochs": config.local_epochs,
        "batch_size": config.batch_size,
    }
