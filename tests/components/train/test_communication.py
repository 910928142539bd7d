"""Bytes of a round, counted by hand."""

from typing import Any

import pytest

from privet.components.train.communication import traffic_of

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
