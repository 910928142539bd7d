"""What the rounds have spent: dp_accounting over the events of the rounds that really ran.

Epsilon is computed by privacy loss distributions (see shared/privacy_loss.py) and checked against
Rényi DP, an independent upper bound. Neighbouring data sets differ in one whole client. Noised
statistics of ingestion concern the same clients, so they are composed before the first round.
"""

import dp_accounting
from dp_accounting import rdp

from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.privacy_loss import (
    NOTHING,
    RELATION,
    epsilon_of,
    in_sequence,
    least_noise,
)
from privet.components.train.config import PrivacyConfig
from privet.components.train.sampling import Sampler


class Accountant:
    """Composes the events of rounds and says what they spent, as epsilon at `delta`.

    Epsilon is computed anew from the whole composition, never added up: equal rounds become one
    self-composition, for which PLD has its tightest (and quickest) form.

    Attributes:
      delta: probability of failure that epsilon is stated at.
      before: what was released about the same clients before the first round.
    """

    def __init__(self, delta: float, before: dp_accounting.DpEvent = NOTHING):
        self.delta = delta
        self.before = before
        self._rounds = dp_accounting.DpEventBuilder()

    def compose(self, event: dp_accounting.DpEvent) -> None:
        """Records one round."""
        self._rounds.compose(event)

    @property
    def event(self) -> dp_accounting.DpEvent:
        """The composition of what came before and of all rounds."""
        return in_sequence(self.before, self._rounds.build())

    @property
    def rounds_event(self) -> dp_accounting.DpEvent:
        """The composition of the rounds alone."""
        return self._rounds.build()

    def epsilon(self) -> float:
        """Epsilon of everything so far at the accountant's delta.

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
        accountant = rdp.RdpAccountant(neighboring_relation=RELATION)
        return accountant.compose(self.event).get_epsilon(self.delta)


def rounds_event(
    sampler: Sampler,
    noise_multiplier: float,
    rounds: int,
    before: dp_accounting.DpEvent = NOTHING,
) -> dp_accounting.DpEvent:
    """The event of `rounds` Gaussian rounds under the sampler, after what came before."""
    one = sampler.account(dp_accounting.GaussianDpEvent(noise_multiplier))
    return in_sequence(before, dp_accounting.SelfComposedDpEvent(one, rounds))


def plan_noise(
    config: PrivacyConfig,
    sampler: Sampler,
    rounds: int,
    before: dp_accounting.DpEvent = NOTHING,
) -> float:
    """The noise multiplier of a private run: the configured one, or one calibrated to epsilon.

    Args:
      config: with a mechanism.
      sampler: of the cohorts.
      rounds: that are to fit into the budget.
      before: what ingestion has released about the same clients.

    Raises:
      PrivacyError: delta is too large for so few clients.
      ConfigError: the budget is spent before training, or no noise keeps within it.
    """
    assert config.delta is not None  # PrivacyConfig checks it
    check_delta(config.delta, sampler.population)
    if config.epsilon is not None:
        check_budget(before, config.epsilon, config.delta)
    if config.noise_multiplier is not None:
        return config.noise_multiplier
    assert config.epsilon is not None
    return calibrate_noise(sampler, rounds, config.epsilon, config.delta, before)


def calibrate_noise(
    sampler: Sampler,
    rounds: int,
    epsilon: float,
    delta: float,
    before: dp_accounting.DpEvent = NOTHING,
) -> float:
    """The least noise multiplier (on a grid) that keeps `rounds` rounds within epsilon.

    Args:
      before: what was spent on the same clients already; epsilon covers both.

    Raises:
      ConfigError: no noise multiplier reaches the target.
    """
    return least_noise(
        lambda noise: rounds_event(sampler, noise, rounds),
        epsilon,
        delta,
        before=before,
        advice="Raise epsilon or delta, or lower rounds.",
    )


def check_budget(before: dp_accounting.DpEvent, epsilon: float, delta: float) -> None:
    """Refuses a budget that the statistics of ingestion have spent already.

    Raises:
      ConfigError: nothing is left for training.
    """
    spent = epsilon_of(before, delta)
    if spent >= epsilon:
        raise ConfigError(
            f"train.privacy.epsilon={epsilon} covers the noised statistics of ingestion too, and "
            f"they alone spend {spent:.4g} at delta={delta}. Raise it, or lower "
            "data.dp_statistics.epsilon."
        )


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
