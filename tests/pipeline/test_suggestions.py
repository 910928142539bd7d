"""Suggestions keep their target and their budget, and rank by the noise they say they rank by."""

import msgspec
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import epsilon_of, gaussians
from privet.components.train import accounting
from privet.components.train.config import TrainConfig
from privet.components.train.mechanism import Mechanism
from privet.components.train.participation_config import SimulationConfig
from privet.components.train.privacy_config import SamplingConfig
from privet.components.train.sampling import build_sampler
from privet.pipeline.suggestions import Suggestion, suggest

CLIENTS, BUDGET, EPSILON, DELTA = 1000, 4000, 4.0, 1e-5


def train(**privacy: object) -> TrainConfig:
    settings = {"mechanism": "gaussian", "epsilon": EPSILON, "delta": DELTA, "clip_norm": 0.5}
    return TrainConfig.from_mapping({"privacy": settings | privacy, "rounds": 20})


@pytest.fixture(scope="module")
def rows() -> list[Suggestion]:
    return suggest(train(), CLIENTS, client_rounds=BUDGET, weights=400)


def test_rounds_double_from_the_configured_ones_within_the_budget(rows: list[Suggestion]) -> None:
    assert sorted(row.rounds for row in rows) == [4, 5, 10, 20, 40, 80, 160, 320]
    assert all(row.client_rounds <= BUDGET for row in rows)
    assert (rows[0].sampling, rows[0].cohort_size, rows[0].client_rounds) == ("all", None, BUDGET)
    assert all((row.cohort_size or CLIENTS) >= 10 for row in rows)


def test_every_row_keeps_the_target_with_hardly_any_noise_to_spare(rows: list[Suggestion]) -> None:
    for row in (rows[0], rows[2], rows[-1]):
        config = SamplingConfig(kind=row.sampling, cohort_size=row.cohort_size)
        draws = build_sampler(config, CLIENTS, private=True, seed=0).draws

        def spent(noise: float, draws=draws, rounds=row.rounds) -> float:
            return epsilon_of(Mechanism("gaussian", draws, noise).event(rounds), DELTA)

        assert spent(row.noise_multiplier) <= EPSILON < spent(row.noise_multiplier * 0.97)


def test_rows_are_ranked_by_the_noise_on_a_mean_update(rows: list[Suggestion]) -> None:
    steps = [row.noise_per_step for row in rows]
    assert steps == sorted(steps)
    first = rows[0]
    assert first.noise_per_step == pytest.approx(first.noise_multiplier * 0.5 / 1000)
    assert first.noise_of_sum == pytest.approx(2 * first.noise_per_step)  # of 4 rounds
    assert first.noise_of_mean == pytest.approx(first.noise_per_step / 2)
    assert first.norm_per_step == pytest.approx(20 * first.noise_per_step)  # of 400 weights
    (marked,) = [row for row in rows if row.least_noise_of_sum]
    assert marked.noise_of_sum == min(row.noise_of_sum for row in rows)


def test_what_was_spent_before_asks_for_more_noise(rows: list[Suggestion]) -> None:
    row = suggest(train(), 10, client_rounds=10, before=gaussians(2.0, 1))[0]
    less = suggest(train(), 10, client_rounds=10)[0]

    assert row.rounds == less.rounds == 1
    # One round of z after one of 2 are one of (1 / z**2 + 1 / 4)**-0.5: that of the run without.
    both = (row.noise_multiplier**-2 + 2.0**-2) ** -0.5
    assert both == pytest.approx(less.noise_multiplier, rel=0.01)


def test_adaptive_clip_and_dropouts_are_part_of_the_noise() -> None:
    config = msgspec.structs.replace(
        train(adaptive_clip={"count_noise": 2.0}), simulation=SimulationConfig(dropout_rate=0.5)
    )
    row = suggest(config, 10, client_rounds=10)[0]
    value = accounting.value_noise_multiplier(row.noise_multiplier, 2.0)

    assert value > row.noise_multiplier
    assert row.noise_per_step == pytest.approx(value * 0.5 / 5)
    assert row.norm_per_step is None


@pytest.mark.parametrize(
    ("config", "budget", "message"),
    [
        (train(mechanism="local"), BUDGET, "mechanism=local"),
        (train(epsilon=None, noise_multiplier=1.0), BUDGET, "needs an epsilon to reach"),
        (train(), 9, "less than one round of 10 of the 1000 clients"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    config: TrainConfig, budget: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        suggest(config, CLIENTS, client_rounds=budget)
