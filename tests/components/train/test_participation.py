"""Who reports when: failures of clients, and FedBuff's buffers."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.participation import Buffered, Cohorts, build_participation
from privet.components.train.participation_config import AsynchronousConfig, SimulationConfig
from privet.components.train.sampling import AllClients, PoissonSampler


def test_without_failures_a_round_is_the_cohort() -> None:
    sampler = PoissonSampler(1000, 50, seed=1)
    (part,) = Cohorts(sampler, SimulationConfig(), seed=1).parts(3)
    np.testing.assert_array_equal(part.clients, sampler.draw(3))
    assert (part.staleness, part.discount) == (0, 1.0)


def test_late_clients_report_in_the_following_round_and_lost_ones_never() -> None:
    simulation = SimulationConfig(dropout_rate=0.3, late_rate=0.2, late_discount=0.25)
    cohorts = Cohorts(AllClients(10_000), simulation, seed=1)
    (first,) = cohorts.parts(1)
    _, late = cohorts.parts(2)
    assert (late.staleness, late.discount) == (1, 0.25)
    assert not set(first.clients) & set(late.clients)
    for found, share in ((first, 0.5), (late, 0.2)):
        deviation = np.sqrt(10_000 * share * (1 - share))
        assert abs(len(found.clients) - 10_000 * share) < 6 * deviation


def test_in_a_private_run_no_seed_says_who_drops_out(train_config: Any) -> None:
    """By a seed and the place in a cohort, one client less would change who else reports."""
    privacy = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1, "noise_multiplier": 1}
    config = train_config(privacy=privacy, simulation={"dropout_rate": 0.5})
    one, other = (build_participation(config, AllClients(1000), seed=1) for _ in range(2))
    kept = [set(each.parts(1)[0].clients.tolist()) for each in (one, other)]
    assert kept[0] != kept[1]
    assert one.expected_reports == 500


def test_more_clients_at_a_time_than_there_are_is_refused(train_config: Any) -> None:
    config = train_config(asynchronous={"buffer_size": 2, "concurrency": 30})
    with pytest.raises(ConfigError, match=r"concurrency=30 exceeds the 20 clients in train"):
        build_participation(config, AllClients(20), 0)


def test_parts_are_a_function_of_the_round() -> None:
    config = AsynchronousConfig(buffer_size=5, concurrency=20)
    simulation = SimulationConfig(dropout_rate=0.1, late_rate=0.1)
    for one, other in (
        (Buffered(config, 100, 0.1, 7), Buffered(config, 100, 0.1, 7)),
        (Cohorts(AllClients(50), simulation, 7), Cohorts(AllClients(50), simulation, 7)),
    ):
        for _ in range(3):
            one.parts(1)
        for a, b in zip(one.parts(9), other.parts(9), strict=True):
            np.testing.assert_array_equal(a.clients, b.clients)
            assert (a.staleness, a.discount) == (b.staleness, b.discount)


def test_a_buffer_holds_so_many_updates_discounted_by_their_age() -> None:
    config = AsynchronousConfig(
        buffer_size=8, concurrency=40, staleness_exponent=0.5, max_staleness=9
    )
    buffered = Buffered(config, 500, 0.0, seed=2)
    ages = []
    for number in range(1, 300):
        parts = buffered.parts(number)
        assert parts[0].staleness == 0
        assert sum(len(part.clients) for part in parts) == 8
        for part in parts:
            assert part.discount == (1 + part.staleness) ** -0.5
            assert part.staleness <= min(9, number - 1)
            ages += [part.staleness] * len(part.clients)
    # 40 clients train at a time and 8 reports make a round: an update is 5 rounds old in the mean
    # (a little less, since the oldest are thrown away).
    assert 3.5 < np.mean(ages[800:]) < 5.0


def test_one_client_at_a_time_is_never_stale() -> None:
    config = AsynchronousConfig(buffer_size=1, concurrency=1)
    buffered = Buffered(config, 1, 0.0, seed=0)
    for number in range(1, 20):
        (part,) = buffered.parts(number)
        assert part.clients.tolist() == [0]


def test_configuration_chooses(train_config: Any) -> None:
    sampler = AllClients(10)
    given = {"asynchronous": {"buffer_size": 2, "concurrency": 3}}
    assert isinstance(build_participation(train_config(), sampler, 0), Cohorts)
    assert isinstance(build_participation(train_config(**given), sampler, 0), Buffered)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simulation": {"dropout_rate": 0.6, "late_rate": 0.4}}, "below 1 together"),
        ({"simulation": {"late_rate": 0.1}, "algorithm": "scaffold"}, "means of updates"),
        (
            {
                "asynchronous": {"buffer_size": 2, "concurrency": 3},
                "sampling": {"kind": "poisson", "cohort_size": 3},
            },
            "leave out sampling",
        ),
        ({"asynchronous": {"buffer_size": 0, "concurrency": 3}}, "buffer_size=0 must be >= 1"),
    ],
)
def test_contradictions_are_refused(train_config: Any, settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_config(**settings)
