"""What the rounds have spent: dp_accounting over the events of the rounds that really ran.

Epsilon is computed by privacy loss distributions (see shared/privacy_loss.py) and checked against
Rényi DP, an independent upper bound. Neighbouring data sets differ in one whole client. Noised
statistics of ingestion concern the same clients, so they are composed before the first round.
"""

import math

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
from privet.components.train.privacy_config import AdaptiveClipConfig, PrivacyConfig
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

    def including(self, event: dp_accounting.DpEvent, rounds: int) -> "Accountant":
        """Another account, on which are so many further rounds."""
        other = Accountant(self.delta, self.before)
        other._rounds.compose(self._rounds.build())
        other._rounds.compose(event, rounds)
        return other

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


def round_event(sampler: Sampler, noise_multiplier: float) -> dp_accounting.DpEvent:
    """The event of one Gaussian round under the sampler."""
    return sampler.account(dp_accounting.GaussianDpEvent(noise_multiplier))


def rounds_event(
    sampler: Sampler,
    noise_multiplier: float,
    rounds: int,
    before: dp_accounting.DpEvent = NOTHING,
) -> dp_accounting.DpEvent:
    """The event of `rounds` Gaussian rounds under the sampler, after what came before."""
    one = round_event(sampler, noise_multiplier)
    return in_sequence(before, dp_accounting.SelfComposedDpEvent(one, rounds))


def joint_noise_multiplier(event: dp_accounting.DpEvent) -> float | None:
    """The noise multiplier of the one Gaussian mechanism that Gaussian ones on a cohort equal.

    Several Gaussian mechanisms on the same clients are one on the vector of their results, each in
    units of its own noise, to which a client's contribution has the norm
    sqrt(sum of noise_multiplier**-2) (Andrew, Thakkar, McMahan, Ramaswamy, 2021, "Differentially
    Private Learning with Adaptive Clipping", theorem 1).

    >>> two = [dp_accounting.GaussianDpEvent(3.0), dp_accounting.GaussianDpEvent(4.0)]
    >>> round(joint_noise_multiplier(dp_accounting.ComposedDpEvent(two)), 9)
    2.4

    Returns:
      None of an event that is not made of Gaussian mechanisms.
    """
    parts = event.events if isinstance(event, dp_accounting.ComposedDpEvent) else [event]
    if not all(isinstance(part, dp_accounting.GaussianDpEvent) for part in parts):
        return None
    noises = [float(part.noise_multiplier) for part in parts]
    return 0.0 if 0.0 in noises else 1 / math.hypot(*(1 / noise for noise in noises))


def value_noise_multiplier(noise_multiplier: float, count_noise: float) -> float:
    """The noise on updates that makes both noises together worth noise_multiplier.

    Args:
      noise_multiplier: to reach; see joint_noise_multiplier.
      count_noise: standard deviation on the count, to which a client adds 1/2 or takes it away.

    Raises:
      ConfigError: the count alone has less noise than that.
    """
    if noise_multiplier == 0:
        return 0.0
    left = noise_multiplier**-2 - (2 * count_noise) ** -2
    if left <= 0:
        raise ConfigError(
            f"train.privacy.adaptive_clip.count_noise={count_noise:.4g} is too little: twice it "
            f"must be above noise_multiplier={noise_multiplier:.4g}, or the count of clipped "
            "updates alone spends the budget. Raise it, or the cohort of which it is a twentieth."
        )
    return float(left**-0.5)


def count_noise_of(config: AdaptiveClipConfig, expected_reports: float) -> float:
    """Standard deviation of the noise on the count of updates within the clip norm."""
    return expected_reports / 20 if config.count_noise is None else config.count_noise


def plan_noise(
    config: PrivacyConfig,
    sampler: Sampler,
    rounds: int,
    before: dp_accounting.DpEvent = NOTHING,
    *,
    expected_reports: float | None = None,
) -> float:
    """The noise multiplier of a private run: the configured one, or one calibrated to epsilon.

    Args:
      config: with a mechanism.
      sampler: of the cohorts.
      rounds: that are to fit into the budget.
      before: what ingestion has released about the same clients.
      expected_reports: mean number of clients that report in a round, if some of a cohort do not.

    Raises:
      PrivacyError: delta is too large for so few clients.
      ConfigError: the budget is spent before training, no noise keeps within it, or the count of
        adaptive clipping has too little.
    """
    assert config.delta is not None  # PrivacyConfig checks it
    check_delta(config.delta, sampler.population)
    if config.epsilon is not None:
        check_budget(before, config.epsilon, config.delta)
    noise = config.noise_multiplier
    if noise is None:
        assert config.epsilon is not None
        noise = calibrate_noise(sampler, rounds, config.epsilon, config.delta, before)
    if config.adaptive_clip is not None:
        reports = sampler.expected_cohort if expected_reports is None else expected_reports
        value_noise_multiplier(noise, count_noise_of(config.adaptive_clip, reports))
    return noise


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
