"""Bytes of a round, counted by hand."""

from typing import Any

import pytest

from privet.components.train.communication import mean_traffic, traffic_of

SHAPES = [(240, 10), (10,)]
FLOAT = 4 * 2410
MOMENTUM = {"learning_rate": 0.1, "momentum": 0.9}


@pytest.mark.parametrize(
    ("settings", "traffic"),
    [
        ({}, (FLOAT, FLOAT)),
        ({"update_bits": 8}, (FLOAT, 2410 + 2 * 8)),
        ({"update_bits": 4}, (FLOAT, 1200 + 5 + 2 * 8)),
        ({"algorithm": "fed_adam"}, (FLOAT, FLOAT)),
        ({"algorithm": "scaffold"}, (2 * FLOAT, 2 * FLOAT)),
        ({"algorithm": "mime_lite", "update_bits": 8}, (FLOAT, 2 * (2410 + 16))),
        ({"algorithm": "mime_lite"}, (FLOAT, 2 * FLOAT)),
        ({"algorithm": "mime_lite", "client_optimizer": MOMENTUM}, (2 * FLOAT, 2 * FLOAT)),
    ],
)
def test_what_a_client_receives_and_sends(
    train_config: Any, settings: dict[str, Any], traffic: tuple[int, int]
) -> None:
    assert traffic_of(train_config(**settings), SHAPES) == traffic


WHICH = 2400 // 8
"""Bytes of a bit for each weight of the kernel."""


@pytest.mark.parametrize(
    ("settings", "kept", "traffic"),
    [
        ({}, 480, (FLOAT - 4 * 1920 + WHICH, FLOAT - 4 * 1920)),
        ({}, 2400, (FLOAT, FLOAT)),
        ({}, 2390, (FLOAT, FLOAT - 40)),  # saying which costs more than it saves
        ({"update_bits": 4}, 480, (FLOAT - 4 * 1920 + WHICH, 1221 - 960)),
        ({"algorithm": "scaffold"}, 480, (2 * 1960 + WHICH, 2 * 1960)),
    ],
)
def test_pruned_weights_are_not_sent(
    train_config: Any, settings: dict[str, Any], kept: int, traffic: tuple[int, int]
) -> None:
    assert traffic_of(train_config(**settings), SHAPES, kept) == traffic


def test_traffic_of_a_training_is_the_mean_over_its_schedule(train_config: Any) -> None:
    pruning = {"sparsity": 0.8, "schedule": "constant", "begin_round": 2}
    config = train_config(rounds=4, pruning=pruning)
    for rounds, dense, pruned in ((2, 2, 0), (3, 2, 1), (4, 2, 2)):
        up = (dense * FLOAT + pruned * 1960) / rounds
        down = (dense * FLOAT + pruned * (1960 + WHICH)) / rounds
        assert mean_traffic(config, SHAPES, rounds) == pytest.approx((down, up))
