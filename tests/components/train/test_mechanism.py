"""Mechanisms: the event of so many rounds, by hand, and the words that go with it."""

import math
from typing import Any

import dp_accounting
import pytest
from dp_accounting import rdp

from privet.components.shared.privacy_loss import epsilon_of, gaussians
from privet.components.train.mechanism import Mechanism, build_mechanism, gaussian
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import (
    AllClients,
    FixedOrderSampler,
    FixedSizeSampler,
    PoissonSampler,
)

DELTA = 1e-5
EVERYBODY = AllClients(60).draws
ORDER = FixedOrderSampler(60, 10, seed=0).draws  # six rounds an epoch


def mechanism(kind: str, draws: Any = EVERYBODY, noise: float = 2.0, **settings: Any) -> Mechanism:
    config = PrivacyConfig.from_mapping(
        {"mechanism": kind, "delta": DELTA, "clip_norm": 1.0, "noise_multiplier": noise, **settings}
    )
    return build_mechanism(config, draws, noise_multiplier=noise)


def only_gaussian(event: dp_accounting.DpEvent) -> float:
    """The noise multiplier of the one Gaussian that an event of equal ones is."""
    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        assert isinstance(event.event, dp_accounting.GaussianDpEvent)
        return event.event.noise_multiplier / math.sqrt(event.count)
    assert isinstance(event, dp_accounting.GaussianDpEvent)
    return event.noise_multiplier


@pytest.mark.parametrize(
    ("given", "rounds", "noise"),
    [
        (mechanism("gaussian"), 9, 2 / 3),
        (mechanism("gaussian", FixedSizeSampler(60, 10).draws), 9, 2 / 3),
        (mechanism("gaussian", ORDER), 6, 2.0),
        (mechanism("gaussian", ORDER), 19, 1.0),  # four participations at most
        (mechanism("local"), 9, 1 / 3),
        (mechanism("local", PoissonSampler(60, 10).draws), 9, 1 / 3),
        (mechanism("local", ORDER), 19, 0.5),
        (mechanism("example"), 9, 2 / 3),
        (mechanism("example", ORDER), 6, 2.0),
        # Six rounds a tree: a leaf, a pair and the node of four. Two of them are two trees.
        (mechanism("tree", ORDER), 6, 2 / math.sqrt(3)),
        (mechanism("tree", ORDER), 12, 2 / math.sqrt(6)),
        (mechanism("banded", ORDER, bands=1), 18, 2 / math.sqrt(3)),
        (mechanism("banded", ORDER, bands=2), 18, 2 / math.sqrt(3)),
    ],
)
def test_rounds_are_the_gaussian_that_one_finds_by_hand(
    given: Mechanism, rounds: int, noise: float
) -> None:
    assert only_gaussian(given.event(rounds)) == pytest.approx(noise)
    assert isinstance(given.event(0), dp_accounting.NoOpDpEvent)


def test_only_independent_coins_amplify() -> None:
    # 3,383 clients, 120 a round, 100 rounds, noise 1.2: the setting of TFF's tutorial.
    def epsilon(sampler: Any) -> float:
        return epsilon_of(gaussian(sampler.draws, 1.2).event(100), DELTA)

    assert epsilon(PoissonSampler(3383, 120)) == pytest.approx(1.71, abs=0.005)
    for sampler in (FixedSizeSampler(3383, 120), AllClients(3383)):
        assert epsilon(sampler) == pytest.approx(69.46, abs=0.01)
    # In a fixed order a client takes part four times in 100 rounds.
    fixed = epsilon(FixedOrderSampler(3383, 120, seed=0))
    assert fixed == epsilon_of(gaussians(1.2, 4), DELTA)


def test_tree_agrees_with_the_library_for_one_epoch() -> None:
    order = FixedOrderSampler(1000, 10, seed=0).draws
    tree = mechanism("tree", order, noise=5.01)
    library = rdp.RdpAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    ).compose(dp_accounting.SingleEpochTreeAggregationDpEvent(5.01, 100))
    ours = rdp.RdpAccountant().compose(tree.event(100))

    assert ours.get_epsilon(1e-4) == pytest.approx(library.get_epsilon(1e-4))
    assert ours.get_epsilon(1e-4) == pytest.approx(2.0, abs=0.01)


def test_tree_and_bands_cancel_noise_that_independent_rounds_pile_up() -> None:
    order = FixedOrderSampler(6400, 100, seed=0).draws
    noises = {
        kind: only_gaussian(mechanism(kind, order).event(64))
        for kind in ("gaussian", "tree", "banded")
    }
    assert noises["gaussian"] == pytest.approx(2.0)
    assert noises["banded"] == pytest.approx(2.0)  # columns of norm 1
    assert noises["tree"] == pytest.approx(2 / math.sqrt(7))  # 64 leaves: seven levels


def test_every_mechanism_says_what_it_protects_from_whom() -> None:
    said = {
        (kind, draws.kind): (it.unit, it.relation, it.trust_model.partition(":")[0])
        for kind, draws in [
            ("gaussian", EVERYBODY),
            ("gaussian", PoissonSampler(60, 10).draws),
            ("gaussian", FixedSizeSampler(60, 10).draws),
            ("tree", ORDER),
            ("banded", ORDER),
            ("local", EVERYBODY),
            ("example", EVERYBODY),
        ]
        for it in [mechanism(kind, draws)]
    }
    assert said == {
        ("gaussian", "all"): ("client", "add_or_remove_one_client", "central"),
        ("gaussian", "poisson"): ("client", "add_or_remove_one_client", "central"),
        ("gaussian", "fixed_size"): ("client", "zero_out_one_client", "central"),
        ("tree", "fixed_order"): ("client", "zero_out_one_client", "central"),
        ("banded", "fixed_order"): ("client", "zero_out_one_client", "central"),
        ("local", "all"): ("client", "replace_one_client", "local"),
        ("example", "all"): ("example", "zero_out_one_example", "local to clients"),
    }


def test_description_names_the_correlation() -> None:
    assert mechanism("banded", ORDER, bands=4).describe() == {
        "kind": "banded",
        "noise_multiplier": 2.0,
        "correlation": {"rounds_between": 6, "bands": 4, "momentum": 0.0},
    }
    assert mechanism("gaussian").describe() == {"kind": "gaussian", "noise_multiplier": 2.0}


def test_bands_beyond_an_epoch_are_refused() -> None:
    with pytest.raises(Exception, match=r"bands=7"):
        mechanism("banded", ORDER, bands=7)
