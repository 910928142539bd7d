"""The ledger of a run: what it spent on which clients, under which assumptions, and what not.

Parts that concern the same clients compose in sequence: `epsilon` covers all of them together
and is less than the sum of the parts' own. A held-out client is in the statistics' part only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from privet.components.shared import events, noised_statistics
from privet.components.shared.privacy_loss import delta_left, epsilon_of
from privet.components.train.accounting import (
    Accountant,
    count_noise_of,
    value_noise_multiplier,
)
from privet.components.train.mechanism import CENTRAL
from privet.components.train.participation import Participation
from privet.components.train.privacy_config import PrivacyConfig

_EVALUATION = (
    "Evaluation on the eval clients (accuracy over rounds, per-client metrics, the gate's "
    "verdict, the choice among compressed variants). These clients do not train, and epsilon does "
    "not cover releasing their metrics."
)
_MEMBERSHIP = (
    "The membership attack of the audit (audit.json, and the gate's verdict where a rule asks for "
    "it). It rests on exact losses of training clients and of eval clients."
)
_SEARCH = (
    "THE SEARCH FOR SETTINGS IS NOT CHARGED: choosing among private runs on the same clients "
    "spends what all of them spend. train.privacy.candidates charges it."
)
_OTHER_RUNS = (
    "Other runs on the same clients. train.privacy.population_budget adds them up, and so does "
    "`privet plan --ledger`."
)
_CLIENTS_AS_SUCH = (
    "A client as a whole: epsilon is about one example. All of a client's examples together have "
    "no such guarantee."
)
_TIMES = (
    "How long the run and, where cohorts are no secret, its rounds took (training_history.json, "
    "run.json; canaries.json has all rounds together): that goes with how many examples clients "
    "have."
)
_NUMBER_OF_CLIENTS = "The number of training clients, which is treated as public."
NOT_COVERED = (
    _EVALUATION,
    _MEMBERSHIP,
    "Ingestion statistics (counts of clients, examples and labels). They are exact.",
    _SEARCH,
    _OTHER_RUNS,
    _TIMES,
    _NUMBER_OF_CLIENTS,
)
NOT_COVERED_WITH_NOISED_STATISTICS = (
    _EVALUATION,
    _MEMBERSHIP,
    "Counts of refused rows and of left out clients (rejects/). They are exact.",
    _SEARCH,
    _OTHER_RUNS,
    "Other ingestions of the same clients: each one (a new span, a changed setting) releases "
    "statistics anew. Only those of this run's examples are in this ledger.",
    _TIMES,
    _NUMBER_OF_CLIENTS,
)
_TRUSTED = "The aggregator is trusted: it sees each client's clipped update before noise is added."
_ONE_ID = "One client id is one user, and a user's data are under one id only."
_ONE_EXAMPLE = "What is to be protected is in one example only."
_FLOAT_NOISE = (
    "Gaussian noise is made of the bits of TensorFlow's generator, seeded by the operating system, "
    "and added in float32; attacks on floating-point noise (Mironov, 2012), and what rounding does "
    "to float32 sums, are not modelled. train.privacy.rounded_noise does without."
)
_ROUNDED_NOISE = (
    "Gaussian noise is made in float64 of the bits of TensorFlow's generator, seeded by the "
    "operating system, and rounded to the grid on which clipped updates are added up exactly."
)
_PLACES = (
    "Who is in which round depends on the number of clients and on chance alone, never on data: a "
    "client without data keeps its place."
)
_CORRELATED = (
    "A client takes part once an epoch at most, which the order of clients enforces; all rounds "
    "together are one Gaussian mechanism, also where what clients send depends on earlier rounds "
    "(Denisov et al., 2022, theorem 2.1)."
)
_REPORTING = "Who reports in which round is known to the aggregator, and amplifies nothing."
_CLIENTS_NOISE = (
    "Noise is drawn where a client is trained, which is taken to be the client's own: it sees the "
    "client's examples and keeps them, the update before its noise, and the noise."
)
_CANDIDATES = (
    "{} runs like this one are charged, from which this one may have been chosen: none of the "
    "others spent more."
)
_CANARIES = (
    "{} canaries (train.canaries), each included by a fair coin, are made of chance alone and were "
    "added to sums before their noise. They are the same whatever clients hold, and change neither "
    "the chance of clients to be drawn nor what sums are divided by. What is told of them "
    "(canaries.json) is computed from noised sums and from chance."
)
STATISTICS_ASSUMPTIONS = (
    "Noised statistics: a client is in one split only, and which of its rows are kept does not "
    "depend on other clients' rows. Their noise comes from the operating system's generator and "
    "is rounded to whole numbers.",
)
PUBLIC_EVAL_ASSUMPTIONS = (
    "The eval clients' data are public (train.public_eval), which is the configuration's own "
    "statement.",
)
EARLY_STOP_ASSUMPTIONS = (
    "Training ended early by what public data showed of the noised model. epsilon is that of all "
    "the rounds that were allowed, since an end that depends on the rounds could have been any of "
    'them (a filter: Rogers, Roth, Ullman, Vadhan, 2016, "Privacy odometers and filters"). '
    "epsilon_of_rounds_run is what was read at the end, and no guarantee.",
)


def write_ledger(
    config: PrivacyConfig,
    participation: Participation,
    accountant: Accountant | None,
    *,
    rounds: int,
    rounds_allowed: int,
    rounds_planned: int,
    ended_by: Literal["rounds", "budget", "early_stop"],
    public_eval: bool,
    epsilon_by_round: Sequence[float | None],
    statistics: Mapping[str, Any] | None = None,
    rounds_of_others: int = 0,
    population_budget: Mapping[str, Any] | None = None,
    canaries: int = 0,
) -> dict[str, Any]:
    """The content of privacy_ledger.json.

    Args:
      config: what was asked for.
      participation: who of them reported.
      accountant: what counted the rounds; None for a run without privacy.
      rounds: rounds that the model went through.
      rounds_allowed: rounds that might have been counted without early stopping, and are claimed
        after it.
      rounds_planned: rounds that were configured.
      ended_by: what ended training.
      public_eval: whether the eval split is said to be public.
      epsilon_by_round: epsilon after each round, noised statistics included; None where it was
        not computed.
      statistics: the content of statistics.json; None where there is none.
      rounds_of_others: noised rounds that other runs have started in the same work directory.
      population_budget: what PopulationBudget.settle gives; None where there is none.
      canaries: how many synthetic clients there were, included or not.
    """
    released = statistics if statistics and statistics.get("private") is True else None
    common: dict[str, Any] = {
        "schema": 1,
        "unit": "client" if accountant is None else accountant.mechanism.unit,
        "trust_model": CENTRAL if accountant is None else accountant.mechanism.trust_model,
        "sampling": participation.describe(),
        "rounds": rounds,
        "rounds_planned": rounds_planned,
        "ended_by": ended_by,
        "canaries": canaries,
        "epsilon_by_round": list(epsilon_by_round),
    }
    if accountant is None:
        return {
            **common,
            "private": False,
            "not_private_because": "train.privacy.mechanism=none: updates are neither clipped "
            "nor noised, and the model may memorize any client",
            "epsilon": None,
            "delta": None,
            "mechanism": {"kind": "none"},
            "parts": [_statistics_part(released, None)] if released else [],
            "assumptions": list(STATISTICS_ASSUMPTIONS) if released else [],
            "not_covered": [
                "Everything but the noised statistics: the model carries no privacy guarantee."
                if released
                else "Everything: this model carries no privacy guarantee."
            ],
        }
    delta, of_rounds_run = accountant.delta, accountant.epsilon()
    if ended_by == "early_stop":
        accountant = accountant.including(rounds_allowed - accountant.rounds)
    mechanism = accountant.mechanism
    parts = [_statistics_part(released, delta)] if released else []
    parts.append(
        {
            "what": "training",
            "epsilon": epsilon_of(accountant.rounds_event, delta, accountant.lost),
            "delta": delta,
            "clients": ["train"],
            "rounds": accountant.rounds,
        }
    )
    assumptions = _assumptions(config, accountant)
    assumptions += [_CANARIES.format(canaries)] if canaries else ()
    assumptions += STATISTICS_ASSUMPTIONS if released else ()
    assumptions += PUBLIC_EVAL_ASSUMPTIONS if public_eval else ()
    assumptions += EARLY_STOP_ASSUMPTIONS if ended_by == "early_stop" else ()
    not_covered = [*(NOT_COVERED_WITH_NOISED_STATISTICS if released else NOT_COVERED)]
    if (config.candidates or 1) > 1:
        not_covered.remove(_SEARCH)
    if mechanism.unit == "example":
        not_covered.append(_CLIENTS_AS_SUCH)
    if rounds_of_others:
        not_covered.append(
            f"{rounds_of_others} noised rounds of other runs, finished or not, started in the same "
            "work directory with other settings, data or sources."
        )
    return {
        **common,
        "private": True,
        "neighbouring_relation": mechanism.relation,
        "rounds_counted": accountant.rounds,
        "stretches": [length for length in accountant.stretches if length],
        "candidates": accountant.candidates,
        "epsilon": accountant.epsilon(),
        "epsilon_of_rounds_run": of_rounds_run,
        "delta": delta,
        "target_epsilon": config.epsilon,
        "accountant": "pld",
        "epsilon_rdp": accountant.epsilon_rdp(),
        "delta_of_cut_cohorts": delta - delta_left(accountant.epsilon(), delta, accountant.lost),
        "mechanism": {
            **mechanism.describe(),
            "clip_norm": config.clip_norm,
            # (of `example` the clients that report, whose number is known)
            "denominator": None if mechanism.unit == "example" else participation.expected_reports,
            "noise_source": "operating system",
            "noise_arithmetic": "rounded" if config.rounded_noise else "float32",
            "adaptive_clip": _adaptive_clip(config, mechanism.noise_multiplier, participation),
        },
        "parts": parts,
        "epsilon_before_rounds": epsilon_of(accountant.before, delta),
        "population_budget": population_budget and dict(population_budget),
        "event": events.to_json(accountant.event),
        "assumptions": assumptions,
        "not_covered": not_covered,
    }


def _assumptions(config: PrivacyConfig, accountant: Accountant) -> list[str]:
    """What the claim of the rounds rests on."""
    mechanism = accountant.mechanism
    assumptions = [_ONE_EXAMPLE] if mechanism.unit == "example" else [_ONE_ID]
    assumptions += [_TRUSTED] if config.noises_sum else [_REPORTING, _CLIENTS_NOISE]
    assumptions.append(_ROUNDED_NOISE if config.rounded_noise else _FLOAT_NOISE)
    if mechanism.draws.fixed_places:
        assumptions.append(_PLACES)
    if mechanism.correlation is not None:
        assumptions.append(_CORRELATED)
    if accountant.candidates > 1:
        assumptions.append(_CANDIDATES.format(accountant.candidates))
    return assumptions


def _adaptive_clip(
    config: PrivacyConfig, noise_multiplier: float, participation: Participation
) -> dict[str, float] | None:
    """The two noises that noise_multiplier stands for, if the clip norm adapts."""
    adaptive = config.adaptive_clip
    if adaptive is None:
        return None
    count_noise = count_noise_of(adaptive, participation.expected_reports)
    return {
        "target_quantile": adaptive.target_quantile,
        "learning_rate": adaptive.learning_rate,
        "count_noise": count_noise,
        "value_noise_multiplier": value_noise_multiplier(noise_multiplier, count_noise),
    }


def _statistics_part(statistics: Mapping[str, Any], delta: float | None) -> dict[str, Any]:
    """What the noised statistics spent of the whole, which clients they are about.

    Args:
      statistics: the content of a private statistics.json.
      delta: to state epsilon at; by default the one that the statistics were calibrated to.
    """
    mechanism = statistics["mechanism"]
    at = mechanism["delta"] if delta is None else delta
    return {
        "what": "statistics",
        "epsilon": epsilon_of(noised_statistics.event_of(statistics), at),
        "delta": at,
        "clients": mechanism["clients_covered"],
        "mechanism": {
            key: mechanism[key]
            for key in (
                "kind",
                "noise_multiplier",
                "compositions",
                "epsilon",
                "delta",
                "max_examples_per_client",
            )
        },
    }
