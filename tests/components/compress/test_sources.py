"""Examples for ranges of activations, out of a client store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.compress.sources import read_examples
from privet.components.shared.errors import DataError


@pytest.fixture
def folder(schema_of: Any, client: Any, write_store: Any, tmp_path: Path) -> str:
    schema = schema_of({"x": 1}, 3)
    clients = [
        client(name, [number] * size, x=[[float(number)]] * size)
        for number, (name, size) in enumerate([("a", 5), ("b", 1), ("c", 5)])
    ]
    return write_store(tmp_path / "store", schema, {"train": clients[:2], "eval": clients[2:]})


def test_as_many_of_each_client_as_of_any_other(folder: str) -> None:
    examples = read_examples(folder, 7)
    assert sorted(examples.labels.tolist()) == [0, 0, 0, 1, 2, 2, 2]
    assert examples.features["x"].shape == (7, 1)
    np.testing.assert_array_equal(examples.features["x"][:, 0], examples.labels)


def test_all_are_read_where_there_are_not_enough(folder: str) -> None:
    assert len(read_examples(folder, 1000).labels) == 11


def test_only_the_splits_that_are_named(folder: str) -> None:
    assert set(read_examples(folder, 1000, ["train"]).labels.tolist()) == {0, 1}


def test_no_example_at_all_is_an_error(folder: str) -> None:
    with pytest.raises(DataError, match=r"holds no example.*Check public_data"):
        read_examples(folder, 10, ["test"])
