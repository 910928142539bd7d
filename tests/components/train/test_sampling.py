"""Samplers: what they draw is what they tell the accountant."""

import math

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.mechanism import gaussian
from privet.components.train.privacy_config import SamplingConfig
from privet.components.train.sampling import (
    AllClients,
    FixedOrderSampler,
    FixedSizeSampler,
    PoissonSampler,
    Sampler,
    build_sampler,
    describe,
)

CLIENTS = 1000
ROUNDS = 400
POISSON = SamplingConfig(kind="poisson", cohort_size=100)

SAMPLERS = [
    AllClients(103),
    PoissonSampler(103, 10),
    PoissonSampler(103, 10, max_cohort_size=12),
    FixedSizeSampler(103, 10),
    FixedOrderSampler(103, 10, seed=0),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_every_sampler_keeps_to_its_own_words(sampler: Sampler) -> None:
    draws = sampler.draws
    cohorts = [sampler.draw(number) for number in range(1, 201)]
    last: dict[int, int] = {}
    for number, cohort in enumerate(cohorts):
        assert cohort.dtype == np.int64
        assert np.all(np.diff(cohort) > 0)  # ascending, none twice
        assert len(cohort) == 0 or (cohort[0] >= 0 and cohort[-1] < draws.clients == 103)
        for client in cohort.tolist():
            assert number - last.get(client, -1000) >= draws.rounds_between
            last[client] = number
    sizes = [len(cohort) for cohort in cohorts]
    assert abs(np.mean(sizes) - draws.expected_cohort) < 1.5  # 6 standard deviations of poisson
    assert (draws.probability is not None) == isinstance(sampler, PoissonSampler)
    # Amplification is in the event if, and only if, coins are flipped.
    amplified = "PoissonSampled" in repr(gaussian(draws, 1.5).event(7))
    assert amplified == describe(draws)["amplification"] == isinstance(sampler, PoissonSampler)


@pytest.mark.parametrize("private", [True, False])
def test_every_client_is_drawn_at_the_rate_that_is_accounted_for(private: bool) -> None:
    sampler = build_sampler(POISSON, CLIENTS, private=private, seed=0)
    event = gaussian(sampler.draws, 1.5).event(1)
    assert isinstance(event, dp_accounting.SelfComposedDpEvent)
    assert isinstance(event.event, dp_accounting.PoissonSampledDpEvent)
    p = event.event.sampling_probability
    counts = np.zeros(CLIENTS)
    for number in range(1, ROUNDS + 1):
        counts[sampler.draw(number)] += 1

    assert p == 0.1
    assert event.event.event == dp_accounting.GaussianDpEvent(1.5)
    assert abs(counts.sum() - p * 400_000) < 6 * np.sqrt(400_000 * p * (1 - p))
    assert np.abs(counts - p * ROUNDS).max() < 7 * np.sqrt(ROUNDS * p * (1 - p))


def test_cohort_sizes_vary_as_independent_coins_do() -> None:
    sampler = build_sampler(POISSON, CLIENTS, private=True, seed=0)
    sizes = [len(sampler.draw(1)) for _ in range(2000)]

    # Binomial: variance 90; a fixed-size draw, accounted as Poisson, would have 0.
    assert abs(np.var(sizes) - 90) < 6 * 90 * np.sqrt(2 / 2000)


def test_cut_cohorts_are_as_rare_as_the_account_says() -> None:
    sampler = PoissonSampler(10, 5, max_cohort_size=7)
    # By hand, for one client more than there are: P[Binomial(11, 1/2) > 7].
    expected = sum(math.comb(11, k) for k in range(8, 12)) / 2**11
    assert sampler.draws.overflow == pytest.approx(expected)

    sizes = [len(sampler.draw(1)) for _ in range(5000)]
    cut = sum(math.comb(10, k) for k in range(7, 11)) / 2**10  # 7 coins, or cut to 7
    assert max(sizes) == 7
    assert abs(sizes.count(7) / 5000 - cut) < 6 * np.sqrt(cut / 5000)


def test_of_a_cut_cohort_every_client_is_as_likely_to_stay() -> None:
    sampler = PoissonSampler(6, 6, max_cohort_size=3)
    counts = np.zeros(6)
    for _ in range(4000):
        counts[sampler.draw(1)] += 1
    assert np.abs(counts - 2000).max() < 6 * np.sqrt(1000)


def test_fixed_size_is_uniform_and_of_that_size() -> None:
    sampler = build_sampler(
        SamplingConfig(kind="fixed_size", cohort_size=3), 10, private=True, seed=0
    )
    counts = np.zeros(10)
    for number in range(4000):
        cohort = sampler.draw(number)
        assert len(cohort) == 3
        counts[cohort] += 1
    assert np.abs(counts - 1200).max() < 6 * np.sqrt(4000 * 0.3 * 0.7)


def test_fixed_order_visits_everybody_once_an_epoch_in_the_same_order() -> None:
    sampler = FixedOrderSampler(10, 4, seed=1)  # three groups: of 4, 3 and 3
    epoch = [sampler.draw(number).tolist() for number in (1, 2, 3)]

    assert sorted(map(len, epoch)) == [3, 3, 4]
    assert sorted(client for cohort in epoch for client in cohort) == list(range(10))
    assert [sampler.draw(number).tolist() for number in (4, 5, 6)] == epoch
    assert sampler.draws.rounds_between == 3
    assert sampler.draws.expected_cohort == pytest.approx(10 / 3)
    assert [sampler.draws.participations(rounds) for rounds in (0, 1, 3, 4, 7)] == [0, 1, 1, 2, 3]
    assert epoch != [FixedOrderSampler(10, 4, seed=2).draw(number).tolist() for number in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["poisson", "fixed_size"])
def test_private_draws_never_repeat(kind: str) -> None:
    config = SamplingConfig.from_mapping({"kind": kind, "cohort_size": 100})
    sampler = build_sampler(config, CLIENTS, private=True, seed=7)

    assert sampler.draw(1).tolist() != sampler.draw(1).tolist()
    assert "seed=7" not in repr(sampler)


@pytest.mark.parametrize("kind", ["poisson", "fixed_size"])
def test_draws_without_privacy_repeat_and_differ_between_rounds_and_seeds(kind: str) -> None:
    config = SamplingConfig.from_mapping({"kind": kind, "cohort_size": 100})
    one, again, other = (
        build_sampler(config, CLIENTS, private=False, seed=seed) for seed in (7, 7, 8)
    )

    assert one.draw(1).tolist() == again.draw(1).tolist()
    assert one.draw(1).tolist() != one.draw(2).tolist()
    assert one.draw(1).tolist() != other.draw(1).tolist()


def test_draw_of_everybody_and_of_nobody() -> None:
    assert PoissonSampler(4, 4).draw(1).tolist() == [0, 1, 2, 3]
    assert any(len(PoissonSampler(2, 1).draw(1)) == 0 for _ in range(200))  # 0.75**200


def test_all_clients_claim_no_amplification() -> None:
    sampler = build_sampler(SamplingConfig(), 5, private=True, seed=0)

    assert sampler.draw(1).tolist() == [0, 1, 2, 3, 4]
    assert describe(sampler.draws) == {
        "kind": "all",
        "probability": 1.0,
        "clients": 5,
        "expected_cohort": 5.0,
        "rounds_between": 1,
        "overflow_probability": 0.0,
        "amplification": False,
    }


def test_description_of_poisson_is_that_of_its_coins() -> None:
    sampler = build_sampler(POISSON, 1000, private=True, seed=0)

    assert describe(sampler.draws) == {
        "kind": "poisson",
        "probability": 0.1,
        "clients": 1000,
        "expected_cohort": 100.0,
        "rounds_between": 1,
        "overflow_probability": 0.0,
        "amplification": True,
    }


@pytest.mark.parametrize("kind", ["poisson", "fixed_size", "fixed_order"])
def test_cohort_larger_than_the_population_is_refused(kind: str) -> None:
    config = SamplingConfig.from_mapping({"kind": kind, "cohort_size": 100})
    with pytest.raises(ConfigError) as error:
        build_sampler(config, 99, private=True, seed=0)
    assert str(error.value) == (
        "train.sampling.cohort_size=100 exceeds the 99 clients in train. "
        "Lower cohort_size or add clients."
    )
    assert build_sampler(config, 100, private=True, seed=0).draws.clients == 100


def test_population_other_than_the_stated_one_is_refused() -> None:
    config = SamplingConfig(population=200)
    assert build_sampler(config, 200, private=True, seed=0).draws.clients == 200
    with pytest.raises(ConfigError, match=r"population=200, but train has 199 clients.* plan anew"):
        build_sampler(config, 199, private=True, seed=0)
