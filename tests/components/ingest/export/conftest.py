"""A store with every kind of feature, and what its rows are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared.schema import LABEL, Schema
from privet.components.shared.storage import ClientData, ClientStore

SCHEMA = Schema.from_mapping(
    {
        "client_id": "who",
        "features": {
            "x": {"columns": "x_{0..2}", "minimum": -10, "maximum": 10},
            "image": {"columns": "img", "dtype": "uint8", "shape": [2, 3], "encoding": "image"},
            "spectrum": {"columns": "spectrum", "shape": [4], "fill_missing": 0.5},
            "count": {"columns": "n", "dtype": "int64"},
            "word": {
                "columns": "w",
                "dtype": "int64",
                "vocabulary": ["a", "b"],
                "tokens": "words",
                "shape": [2],
            },
        },
        "label": {"column": "y", "classes": 3, "names": ["p", "q", "r"], "by_name": True},
    }
)

SPLITS = {"train": (1, 4, 2, 7, 3), "eval": (2, 5), "test": ()}
"""Examples of each client of each split."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A store and what is in it.

    Attributes:
      directory: the store.
      splits: split -> its clients in the order of the store.
    """

    directory: str
    splits: Mapping[str, list[ClientData]]

    def rows(self) -> list[dict[str, Any]]:
        """Every example in order: client, split, and the values of each feature, flat."""
        return [
            {
                "client": client.client_id,
                "split": split,
                LABEL: client.labels[index].item(),
                **{
                    name: values[index].reshape(-1).tolist()
                    for name, values in client.features.items()
                },
            }
            for split, clients in self.splits.items()
            for client in clients
            for index in range(len(client))
        ]


def random_client(client_id: str, examples: int, generator: np.random.Generator) -> ClientData:
    draw = generator.integers
    return ClientData(
        client_id,
        {
            "x": generator.normal(size=(examples, 3)).astype(np.float32),
            "image": draw(0, 256, (examples, 2, 3), dtype=np.uint8),
            "spectrum": generator.normal(size=(examples, 4)).astype(np.float32),
            "count": draw(-(2**63), 2**63, (examples, 1)),
            "word": draw(0, 3, (examples, 2)),
        },
        draw(0, 3, examples),
    )


@pytest.fixture(scope="session")
def sample(write_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    generator = np.random.default_rng(0)
    written = {
        split: [random_client(f'{split}\'s "ä" {i}', n, generator) for i, n in enumerate(sizes)]
        for split, sizes in SPLITS.items()
    }
    directory = write_store(Path(tmp_path_factory.mktemp("sample")), SCHEMA, written, shards=3)
    splits = {}
    for split in SPLITS:
        with ClientStore(directory, split) as store:
            splits[split] = list(store.read_many(store))
    assert {split: len(clients) for split, clients in splits.items()} == {
        split: len(sizes) for split, sizes in SPLITS.items()
    }
    return Sample(directory, splits)
