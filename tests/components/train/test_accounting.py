"""Epsilon against known values, the calibration against its target, the budget's limits."""

import math

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of, gaussians, in_sequence
from privet.components.train import accounting
from privet.components.train.accounting import (
    Accountant,
    calibrate_noise,
    check_budget,
    check_delta,
    joint_noise_multiplier,
    open_account,
    plan_noise,
    value_noise_multiplier,
)
from privet.components.train.config import TrainConfig
from privet.components.train.mechanism import build_mechanism, gaussian
from privet.components.train.privacy_config import AdaptiveClipConfig, PrivacyConfig
from privet.components.train.sampling import (
    AllClients,
    FixedOrderSampler,
    PoissonSampler,
    Sampler,
)

DELTA = 1e-5


def epsilon_after(
    sampler: Sampler, noise: float, rounds: int, before: dp_accounting.DpEvent = NOTHING
) -> float:
    return epsilon_of(in_sequence(before, gaussian(sampler.draws, noise).event(rounds)), DELTA)


# N, m, rounds, noise multiplier -> epsilon by PLD under Poisson sampling, and without
# amplification (docs/privacy.md; computed once with dp-accounting 0.4.3 and by hand for q=1).
KNOWN = [
    (200, 20, 50, 1.0, 1e-5, 5.15, 54.4),
    (200, 50, 60, 1.42, 1e-5, 7.96, 37.4),
    (3400, 300, 80, 1.626, 1.3e-4, 2.00, 34.5),
]


@pytest.mark.parametrize(("n", "m", "rounds", "noise", "delta", "poisson", "plain"), KNOWN)
def test_epsilon_is_the_known_one_for_each_sampler(
    n: int, m: int, rounds: int, noise: float, delta: float, poisson: float, plain: float
) -> None:
    amplified = epsilon_of(gaussian(PoissonSampler(n, m).draws, noise).event(rounds), delta)
    unamplified = epsilon_of(gaussian(AllClients(n).draws, noise).event(rounds), delta)

    assert amplified == pytest.approx(poisson, abs=0.01)
    assert unamplified == pytest.approx(plain, abs=0.05)


def gaussian_delta(epsilon: float, noise: float) -> float:
    def below(z: float) -> float:
        return 0.5 * math.erfc(-z / math.sqrt(2))

    half = 1 / (2 * noise)
    return below(half - epsilon * noise) - math.exp(epsilon) * below(-half - epsilon * noise)


def test_full_participation_is_one_gaussian_of_all_rounds() -> None:
    # T rounds of noise z are one Gaussian mechanism of noise z / sqrt(T): 3.29 / sqrt(30) = 0.6007.
    epsilon = epsilon_after(AllClients(200), 3.29, 30)
    noise = 3.29 / math.sqrt(30)

    assert epsilon == pytest.approx(7.99, abs=0.01)
    # Balle, Wang, 2018, "Improving the Gaussian Mechanism", Theorem 8.
    assert gaussian_delta(epsilon, noise) <= DELTA < gaussian_delta(epsilon - 0.002, noise)


def test_poisson_at_probability_one_is_full_participation() -> None:
    everybody = epsilon_after(PoissonSampler(50, 50), 2.0, 5)

    assert everybody == pytest.approx(epsilon_after(AllClients(50), 2.0, 5), abs=1e-3)


@pytest.mark.parametrize(
    ("sampler", "rounds", "epsilon"),
    [
        (AllClients(200), 30, 1.0),
        (AllClients(200), 30, 4.0),
        (AllClients(200), 30, 8.0),
        (AllClients(10), 1, 2.0),
        (PoissonSampler(200, 50), 60, 2.0),
    ],
)
def test_calibrated_noise_meets_the_target_and_one_step_less_does_not(
    sampler: Sampler, rounds: int, epsilon: float
) -> None:
    noise = calibrate_noise(gaussian(sampler.draws, 1.0), rounds, epsilon, DELTA)

    assert epsilon_after(sampler, noise, rounds) <= epsilon
    assert epsilon_after(sampler, noise - 1e-3, rounds) > epsilon
    assert round(noise, 3) == pytest.approx(noise, abs=1e-12)


def test_epsilon_out_of_reach_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"no noise multiplier reaches epsilon=1e-12.* Raise eps"):
        calibrate_noise(gaussian(AllClients(10).draws, 1.0), 10, 1e-12, 1e-15)


def accounted(sampler: Sampler, noise: float, rounds: int) -> Accountant:
    accountant = Accountant(gaussian(sampler.draws, noise), DELTA)
    for _ in range(rounds):
        accountant.count_round()
    return accountant


def test_epsilon_never_falls_over_rounds_and_is_known_in_advance() -> None:
    sampler = PoissonSampler(100, 50)
    accountant = Accountant(gaussian(sampler.draws, 4.0), DELTA)
    spent = [accountant.epsilon()]
    for number in range(1, 7):
        accountant.count_round()
        spent.append(accountant.epsilon())
        assert spent[-1] == epsilon_after(sampler, 4.0, number)

    assert spent[0] == 0
    assert spent == sorted(spent)
    assert spent[-1] > spent[1] > 0


@pytest.mark.parametrize("sampler", [AllClients(100), PoissonSampler(100, 20)])
def test_renyi_bound_is_never_below(sampler: Sampler) -> None:
    accountant = accounted(sampler, 1.5, 10)

    assert accountant.epsilon() <= accountant.epsilon_rdp() < 1.5 * accountant.epsilon()


def test_rounds_one_by_one_are_the_planned_composition() -> None:
    sampler = PoissonSampler(100, 20)

    assert accounted(sampler, 1.5, 7).epsilon() == epsilon_after(sampler, 1.5, 7)


def test_accountants_that_contradict_each_other_stop_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accountant = accounted(AllClients(10), 1.0, 1)
    monkeypatch.setattr(accounting, "epsilon_of", lambda event, delta, lost: 100.0)

    with pytest.raises(PrivacyError, match=r"PLD says epsilon=100\.0, RDP, which is looser"):
        accountant.epsilon()


@pytest.mark.parametrize("delta", [0.005, 0.1])
def test_delta_that_allows_publishing_a_client_is_refused(delta: float) -> None:
    with pytest.raises(PrivacyError, match=r"below 1 / 200 clients.* Set delta below 5\.0e-03"):
        check_delta(delta, 200)
    check_delta(0.00499, 200)


STATISTICS = gaussians(12.0, 6)


def test_statistics_and_rounds_are_one_gaussian_over_all_clients() -> None:
    # Precisions add up: 6 of noise 12 and 30 of noise 5 are one of noise (6/144 + 30/25)^-1/2.
    noise = (6 / 12.0**2 + 30 / 5.0**2) ** -0.5
    epsilon = epsilon_after(AllClients(200), 5.0, 30, STATISTICS)

    assert gaussian_delta(epsilon, noise) <= DELTA < gaussian_delta(epsilon - 0.002, noise)


def test_whole_is_more_than_each_part_and_less_than_their_sum() -> None:
    sampler = PoissonSampler(200, 50)
    parts = [epsilon_of(e, DELTA) for e in (STATISTICS, gaussian(sampler.draws, 1.5).event(20))]
    whole = epsilon_after(sampler, 1.5, 20, STATISTICS)

    assert max(parts) < whole < sum(parts)


def test_accountant_starts_with_what_came_before() -> None:
    sampler = AllClients(10)
    accountant = Accountant(gaussian(sampler.draws, 4.0), DELTA, before=STATISTICS)

    assert accountant.epsilon() == epsilon_of(STATISTICS, DELTA) > 0
    for number in (1, 2):
        accountant.count_round()
        planned = in_sequence(STATISTICS, gaussian(sampler.draws, 4.0).event(number))
        assert accountant.epsilon() == epsilon_of(planned, DELTA)
    assert accountant.rounds_event == gaussians(4.0, 2)


@pytest.mark.parametrize(
    ("sampler", "share"),
    [(AllClients(200), 0.3), (AllClients(200), 0.97), (PoissonSampler(200, 50), 0.6)],
)
def test_calibration_leaves_room_for_the_statistics(sampler: Sampler, share: float) -> None:
    target = epsilon_of(STATISTICS, DELTA) / share
    noise = calibrate_noise(gaussian(sampler.draws, 1.0), 10, target, DELTA, STATISTICS)

    assert epsilon_after(sampler, noise, 10, STATISTICS) <= target
    assert epsilon_after(sampler, noise * 0.999, 10, STATISTICS) > target
    assert epsilon_after(sampler, noise, 10) < target


def test_statistics_that_spend_the_budget_are_a_config_error() -> None:
    spent = epsilon_of(STATISTICS, DELTA)
    check_budget(NOTHING, 1e-9, DELTA)
    check_budget(STATISTICS, spent + 0.01, DELTA)
    for noise in (None, 3.0):
        config = PrivacyConfig(
            mechanism="gaussian", epsilon=spent, delta=DELTA, clip_norm=1.0, noise_multiplier=noise
        )
        with pytest.raises(ConfigError, match=r"alone spend .* Raise it, or lower data\.dp_stat"):
            plan_noise(config, gaussian(AllClients(10).draws, 1.0), 5, STATISTICS)


def test_configured_noise_is_kept_and_other_noise_calibrated() -> None:
    def planned(**settings: float) -> float:
        config = PrivacyConfig(mechanism="gaussian", delta=DELTA, clip_norm=1.0, **settings)
        return plan_noise(config, gaussian(AllClients(10).draws, 1.0), 5, STATISTICS)

    assert planned(noise_multiplier=3.0) == 3.0
    assert planned(epsilon=4.0) == calibrate_noise(
        gaussian(AllClients(10).draws, 1.0), 5, 4.0, DELTA, STATISTICS
    )


def test_noise_of_values_and_counts_is_together_what_was_planned() -> None:
    value = value_noise_multiplier(1.5, count_noise=2.0)
    assert value == pytest.approx(1 / np.sqrt(1 / 1.5**2 - 1 / 4.0**2))
    both = [dp_accounting.GaussianDpEvent(value), dp_accounting.GaussianDpEvent(2 * 2.0)]
    event = dp_accounting.ComposedDpEvent(both)
    assert joint_noise_multiplier(event) == pytest.approx(1.5)
    # The accountant, told of both, says the same as of one of 1.5.
    together = epsilon_of(dp_accounting.ComposedDpEvent([event] * 20), 1e-5)
    assert together == pytest.approx(epsilon_of(gaussians(1.5, 20), 1e-5), rel=2e-3)


def test_events_that_are_not_gaussian_have_no_joint_noise() -> None:
    gaussian, other = dp_accounting.GaussianDpEvent(1.0), dp_accounting.LaplaceDpEvent(1.0)
    assert joint_noise_multiplier(other) is None
    assert joint_noise_multiplier(dp_accounting.ComposedDpEvent([gaussian, other])) is None
    assert joint_noise_multiplier(dp_accounting.NonPrivateDpEvent()) is None


def test_count_with_less_noise_than_planned_is_refused_before_training() -> None:
    config = PrivacyConfig(
        mechanism="gaussian",
        delta=1e-5,
        clip_norm=1.0,
        noise_multiplier=3.0,
        adaptive_clip=AdaptiveClipConfig(),
    )
    with pytest.raises(ConfigError, match=r"count_noise=1 is too little: twice it must be above"):
        plan_noise(config, gaussian(AllClients(20).draws, 1.0), 10)
    assert plan_noise(config, gaussian(AllClients(40).draws, 1.0), 10) == 3.0


def test_cut_cohorts_take_their_share_of_delta() -> None:
    sampler = PoissonSampler(1000, 100, max_cohort_size=160)
    accountant = accounted(sampler, 1.5, 20)
    epsilon, lost = accountant.epsilon(), 20 * sampler.draws.overflow

    assert 0 < lost < DELTA / 10
    # (1 + e^epsilon) lost is what delta must leave for the rounds themselves.
    left = DELTA - (1 + math.exp(epsilon)) * lost
    event = gaussian(sampler.draws, 1.5).event(20)
    assert epsilon_of(event, left) <= epsilon <= epsilon_of(event, left) * (1 + 1e-5)
    assert epsilon > epsilon_after(PoissonSampler(1000, 100), 1.5, 20)
    assert accountant.epsilon_rdp() > epsilon


def test_calibration_pays_for_cut_cohorts_and_says_when_it_cannot() -> None:
    capped = PoissonSampler(1000, 100, max_cohort_size=160)
    noise = calibrate_noise(gaussian(capped.draws, 1.0), 20, 2.0, DELTA)
    assert accounted(capped, noise, 20).epsilon() <= 2.0
    assert accounted(capped, noise - 1e-3, 20).epsilon() > 2.0

    tight = PoissonSampler(1000, 100, max_cohort_size=110)
    with pytest.raises(ConfigError, match=r"cut with probability .* Raise train\.sampling\.max_"):
        calibrate_noise(gaussian(tight.draws, 1.0), 20, 2.0, DELTA)
    assert accounted(tight, 1.5, 20).epsilon() == math.inf
    privacy = {"mechanism": "gaussian", "delta": DELTA, "clip_norm": 1.0, "noise_multiplier": 1.5}
    config = TrainConfig.from_mapping(
        {
            "privacy": privacy,
            "sampling": {"kind": "poisson", "cohort_size": 100, "max_cohort_size": 110},
        }
    )
    with pytest.raises(ConfigError, match=r"max_cohort_size=110 cuts .* Raise max_cohort_size"):
        open_account(config, tight.draws)


def test_repeated_round_begins_another_epoch_of_a_fixed_order() -> None:
    order = FixedOrderSampler(100, 10, seed=0)  # ten rounds an epoch
    once = Accountant(gaussian(order.draws, 2.0), DELTA, stretches=[10])
    # Rounds 6 and 7 were lost and ran again: whoever was in them took part twice.
    repeated = Accountant(gaussian(order.draws, 2.0), DELTA, stretches=[7, 5])

    assert once.epsilon() == epsilon_of(gaussians(2.0, 1), DELTA)
    assert repeated.epsilon() == epsilon_of(gaussians(2.0, 2), DELTA)
    assert once.including(10).epsilon() == epsilon_of(gaussians(2.0, 2), DELTA)
    assert repeated.rounds == 12
    # With all clients every round counts for itself, wherever stretches begin.
    everybody = Accountant(gaussian(AllClients(100).draws, 2.0), DELTA, stretches=[7, 5])
    assert everybody.epsilon() == epsilon_of(gaussians(2.0, 12), DELTA)


def test_candidates_are_all_charged() -> None:
    draws = AllClients(100).draws
    one = Accountant(gaussian(draws, 4.0), DELTA, before=STATISTICS, stretches=[5])
    three = Accountant(gaussian(draws, 4.0), DELTA, before=STATISTICS, candidates=3, stretches=[5])

    assert three.epsilon() == one.including(10).epsilon()
    assert three.rounds == 5
    noise = calibrate_noise(gaussian(draws, 1.0), 5, 3.0, DELTA, candidates=3)
    assert (
        epsilon_of(gaussians(noise, 15), DELTA)
        <= 3.0
        < epsilon_of(gaussians(noise - 1e-3, 15), DELTA)
    )


@pytest.mark.parametrize("kind", ["local", "example"])
def test_noised_statistics_do_not_add_up_with_another_relation(kind: str) -> None:
    config = PrivacyConfig.from_mapping(
        {"mechanism": kind, "delta": DELTA, "clip_norm": 1.0, "noise_multiplier": 5.0}
    )
    mechanism = build_mechanism(config, AllClients(10).draws, noise_multiplier=5.0)
    assert plan_noise(config, mechanism, 5) == 5.0
    with pytest.raises(ConfigError, match=rf"mechanism={kind} protects by .* Leave data\.dp_stat"):
        plan_noise(config, mechanism, 5, STATISTICS)


def test_delta_is_held_against_the_number_of_examples_where_they_are_protected() -> None:
    config = TrainConfig.from_mapping(
        {
            "privacy": {
                "mechanism": "example",
                "delta": 1e-3,
                "clip_norm": 1.0,
                "noise_multiplier": 5.0,
            }
        }
    )
    open_account(config, AllClients(10).draws, examples=999)
    with pytest.raises(PrivacyError, match=r"below 1 / 1000 examples"):
        open_account(config, AllClients(10).draws, examples=1000)
