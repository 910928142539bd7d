"""The clients that are attacked."""

from pathlib import Path
from typing import Any

import pytest

from privet.components.audit.sample import sample_clients
from privet.components.shared.errors import DataError


@pytest.fixture(scope="module")
def examples(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """The same forty clients in stores of two and of five shards; one has no examples."""
    place = tmp_path_factory.mktemp("sample")
    found = [client(f"c{i}", [0], x=[[i]]) for i in range(40)] + [client("empty", [], x=[])]
    found[-1].features["x"].shape = (0, 1)
    one, other = (
        write_store(place / str(shards), schema_of({"x": 1}, 2), {"train": found}, shards=shards)
        for shards in (2, 5)
    )
    return one, other


def ids(examples: str, clients: int, seed: int = 0) -> set[str]:
    return {one.client_id for one in sample_clients(examples, "train", clients, seed)}


def test_all_clients_with_examples_are_attacked_if_they_are_few(examples: Any) -> None:
    assert ids(examples[0], 40) == {f"c{i}" for i in range(40)}


def test_sample_depends_on_the_seed_and_not_on_the_shards(examples: Any) -> None:
    first = ids(examples[0], 10)

    assert len(first) == 10
    assert first == ids(examples[1], 10)
    assert first < ids(examples[0], 20)
    assert first != ids(examples[0], 10, seed=1)


def test_split_without_clients_is_named(examples: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"eval has none with examples\. Raise data"):
        sample_clients(examples[0], "eval", 10, 0)
