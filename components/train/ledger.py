"""The ledger of a run: what it spent on which clients, under which assumptions, and what not.

Parts that concern the same clients compose in sequence: `epsilon` covers all of them together
and is less than the sum of the parts' own. A held-out client is in the statistics' part only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from privet.components.shared import noised_statistics
from privet.components.shared.privacy_loss import epsilon_of
from privet.components.train.accounting import (
    Accountant,
    count_noise_of,
    round_event,
    value_noise_multiplier,
)
from privet.components.train.participation import Participation
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import Sampler

_EVALUATION = (
    "Evaluation on the eval clients (accuracy over rounds, per-client metrics, the gate's "
    "verdict). These clients do not train, and epsilon does not cover releasing their metrics."
)
_OTHER_RUNS = (
    "Other runs on the same clients: choosing settings by looking at results of several private "
    "runs spends the sum of their budgets."
)
_NUMBER_OF_CLIENTS = "The number of training clients, which is treated as public."
NOT_COVERED = (
    _EVALUATION,
    "Ingestion statistics (counts of clients, examples and labels). They are exact.",
    _OTHER_RUNS,
    _NUMBER_OF_CLIENTS,
)
NOT_COVERED_WITH_NOISED_STATISTICS = (
    _EVALUATION,
    "Counts of refused rows and of left out clients (rejects/). They are exact.",
    _OTHER_RUNS,
    "Other ingestions of the same clients: each one (a new span, a changed setting) releases "
    "statistics anew. Only those of this run's examples are in this ledger.",
    _NUMBER_OF_CLIENTS,
)
ASSUMPTIONS = (
    "The aggregator is trusted: it sees each client's clipped update before noise is added.",
    "One client id is one user, and a user's data are under one id only.",
    "Gaussian noise is drawn in float32 by TensorFlow's generator, seeded by the operating "
    "system; attacks on floating-point noise (Mironov, 2012) are not modelled.",
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
    sampler: Sampler,
    participation: Participation,
    accountant: Accountant | None,
    *,
    noise_multiplier: float,
    rounds: int,
    rounds_counted: int,
    rounds_allowed: int,
    rounds_planned: int,
    ended_by: Literal["rounds", "budget", "early_stop"],
    public_eval: bool,
    epsilon_by_round: Sequence[float | None],
    statistics: Mapping[str, Any] | None = None,
    rounds_of_others: int = 0,
) -> dict[str, Any]:
    """The content of privacy_ledger.json.

    Args:
      config: what was asked for.
      sampler: the sampler that drew the cohorts.
      participation: who of them reported.
      accountant: what composed the rounds; None for a run without privacy.
      noise_multiplier: of the mechanism that ran; ignored without privacy.
      rounds: rounds that the model went through.
      rounds_counted: noised rounds that were started, which the accountant composed: `rounds`,
        and those whose result was lost.
      rounds_allowed: rounds that might have been counted without early stopping, and are claimed
        after it.
      rounds_planned: rounds that were configured.
      ended_by: what ended training.
      public_eval: whether the eval split is said to be public.
      epsilon_by_round: epsilon after each round, noised statistics included; None where it was
        not computed.
      statistics: the content of statistics.json; None where there is none.
      rounds_of_others: noised rounds that other runs have started in the same work directory.
    """
    released = statistics if statistics and statistics.get("private") is True else None
    common: dict[str, Any] = {
        "schema": 1,
        "unit": "client",
        "trust_model": "central: the aggregator is trusted with individual updates",
        "sampling": participation.describe(),
        "rounds": rounds,
        "rounds_planned": rounds_planned,
        "ended_by": ended_by,
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
        one = round_event(sampler, noise_multiplier)
        accountant = accountant.including(one, rounds_allowed - rounds_counted)
        rounds_counted = rounds_allowed
    parts = [_statistics_part(released, delta)] if released else []
    parts.append(
        {
            "what": "training",
            "epsilon": epsilon_of(accountant.rounds_event, delta),
            "delta": delta,
            "clients": ["train"],
            "rounds": rounds_counted,
        }
    )
    assumptions = [*ASSUMPTIONS]
    assumptions += STATISTICS_ASSUMPTIONS if released else ()
    assumptions += PUBLIC_EVAL_ASSUMPTIONS if public_eval else ()
    assumptions += EARLY_STOP_ASSUMPTIONS if ended_by == "early_stop" else ()
    not_covered = [*(NOT_COVERED_WITH_NOISED_STATISTICS if released else NOT_COVERED)]
    if rounds_of_others:
        not_covered.append(
            f"{rounds_of_others} noised rounds of other runs, finished or not, started in the same "
            "work directory with other settings, data or sources."
        )
    return {
        **common,
        "private": True,
        "neighbouring_relation": "add_or_remove_one_client",
        "rounds_counted": rounds_counted,
        "epsilon": accountant.epsilon(),
        "epsilon_of_rounds_run": of_rounds_run,
        "delta": delta,
        "target_epsilon": config.epsilon,
        "accountant": "pld",
        "epsilon_rdp": accountant.epsilon_rdp(),
        "mechanism": {
            "kind": "gaussian",
            "clip_norm": config.clip_norm,
            "noise_multiplier": noise_multiplier,
            "denominator": participation.expected_reports,
            "noise_source": "operating system",
            "adaptive_clip": _adaptive_clip(config, noise_multiplier, participation),
        },
        "parts": parts,
        "epsilon_before_rounds": epsilon_of(accountant.before, delta),
        "dp_event": repr(accountant.event),
        "assumptions": assumptions,
        "not_covered": not_covered,
    }


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
