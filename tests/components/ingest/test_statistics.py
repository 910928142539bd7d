"""Counts of a split, and when they stop the run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.ingest.statistics import SplitCounts, check_statistics
from privet.components.shared.errors import DataError


def count(clients: list[list[int]]) -> SplitCounts:
    counts = SplitCounts()
    for labels in clients:
        counts.add(len(labels), labels)
    return counts


def test_counts_by_hand() -> None:
    assert count([[0, 0, 2], [0], [2]]).to_json() == {
        "clients": 3,
        "examples": 5,
        "examples_per_client": {"min": 1, "p50": 1, "max": 3},
        "labels": {"0": 3, "2": 2},
    }


def test_split_without_clients_counts_nothing() -> None:
    assert SplitCounts().to_json() == {
        "clients": 0,
        "examples": 0,
        "examples_per_client": {"min": 0, "p50": 0, "max": 0},
        "labels": None,
    }


def test_labels_sort_as_numbers() -> None:
    assert list(count([[10, 9, 2]]).to_json()["labels"]) == ["2", "9", "10"]


many = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), max_size=12)


@given(many, st.integers(0, 12), st.randoms())
def test_merging_parts_in_any_order_gives_the_whole(
    clients: list[list[int]], cut: int, random: Any
) -> None:
    parts = [count(clients[:cut]), count(clients[cut:]), SplitCounts()]
    random.shuffle(parts)
    merged = SplitCounts()
    for part in parts:
        merged.merge(part)

    assert merged.to_json() == count(clients).to_json()


def found(**rejected: Any) -> dict[str, Any]:
    return {
        "rows": 100,
        "splits": {name: {"clients": 5} for name in ("train", "eval")},
        "rejected": {
            "rows": 0,
            "first": [{"source": "a.csv", "row": i, "reason": f"reason {i}"} for i in range(5)],
            "empty_clients": 0,
            "first_empty_clients": ["ann", "bob", "cy", "di"],
            "clients_in_two_splits": 0,
            "first_in_two_splits": ["ann"],
            **rejected,
        },
    }


def test_fraction_of_refused_rows_may_be_reached_but_not_exceeded(config_of: Any) -> None:
    config = config_of("a.csv", max_rejected_fraction=0.05)
    check_statistics(found(rows=5), config)

    with pytest.raises(DataError) as error:
        check_statistics(found(rows=6), config)
    assert str(error.value) == (
        "6 of 100 rows do not fit the schema, more than data.max_rejected_fraction=0.05 allows. "
        "First: a.csv row 0: reason 0; a.csv row 1: reason 1; a.csv row 2: reason 2. Correct the "
        "rows or data.features / data.label, or raise the fraction to skip them."
    )


def test_clients_without_an_example_are_named_unless_allowed(config_of: Any) -> None:
    with pytest.raises(DataError) as error:
        check_statistics(found(empty_clients=4), config_of("a.csv"))
    assert str(error.value) == (
        "4 clients have no valid example left, for example 'ann', 'bob', 'cy'. Correct their "
        "rows, or set data.allow_empty_clients: true to leave such clients out."
    )
    check_statistics(found(empty_clients=4), config_of("a.csv", allow_empty_clients=True))


@pytest.mark.parametrize("split", ["train", "eval"])
def test_split_without_a_client_is_named(config_of: Any, split: str) -> None:
    statistics = found()
    statistics["splits"][split]["clients"] = 0

    with pytest.raises(DataError, match=rf"^the {split} split has no client\. .*column=split\)"):
        check_statistics(statistics, config_of("a.csv"))
