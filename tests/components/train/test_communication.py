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
