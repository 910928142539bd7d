"""Samplers: what they draw is what they tell the accountant."""

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.privacy_config import SamplingConfig
from privet.components.train.sampling import AllClients, PoissonSampler, build_sampler

CLIENTS = 1000
ROUNDS = 400
GAUSSIAN = dp_accounting.GaussianDpEvent(1.5)
POISSON = SamplingConfig(kind="poisson", cohort_size=100)


@pytest.mark.parametrize("private", [True, False])
def test_every_client_is_drawn_at_the_rate_that_is_accounted_for(private: bool) -> None:
    sampler = build_sampler(POISSON, CLIENTS, private=private, seed=0)
    event = sampler.account(GAUSSIAN)
    assert isinstance(event, dp_accounting.PoissonSampledDpEvent)
    p = event.sampling_probability
    counts = np.zeros(CLIENTS)
    for number in range(1, ROUNDS + 1):
        draw = sampler.draw(number)
        assert np.all(np.diff(draw) > 0)  # ascending, none twice
        counts[draw] += 1

    assert p == 0.1
    assert event.event == GAUSSIAN
    assert abs(counts.sum() - p * 400_000) < 6 * np.sqrt(400_000 * p * (1 - p))
    assert np.abs(counts - p * ROUNDS).max() < 7 * np.sqrt(ROUNDS * p * (1 - p))


def test_cohort_sizes_vary_as_independent_coins_do() -> None:
    sampler = build_sampler(POISSON, CLIENTS, private=True, seed=0)
    sizes = [len(sampler.draw(1)) for _ in range(2000)]

    # Binomial: variance 90; a fixed-size draw, accounted as Poisson, would have 0.
    assert abs(np.var(sizes) - 90) < 6 * 90 * np.sqrt(2 / 2000)


def test_private_draws_never_repeat() -> None:
    sampler = build_sampler(POISSON, CLIENTS, private=True, seed=7)

    assert sampler.draw(1).tolist() != sampler.draw(1).tolist()
    assert "seed=7" not in repr(sampler)


def test_draws_without_privacy_repeat_and_differ_between_rounds_and_seeds() -> None:
    one, again, other = (
        build_sampler(POISSON, CLIENTS, private=False, seed=seed) for seed in (7, 7, 8)
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
    assert sampler.account(GAUSSIAN) is GAUSSIAN
    assert sampler.describe() == {
        "kind": "all",
        "probability": 1.0,
        "clients": 5,
        "expected_cohort": 5.0,
        "amplification": False,
    }


def test_description_of_poisson_is_that_of_its_event() -> None:
    sampler = build_sampler(POISSON, 1000, private=True, seed=0)

    assert sampler.describe() == {
        "kind": "poisson",
        "probability": sampler.account(GAUSSIAN).sampling_probability,
        "clients": 1000,
        "expected_cohort": 100.0,
        "amplification": True,
    }


def test_denominator_is_the_expected_cohort() -> None:
    assert AllClients(200).expected_cohort == 200.0
    assert PoissonSampler(200, 50).expected_cohort == 50.0


def test_cohort_larger_than_the_population_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        build_sampler(POISSON, 99, private=True, seed=0)
    assert str(error.value) == (
        "train.sampling.cohort_size=100 exceeds the 99 clients in train. "
        "Lower cohort_size or add clients."
    )
    assert build_sampler(POISSON, 100, private=True, seed=0).account(GAUSSIAN)
