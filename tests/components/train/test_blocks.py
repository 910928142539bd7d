"""Blocks: every batch holds examples of one client, in its training order, and bounded arrays."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared.storage import ClientData
from privet.components.train import blocks
from privet.components.train.blocks import Block, pack, read_blocks
from privet.components.train.client_order import training_orders


@pytest.fixture(scope="module")
def block_of(train_config: Any, schema_of: Any) -> Any:
    schema = schema_of({"x": 1}, None)

    def make(sizes: list[int], batch_size: int = 4, epochs: int = 1) -> Block:
        config = train_config(batch_size=batch_size, local_epochs=epochs)
        return pack(clients_of(sizes), schema, config, seed=1, round_number=2)

    return make


def clients_of(sizes: list[int]) -> list[ClientData]:
    """Clients whose examples are numbered through."""
    ends = np.cumsum(sizes)
    return [
        ClientData(
            f"c{index}",
            {"x": np.arange(end - size, end, dtype=np.float32)[:, None]},
            np.zeros(size, np.float32),
        )
        for index, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


@given(st.lists(st.integers(0, 11), min_size=1, max_size=7), st.integers(1, 5), st.integers(1, 3))
def test_batches_are_each_clients_examples_in_its_training_order(
    block_of: Any, sizes: list[int], batch_size: int, epochs: int
) -> None:
    block = block_of(sizes, batch_size, epochs)
    clients = clients_of(sizes)

    assert block.clients == len(sizes)
    assert block.order.shape == (block.steps.sum(), batch_size)
    firsts = np.cumsum(sizes) - sizes
    batch = 0
    for client, first, steps in zip(clients, firsts, block.steps, strict=True):
        batches = slice(batch, batch + steps)
        batch += steps
        order = training_orders([client], seed=1, round_number=2, epochs=epochs) + first
        rows = [
            row
            for slots, size in zip(block.order[batches], block.sizes[batches], strict=True)
            for row in slots[:size]
        ]
        assert rows == order.tolist()
        assert (
            (block.order[batches] >= first) & (block.order[batches] < first + len(client))
        ).all()
    assert batch == len(block.order)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 30))
def test_head_has_the_wanted_batches_of_the_first_clients(
    block_of: Any, sizes: list[int], batches: int
) -> None:
    block = block_of(sizes, 2)
    head = block.head(batches)

    assert head.steps.sum() == min(batches, block.steps.sum())
    np.testing.assert_array_equal(head.order, block.order[: head.steps.sum()])
    np.testing.assert_array_equal(head.sizes, block.sizes[: head.steps.sum()])
    np.testing.assert_array_equal(head.features["x"], block.features["x"][: len(head.labels)])
    assert head.clients == len(head.steps) <= block.clients


def test_padding_is_by_what_there_is_and_not_by_epochs_or_batch_size(block_of: Any) -> None:
    block = block_of([5, 0, 3, 60], batch_size=512, epochs=50).padded()

    assert len(block.labels) == len(block.features["x"]) == 128
    assert block.order.shape == (16, 512)
    assert block.clients == 4
    assert block.steps.tolist()[:4] == [1, 0, 1, 6]


@pytest.mark.parametrize("bound", ["_BLOCK_BYTES", "_BLOCK_CLIENTS"])
def test_cohort_is_cut_into_bounded_blocks(
    monkeypatch: pytest.MonkeyPatch, train_config: Any, schema_of: Any, bound: str
) -> None:
    monkeypatch.setattr(blocks, bound, 3 if bound == "_BLOCK_CLIENTS" else 3 * (4 + 64) * 5)
    made = list(
        read_blocks(
            clients_of([5] * 8),
            schema_of({"x": 1}, None),
            train_config(),
            seed=0,
            round_number=1,
        )
    )
    assert [block.clients for block in made] == [3, 3, 2]
    assert np.concatenate([block.features["x"] for block in made]).ravel().tolist() == [*range(40)]


@given(st.lists(st.integers(0, 11), min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 3))
def test_steps_are_the_first_ones_up_to_the_limit(
    train_config: Any, schema_of: Any, sizes: list[int], limit: int, epochs: int
) -> None:
    def packed(**changes: Any) -> Block:
        config = train_config(batch_size=3, local_epochs=epochs, **changes)
        return pack(clients_of(sizes), schema_of({"x": 1}, None), config, seed=1, round_number=2)

    whole, cut = packed(), packed(max_steps=limit)
    assert cut.steps.tolist() == np.minimum(whole.steps, limit).tolist()
    number = np.arange(len(whole.order)) - np.repeat(
        np.cumsum(whole.steps) - whole.steps, whole.steps
    )
    np.testing.assert_array_equal(cut.sizes, whole.sizes[number < limit])
    full = cut.sizes == 3
    np.testing.assert_array_equal(cut.order[full], whole.order[number < limit][full])
