"""What the rounds have spent: dp_accounting over the events of the rounds that really ran.

Epsilon is computed by privacy loss distributions (PLD, numerically exact for these mechanisms,
always rounded up: Koskela, Jälkö, Honkela, 2020; Doroshenko et al., 2022) and checked against
Rényi DP, an independent upper bound. Neighbouring data sets differ in one whole client.
"""

import math
from collections.abc import Sequence
from typing import Any

import dp_accounting
from dp_accounting import pld, rdp

from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.train.config import PrivacyConfig
from privet.components.train.sampling import Sampler

_GRID = 1e-3  # noise multipliers are rounded up to this grid: a stated value is an exact one
_RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE

NOT_COVERED = (
    "Evaluation on the eval clients (accuracy over rounds, per-client metrics, the gate's "
    "verdict). These clients do not train, and epsilon does not cover releasing their metrics.",
    "Ingestion statistics (counts of clients, examples and labels). They are exact.",
    "Other runs on the same clients: choosing settings by looking at results of several private "
    "runs spends the sum of their budgets.",
    "The number of training clients, which is treated as public.",
)
ASSUMPTIONS = (
    "The aggregator is trusted: it sees each client's clipped update before noise is added.",
    "One client id is one user, and a user's data are under one id only.",
    "Gaussian noise is drawn in float32 by TensorFlow's generator, seeded by the operating "
    "system; attacks on floating-point noise (Mironov, 2012) are not modelled.",
)


class Accountant:
    """Composes the events of rounds and says what they spent, as epsilon at `delta`.

    Epsilon is computed anew from the whole composition, never added up: equal rounds become one
    self-composition, for which PLD has its tightest (and quickest) form.
    """

    def __init__(self, delta: float):
        self.delta = delta
        self._rounds = dp_accounting.DpEventBuilder()

    def compose(self, event: dp_accounting.DpEvent) -> None:
        """Records one round."""
        self._rounds.compose(event)

    @property
    def event(self) -> dp_accounting.DpEvent:
        """The composition of all rounds."""
        return self._rounds.build()

    def epsilon(self) -> float:
        """Epsilon of all rounds so far at the accountant's delta.

        Raises:
          PrivacyError: the two accountants contradict each other.
        """
        tight, loose = epsilon_of(self.event, self.delta), self.epsilon_rdp()
        if tight > loose * 1.01 + 1e-3:  # PLD is the tighter of two upper bounds
            raise PrivacyError(
                f"the accountants disagree: PLD says epsilon={tight}, RDP, which is looser, "
                f"says {loose}. No claim is made; please report this configuration."
            )
        return tight

    def epsilon_rdp(self) -> float:
        """The same by Rényi DP: an independent, looser bound."""
        accountant = rdp.RdpAccountant(neighboring_relation=_RELATION)
        return accountant.compose(self.event).get_epsilon(self.delta)


def epsilon_of(event: dp_accounting.DpEvent, delta: float) -> float:
    """Epsilon of an event by PLD."""
    return pld.PLDAccountant(_RELATION).compose(event).get_epsilon(delta)


def rounds_event(sampler: Sampler, noise_multiplier: float, rounds: int) -> dp_accounting.DpEvent:
    """The event of `rounds` Gaussian rounds under the sampler."""
    one = sampler.account(dp_accounting.GaussianDpEvent(noise_multiplier))
    return dp_accounting.SelfComposedDpEvent(one, rounds)


def calibrate_noise(sampler: Sampler, rounds: int, epsilon: float, delta: float) -> float:
    """The least noise multiplier (on a grid) that keeps `rounds` rounds within epsilon.

    Rényi DP, which is quick and looser, brackets the answer from above; PLD, which is slow at
    noise far too small, then only looks close by.

    Raises:
      ConfigError: no noise multiplier reaches the target.
    """

    def event(noise: float) -> dp_accounting.DpEvent:
        return rounds_event(sampler, noise, rounds)

    try:
        enough = dp_accounting.calibrate_dp_mechanism(
            lambda: rdp.RdpAccountant(neighboring_relation=_RELATION),
            event,
            epsilon,
            delta,
            tol=0.01,
        )
        too_little = enough * 0.8
        while epsilon_of(event(too_little), delta) <= epsilon:
            enough, too_little = too_little, too_little * 0.8
        found = dp_accounting.calibrate_dp_mechanism(
            lambda: pld.PLDAccountant(_RELATION),
            event,
            epsilon,
            delta,
            dp_accounting.ExplicitBracketInterval(too_little, enough),
            tol=_GRID / 4,
        )
    except (dp_accounting.mechanism_calibration.NoBracketIntervalFoundError, ValueError) as error:
        raise ConfigError(
            f"no noise multiplier reaches epsilon={epsilon} at delta={delta} in {rounds} rounds "
            f"({error}). Raise epsilon or delta, or lower rounds."
        ) from error
    steps = math.ceil(found / _GRID)
    while epsilon_of(event(steps * _GRID), delta) > epsilon:
        steps += 1  # the search meets its target only up to its tolerance
    return steps * _GRID


def check_delta(delta: float, clients: int) -> None:
    """Refuses a delta that would allow exposing one client outright.

    Raises:
      PrivacyError: delta >= 1 / clients.
    """
    if delta * clients >= 1:
        raise PrivacyError(
            f"train.privacy.delta={delta} is not below 1 / {clients} clients: a mechanism that "
            f"publishes one client in full would satisfy it. Set delta below {1 / clients:.1e}."
        )


def write_ledger(
    config: PrivacyConfig,
    sampler: Sampler,
    accountant: Accountant | None,
    *,
    noise_multiplier: float,
    rounds: int,
    rounds_planned: int,
    epsilon_by_round: Sequence[float],
) -> dict[str, Any]:
    """The content of privacy_ledger.json.

    Args:
      config: what was asked for.
      sampler: the sampler that drew the cohorts.
      accountant: what composed the rounds; None for a run without privacy.
      noise_multiplier: of the mechanism that ran; ignored without privacy.
      rounds: rounds that ran.
      rounds_planned: rounds that were configured.
      epsilon_by_round: epsilon after each round.
    """
    common = {
        "schema": 1,
        "unit": "client",
        "trust_model": "central: the aggregator is trusted with individual updates",
        "sampling": sampler.describe(),
        "rounds": rounds,
        "rounds_planned": rounds_planned,
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
            "assumptions": [],
            "not_covered": ["Everything: this model carries no privacy guarantee."],
        }
    return {
        **common,
        "private": True,
        "neighbouring_relation": "add_or_remove_one_client",
        "epsilon": accountant.epsilon(),
        "delta": config.delta,
        "target_epsilon": config.epsilon,
        "accountant": "pld",
        "epsilon_rdp": accountant.epsilon_rdp(),
        "mechanism": {
            "kind": "gaussian",
            "clip_norm": config.clip_norm,
            "noise_multiplier": noise_multiplier,
            "denominator": sampler.expected_cohort,
            "noise_source": "operating system",
        },
        "dp_event": repr(accountant.event),
        "assumptions": list(ASSUMPTIONS),
        "not_covered": list(NOT_COVERED),
    }
