"""Exact statistics of a split."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privet.components.ingest.statistics import SplitCounts


def count(clients: list[list[int]]) -> SplitCounts:
    """Clients with these labels; the feature x is twice the label."""
    labels = np.array([label for client in clients for label in client], np.int64)
    starts = np.cumsum([0] + [len(client) for client in clients])
    return SplitCounts().add({"x": labels[:, None] * 2.0}, labels, starts)


def test_counts_by_hand() -> None:
    assert count([[0, 0, 2], [0], [2]]).to_json() == {
        "clients": 3,
        "examples": 5,
        "examples_per_client": {"min": 1, "p50": 1, "max": 3},
        "labels": {"0": 3, "2": 2},
        "labels_per_client": {"min": 1, "p50": 1, "max": 2},
        "features": {"x": {"min": 0.0, "max": 4.0, "mean": 1.6}},
    }


def test_split_without_clients_counts_nothing() -> None:
    assert SplitCounts().to_json() == {
        "clients": 0,
        "examples": 0,
        "examples_per_client": {"min": 0, "p50": 0, "max": 0},
        "labels": None,
        "labels_per_client": None,
        "features": {},
    }


def test_labels_sort_as_numbers() -> None:
    assert list(count([[10, 9, 2]]).to_json()["labels"]) == ["2", "9", "10"]


def test_regression_has_no_label_counts() -> None:
    counts = SplitCounts().add({}, np.array([1.5, 2.5], np.float32), np.array([0, 1, 2]))

    assert counts.to_json()["labels"] is None
    assert counts.to_json()["labels_per_client"] is None


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
