"""Blocks: all rows in order, none larger than asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.ingest.export.blocks import read_blocks
from privet.components.shared.storage import ClientStore

ROW = 4 + 64  # one float and the overhead


@pytest.fixture
def store(write_store: Any, client: Any, schema_of: Any, tmp_path: Path) -> ClientStore:
    sizes = {"ann": 3, "bob": 25, "cy": 4, "dee": 1, "eve": 6}
    clients = [
        client(name, np.full(size, index), x=[[100 * index + row] for row in range(size)])
        for index, (name, size) in enumerate(sizes.items())
    ]
    directory = write_store(tmp_path, schema_of({"x": 1}, 9), {"train": clients}, shards=2)
    return ClientStore(directory, "train")


@pytest.mark.parametrize("rows", [1, 2, 7, 10, 24, 25, 1000])
def test_blocks_hold_all_rows_in_order_and_are_bounded(store: ClientStore, rows: int) -> None:
    blocks = list(read_blocks(store, ROW * rows + 1))

    assert all(len(block) <= rows and block.counts.sum() == len(block) for block in blocks)
    wanted = [
        (one.client_id, x.item(), label)
        for one in store.read_many(store)
        for x, label in zip(one.features["x"], one.labels.tolist(), strict=True)
    ]
    found = [
        (name, x.item(), label)
        for block in blocks
        for name, x, label in zip(
            block.row_ids, block.features["x"], block.labels.tolist(), strict=True
        )
    ]
    assert found == wanted


def test_clients_share_a_block_and_only_a_large_one_is_cut(store: ClientStore) -> None:
    blocks = list(read_blocks(store, ROW * 10))

    of_client = {
        name: sum(name in block.client_ids for block in blocks) for name in ("ann", "bob", "eve")
    }
    assert of_client == {"ann": 1, "bob": 3, "eve": 1}
    assert [block.client_ids for block in blocks if "bob" in block.client_ids] == [("bob",)] * 3
    assert len(blocks) < 3 + 4


def test_split_without_clients_has_no_block(
    write_store: Any, schema_of: Any, tmp_path: Path
) -> None:
    directory = write_store(tmp_path, schema_of({"x": 1}, 2), {"train": []})

    assert not list(read_blocks(ClientStore(directory, "train")))
