"""Cohorts, rounds and noise that reach a target epsilon within a budget of communication.

What is compared is the noise on the mean update of a round: its standard deviation in each weight
is noise_multiplier * clip_norm / reports, and its norm that times the square root of the number of
weights, which is the same everywhere. That is a proxy. It says nothing about what a model learns
in so many rounds, so there is the best cohort for each number of rounds, and the choice among
these is left to whoever knows the model.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import dp_accounting

from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import (
    NOTHING,
    WHOLE_ORDERS,
    enough_noise,
    epsilon_by_rdp,
    noise_by_rdp,
)
from privet.components.train.accounting import (
    Accountant,
    check_budget,
    count_noise_of,
    value_noise_multiplier,
)
from privet.components.train.config import TrainConfig
from privet.components.train.mechanism import Mechanism, Relation
from privet.components.train.privacy_config import SamplingConfig
from privet.components.train.sampling import Draws, build_sampler

LEAST_SHARE = 0.01
"""Of the clients that the smallest cohort considered has, unless the configured one is smaller."""


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Settings that spend the target epsilon, and the noise that they leave.

    Attributes:
      rounds, sampling, cohort_size: the settings; cohort_size is None for all clients.
      client_rounds: clients of all rounds together.
      noise_multiplier: that reaches the target, by `accountant`.
      relation: in what neighbouring data sets differ.
      noise_per_step: standard deviation, in each weight, of the mean update of a round.
      noise_of_sum: of the sum of all rounds' mean updates.
      noise_of_mean: of their mean: against updates that do not shrink, this is what counts.
      norm_per_step: of the noise on a round's mean update; None unless the weights were counted.
      least_noise_of_sum: whether no other row has less of it.
    """

    rounds: int
    sampling: Literal["all", "poisson", "fixed_size", "fixed_order"]
    cohort_size: int | None
    client_rounds: float
    noise_multiplier: float
    accountant: Literal["pld"]
    relation: Relation
    noise_per_step: float
    noise_of_sum: float
    noise_of_mean: float
    norm_per_step: float | None
    least_noise_of_sum: bool = False


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A way to draw cohorts for so many rounds."""

    config: SamplingConfig
    draws: Draws
    rounds: int


def suggest(
    config: TrainConfig,
    clients: int,
    *,
    client_rounds: float,
    seed: int = 0,
    before: dp_accounting.DpEvent = NOTHING,
    weights: int | None = None,
) -> list[Suggestion]:
    """The best cohort for each of several numbers of rounds, least noise per step first.

    Numbers of rounds double from that in `config`, down to all clients in each and up to cohorts of
    one percent (or what is configured). Cohorts halve from the largest within the budget. Coin
    flips, all clients and a fixed order are compared by Rényi DP, for it is quick; what is best is
    then calibrated by PLD.

    Args:
      config: settings with mechanism: gaussian and a target epsilon.
      clients: number of clients to train on.
      client_rounds: that all rounds together may take.
      seed: of the fixed order.
      before: what was released about the same clients before.
      weights: how many the model has, if known.

    Raises:
      ConfigError: another mechanism, no target, one that was spent before, or a budget below one
        round of the smallest cohort.
    """
    privacy = config.privacy
    if privacy.mechanism != "gaussian":
        raise ConfigError(
            f"--suggest compares noise on sampled cohorts, but train.privacy.mechanism="
            f"{privacy.mechanism}. Set mechanism: gaussian, or plan each setting by itself."
        )
    if privacy.epsilon is None:
        raise ConfigError(
            "--suggest needs an epsilon to reach: give --target-epsilon or train.privacy.epsilon."
        )
    assert privacy.delta is not None  # PrivacyConfig checks it
    check_budget(before, privacy.epsilon, privacy.delta)
    least = min(math.ceil(LEAST_SHARE * clients), config.sampling.cohort_size or clients)
    if client_rounds < least:
        raise ConfigError(
            f"--client-rounds={client_rounds:g} is less than one round of {least} of the {clients} "
            "clients, the smallest cohort that is considered. Raise it."
        )
    found: list[Suggestion] = []
    for rounds in _numbers_of_rounds(config.rounds, clients, client_rounds, least):
        best = _best(config, _candidates(clients, rounds, client_rounds, least, seed))
        row = _suggestion(config, best, before, weights) if best else None
        found += [row] if row else []
    if not found:
        raise ConfigError(
            f"no cohort within --client-rounds={client_rounds:g} reaches epsilon="
            f"{privacy.epsilon} at delta={privacy.delta}. Raise one of them."
        )
    smallest = min(found, key=lambda one: one.noise_of_sum)
    marked = [dataclasses.replace(one, least_noise_of_sum=one is smallest) for one in found]
    return sorted(marked, key=lambda one: one.noise_per_step)


def _numbers_of_rounds(rounds: int, clients: int, budget: float, least: int) -> list[int]:
    """From all clients in each round to the smallest cohort, doubling, through `rounds`."""
    fewest, most = max(1, int(budget // clients)), int(budget // least)
    doubled = {round(rounds * 2.0**power) for power in range(-30, 31)}
    return sorted({fewest} | {number for number in doubled if fewest <= number <= most})


def _candidates(
    clients: int, rounds: int, budget: float, least: int, seed: int
) -> list[_Candidate]:
    """Cohorts that halve from the largest that so many rounds can afford."""
    configs = []
    cohort = min(clients, int(budget // rounds))
    while cohort >= least:
        if cohort == clients:
            configs.append(SamplingConfig(kind="all"))
        else:
            configs.append(SamplingConfig(kind="poisson", cohort_size=cohort))
            configs.append(SamplingConfig(kind="fixed_order", cohort_size=cohort))
        cohort //= 2
    return [
        _Candidate(one, build_sampler(one, clients, private=True, seed=seed).draws, rounds)
        for one in configs
    ]


def _best(config: TrainConfig, candidates: list[_Candidate]) -> _Candidate | None:
    """The candidate with the least noise on a mean update, by Rényi DP."""
    privacy = config.privacy
    assert privacy.epsilon is not None
    assert privacy.delta is not None
    best: _Candidate | None = None
    least = math.inf  # noise multiplier of the best, over its cohort
    for candidate in candidates:
        event, cohort = _event(config, candidate), candidate.draws.expected_cohort
        if best is not None:  # most are out by one look, which spares their calibration
            spent = epsilon_by_rdp(event(least * cohort), privacy.delta, orders=WHOLE_ORDERS)
            if spent > privacy.epsilon:
                continue
        noise = noise_by_rdp(event, privacy.epsilon, privacy.delta)
        if noise / cohort < least:
            best, least = candidate, noise / cohort
    return best


def _suggestion(
    config: TrainConfig, best: _Candidate, before: dp_accounting.DpEvent, weights: int | None
) -> Suggestion | None:
    """The candidate with its noise by PLD; None if the count of adaptive clipping has too little.

    What was spent before is the same for all, so it counts here only.
    """
    privacy, rounds, draws = config.privacy, best.rounds, best.draws
    assert privacy.epsilon is not None
    assert privacy.delta is not None
    assert privacy.clip_norm is not None
    noise = value = enough_noise(
        _event(config, best), privacy.epsilon, privacy.delta, before=before
    )
    reports = draws.expected_cohort * (1 - config.simulation.dropout_rate)
    if privacy.adaptive_clip is not None:
        try:
            value = value_noise_multiplier(noise, count_noise_of(privacy.adaptive_clip, reports))
        except ConfigError:
            return None
    per_step = value * privacy.clip_norm / reports
    return Suggestion(
        rounds=rounds,
        sampling=best.config.kind,
        cohort_size=best.config.cohort_size,
        client_rounds=draws.expected_cohort * rounds,
        noise_multiplier=noise,
        accountant="pld",
        relation=_mechanism(draws).relation,
        noise_per_step=per_step,
        noise_of_sum=per_step * math.sqrt(rounds),
        noise_of_mean=per_step / math.sqrt(rounds),
        norm_per_step=None if weights is None else per_step * math.sqrt(weights),
    )


def _event(config: TrainConfig, candidate: _Candidate) -> Callable[[float], dp_accounting.DpEvent]:
    """What all rounds spend, of a noise multiplier."""
    privacy, mechanism = config.privacy, _mechanism(candidate.draws)
    assert privacy.delta is not None
    delta, charged = privacy.delta, privacy.candidates or 1
    return lambda noise: (
        Accountant(
            mechanism.with_noise(noise), delta, candidates=charged, stretches=[candidate.rounds]
        ).rounds_event
    )


def _mechanism(draws: Draws) -> Mechanism:
    return Mechanism("gaussian", draws, 1.0)
