"""What the rounds have spent: dp_accounting over the rounds that really ran.

Epsilon is computed by privacy loss distributions (see shared/privacy_loss.py) and checked against
Rényi DP, an independent upper bound. Noised statistics of ingestion concern the same clients, so
they are composed before the first round.
"""

import dataclasses
import math

import dp_accounting

from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.privacy_loss import (
    NOTHING,
    epsilon_by_rdp,
    epsilon_of,
    in_sequence,
    least_noise,
)
from privet.components.train.config import TrainConfig
from privet.components.train.mechanism import Mechanism, build_mechanism
from privet.components.train.privacy_config import AdaptiveClipConfig, PrivacyConfig
from privet.components.train.sampling import Draws


@dataclasses.dataclass
class Accountant:
    """Counts rounds of a mechanism and says what they spent, as epsilon at `delta`.

    Epsilon is computed anew from the whole composition, never added up: equal rounds become one
    self-composition, for which PLD has its tightest (and quickest) form.

    Rounds are counted in stretches. A round that a kill cut short may have been seen, and counts;
    when it is run again, the pattern by which a client takes part once an epoch begins anew, and
    so does noise that is correlated over rounds: that is another stretch.

    Attributes:
      mechanism: of a round.
      delta: probability of failure that epsilon is stated at.
      budget: epsilon not to exceed, or None.
      before: what was released about the same clients before the first round.
      candidates: how many runs like this one are charged.
      stretches: numbers of rounds.
    """

    mechanism: Mechanism
    delta: float
    budget: float | None = None
    before: dp_accounting.DpEvent = NOTHING
    candidates: int = 1
    stretches: list[int] = dataclasses.field(default_factory=list)

    def begin_stretch(self) -> None:
        """The following rounds do not continue those before."""
        self.stretches.append(0)

    def count_round(self) -> None:
        """Records one round of the running stretch."""
        if not self.stretches:
            self.begin_stretch()
        self.stretches[-1] += 1

    def including(self, rounds: int) -> "Accountant":
        """Another account, on which are so many further rounds of the running stretch."""
        *earlier, last = self.stretches or [0]
        return dataclasses.replace(self, stretches=[*earlier, last + rounds])

    @property
    def rounds(self) -> int:
        """How many were counted."""
        return sum(self.stretches)

    @property
    def rounds_event(self) -> dp_accounting.DpEvent:
        """The composition of the rounds alone, of all candidates."""
        whole = self.stretches if self.mechanism.stretches_matter else [self.rounds]
        event = in_sequence(*(self.mechanism.event(rounds) for rounds in whole if rounds))
        if self.candidates == 1 or event == NOTHING:
            return event
        return in_sequence(*([event] * self.candidates))

    @property
    def event(self) -> dp_accounting.DpEvent:
        """The composition of what came before and of all rounds."""
        return in_sequence(self.before, self.rounds_event)

    @property
    def lost(self) -> float:
        """Chance of any round to have been another mechanism than its event says."""
        return self.mechanism.draws.overflow * self.rounds * self.candidates

    def epsilon(self) -> float:
        """Epsilon of everything so far at the accountant's delta.

        Raises:
          PrivacyError: the two accountants contradict each other.
        """
        tight, loose = self.epsilon_pld(), self.epsilon_rdp()
        if tight > loose * 1.01 + 1e-3:  # PLD is the tighter of two upper bounds
            raise PrivacyError(
                f"the accountants disagree: PLD says epsilon={tight}, RDP, which is looser, "
                f"says {loose}. No claim is made; please report this configuration."
            )
        return tight

    def epsilon_pld(self) -> float:
        """By privacy loss distributions alone, unchecked."""
        return epsilon_of(self.event, self.delta, self.lost)

    def epsilon_rdp(self) -> float:
        """The same by Rényi DP: an independent, looser bound."""
        return epsilon_by_rdp(self.event, self.delta, self.lost)


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


def open_account(
    config: TrainConfig,
    draws: Draws,
    before: dp_accounting.DpEvent = NOTHING,
    *,
    examples: int | None = None,
    expected_reports: float | None = None,
) -> Accountant:
    """The account of a private run before its first round, the noise calibrated unless given.

    Args:
      config: settings, with a mechanism.
      draws: of the cohorts.
      before, expected_reports: see plan_noise.
      examples: of all clients, if it is known and examples are protected.

    Raises:
      ConfigError, PrivacyError: see plan_noise.
    """
    privacy = config.privacy
    assert privacy.delta is not None  # PrivacyConfig checks it
    mechanism = build_mechanism(
        privacy, draws, noise_multiplier=1.0, momentum=config.server_optimizer.momentum
    )
    noise = plan_noise(
        privacy,
        mechanism,
        config.rounds,
        before,
        units=examples if mechanism.unit == "example" else None,
        expected_reports=expected_reports,
    )
    account = Accountant(
        mechanism.with_noise(noise),
        privacy.delta,
        budget=privacy.epsilon,
        before=before,
        candidates=privacy.candidates or 1,
    )
    if draws.overflow and math.isinf(account.including(config.rounds).epsilon_rdp()):
        raise ConfigError(
            f"train.sampling.max_cohort_size={config.sampling.max_cohort_size} cuts a round's "
            f"cohort with probability {draws.overflow:.2g}, for which delta={privacy.delta} does "
            "not suffice. Raise max_cohort_size."
        )
    return account


def plan_noise(
    config: PrivacyConfig,
    mechanism: Mechanism,
    rounds: int,
    before: dp_accounting.DpEvent = NOTHING,
    *,
    units: int | None = None,
    expected_reports: float | None = None,
) -> float:
    """The noise multiplier of a private run: the configured one, or one calibrated to epsilon.

    Args:
      config: with a mechanism.
      mechanism: built from it; its own noise is not looked at.
      rounds: that are to fit into the budget.
      before: what ingestion has released about the same clients.
      units: how many clients (by default) or examples are protected.
      expected_reports: mean number of clients that report in a round, if some of a cohort do not.

    Raises:
      PrivacyError: delta is too large for so few of them.
      ConfigError: the budget is spent before training, no noise keeps within it, or the count of
        adaptive clipping has too little.
    """
    assert config.delta is not None  # PrivacyConfig checks it
    draws = mechanism.draws
    protected = draws.clients if units is None else units
    check_delta(config.delta, protected, mechanism.unit)
    if config.population_budget is not None:
        check_delta(
            config.population_budget.delta, protected, mechanism.unit, of="population_budget.delta"
        )
    if before != NOTHING and mechanism.kind in ("local", "example"):
        raise ConfigError(
            f"train.privacy.mechanism={mechanism.kind} protects by the relation "
            f"{mechanism.relation}, but data.dp_statistics were noised for one client more or less "
            "by a trusted aggregator. Leave data.dp_statistics out, or set mechanism: gaussian."
        )
    if config.epsilon is not None:
        check_budget(before, config.epsilon, config.delta)
    noise = config.noise_multiplier
    if noise is None:
        assert config.epsilon is not None
        noise = calibrate_noise(
            mechanism,
            rounds,
            config.epsilon,
            config.delta,
            before,
            candidates=config.candidates or 1,
        )
    if config.adaptive_clip is not None:
        reports = draws.expected_cohort if expected_reports is None else expected_reports
        value_noise_multiplier(noise, count_noise_of(config.adaptive_clip, reports))
    return noise


def calibrate_noise(
    mechanism: Mechanism,
    rounds: int,
    epsilon: float,
    delta: float,
    before: dp_accounting.DpEvent = NOTHING,
    *,
    candidates: int = 1,
) -> float:
    """The least noise multiplier (on a grid) that keeps `rounds` rounds within epsilon.

    Args:
      before: what was spent on the same clients already; epsilon covers both.
      candidates: how many such runs epsilon covers.

    Raises:
      ConfigError: no noise multiplier reaches the target.
    """

    def account(noise: float) -> Accountant:
        return Accountant(
            mechanism.with_noise(noise), delta, candidates=candidates, stretches=[rounds]
        )

    return least_noise(
        lambda noise: account(noise).rounds_event,
        epsilon,
        delta,
        before=before,
        lost=account(1.0).lost,
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


def check_delta(delta: float, units: int, unit: str = "client", of: str = "delta") -> None:
    """Refuses a delta that would allow exposing one client (or example) outright.

    Args:
      delta: to check.
      units: how many are protected.
      unit: what they are.
      of: the setting within train.privacy.

    Raises:
      PrivacyError: delta >= 1 / units.
    """
    if delta * units >= 1:
        raise PrivacyError(
            f"train.privacy.{of}={delta} is not below 1 / {units} {unit}s: a mechanism that "
            f"publishes one {unit} in full would satisfy it. Set delta below {1 / units:.1e}."
        )
