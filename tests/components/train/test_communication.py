"""Bytes of a round, counted by hand."""

from typing import Any

import pytest

from privet.components.train.communication import mean_traffic, traffic_of

SHAPES = [(240, 10), (10,)]
HEADER, SCALES = 12, 2 * 8
FLOAT = 4 * 2410
MOMENTUM = {"learning_rate": 0.1, "momentum": 0.9}


@pytest.mark.parametrize(
    ("settings", "traffic"),
    [
        ({}, (FLOAT, FLOAT)),
        ({"update_bits": 8}, (FLOAT, 2410 + SCALES)),
        ({"update_bits": 4}, (FLOAT, 1200 + 5 + SCALES)),
        ({"update_bits": 4, "update_rotation": "hadamard"}, (FLOAT, 1200 + 5 + SCALES + 8)),
        ({"algorithm": "fed_adam"}, (FLOAT, FLOAT)),
        ({"algorithm": "scaffold"}, (2 * FLOAT, 2 * FLOAT)),
        ({"algorithm": "mime_lite", "update_bits": 8}, (FLOAT, 2 * (2410 + SCALES))),
        ({"algorithm": "mime_lite"}, (FLOAT, 2 * FLOAT)),
        ({"algorithm": "mime_lite", "client_optimizer": MOMENTUM}, (2 * FLOAT, 2 * FLOAT)),
    ],
)
def test_what_a_client_receives_and_sends(
    train_config: Any, settings: dict[str, Any], traffic: tuple[int, int]
) -> None:
    down, up = traffic_of(train_config(**settings), SHAPES)
    assert (down - HEADER, up - HEADER) == traffic


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
    down, up = traffic_of(train_config(**settings), SHAPES, kept)
    assert (down - HEADER, up - HEADER) == traffic


def test_traffic_of_a_training_is_the_mean_over_its_schedule(train_config: Any) -> None:
    pruning = {"sparsity": 0.8, "schedule": "constant", "begin_round": 2}
    config = train_config(rounds=4, pruning=pruning)
    for rounds, dense, pruned in ((2, 2, 0), (3, 2, 1), (4, 2, 2)):
        up = HEADER + (dense * FLOAT + pruned * 1960) / rounds
        down = HEADER + (dense * FLOAT + pruned * (1960 + WHICH)) / rounds
        assert mean_traffic(config, SHAPES, rounds) == pytest.approx((down, up))


def test_a_run_tells_the_bytes_that_its_clients_sent(
    trained_privately: Any, train_config: Any
) -> None:
    """Four clients in two rounds; nine levels of a kernel and a bias, which DEFLATE leaves."""
    told = []
    for code in (None, "deflate"):
        config = train_config(rounds=2, update_bits=8, update_code=code)
        told.append(trained_privately(config).history["bytes"])
    length = HEADER + SCALES + 9

    assert [one.pop("up_measured") for one in told] == [False, True]
    assert told[0] == told[1]
    assert (told[1]["up_per_client_round"], told[1]["up_total"]) == (length, length * 4 * 2)
