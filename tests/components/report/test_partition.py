"""Simulated clients in the report: what is drawn of them, and the colours of the cells."""

from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest

from privet.components.report.data_charts import clients_by_label
from privet.components.report.partition import (
    MOST_CLIENTS,
    ClientLabels,
    client_labels,
    how_divided,
)

TWO_CLIENTS: dict[str, Any] = {
    "kind": "shards",
    "clients": 3,
    "shown": ["client-0000", "client-0001"],
    "labels": {"10": [0, 4], "9": [3, 0]},
}


def picture(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart[chart.index("<svg") : chart.index("</svg>") + 6])


def cells_by_opacity(chart: str) -> dict[float, int]:
    """Opacity -> number of cells drawn with it."""
    cells = picture(chart).find(".//g[@class='mark-rect role-mark layer_0_marks']")
    return Counter(float(cell.attrib["opacity"]) for cell in (cells if cells is not None else ()))


def test_facts_become_rows_in_order_with_the_size_of_every_client() -> None:
    drawn = client_labels(TWO_CLIENTS)
    assert drawn == ClientLabels(
        clients=["client-0000", "client-0001"],
        counts={"9": [3, 0], "10": [0, 4]},
        sizes=[3, 4],
        population=3,
        labels=2,
    )
    assert list(drawn.counts) == ["9", "10"]
    assert drawn.caption.endswith("Drawn are 2 of 3 clients. Exact counts: not private.")


@pytest.mark.parametrize(
    "facts", [None, {}, {"kind": "iid", "shown": [], "labels": {"0": []}}, {"shown": ["a"]}]
)
def test_nothing_is_drawn_without_clients_or_labels(facts: dict[str, Any] | None) -> None:
    assert client_labels(facts) is None


def test_way_of_division_is_said_in_words() -> None:
    assert how_divided(TWO_CLIENTS) == "sorted by label and dealt out in runs"
    assert how_divided({"kind": "new"}) == "by a partition"
    assert how_divided(None) is None


def test_many_clients_and_labels_are_cut_and_the_sizes_stay_whole() -> None:
    labels = {f"label {number}": [number] * 100 for number in range(30)}
    facts = {"clients": 5000, "shown": [str(number) for number in range(100)], "labels": labels}
    drawn = client_labels(facts)
    assert drawn is not None
    assert len(drawn.clients) == len(drawn.sizes) == MOST_CLIENTS
    assert drawn.sizes[0] == sum(range(30))
    assert sorted(drawn.counts) == sorted(f"label {number}" for number in range(6, 30))
    assert {len(counts) for counts in drawn.counts.values()} == {MOST_CLIENTS}
    assert "Drawn are 60 of 5,000 clients. Drawn are the 24 most frequent of 30 labels." in (
        drawn.caption
    )
    assert "The 6 rarest labels have no row." in clients_by_label(drawn)


def test_every_count_but_zero_has_a_cell_and_more_examples_a_stronger_one() -> None:
    # Limits for at most 50 examples: 1, 2, 8, 18, 32.
    counts = {"0": [0, 1, 2, 7], "1": [8, 50, 31, 32]}
    sizes = [sum(pair) for pair in zip(*counts.values(), strict=True)]
    svg = clients_by_label(ClientLabels(["a", "b", "c", "d"], counts, sizes, 4, 2))
    assert cells_by_opacity(svg) == {0.25: 1, 0.44: 2, 0.62: 1, 0.81: 1, 1.0: 2}
    shown = [element.text for element in picture(svg).iter("text")]
    assert [text for text in shown if text and "+" in text] == ["1+", "8+", "32+"]
    assert "4 clients" in shown
    assert "at most 50 in a cell" in svg
    assert "from 8 to 51." in svg


def test_clients_without_examples_are_drawn_as_empty() -> None:
    assert cells_by_opacity(clients_by_label(ClientLabels(["a"], {"0": [0]}, [0], 1, 1))) == {}


def test_a_page_of_cells_stays_small() -> None:
    counts = {str(label): [1 + label + client for client in range(60)] for label in range(24)}
    svg = clients_by_label(ClientLabels(["a"] * 60, counts, [1] * 60, 60, 24))
    assert sum(cells_by_opacity(svg).values()) == 24 * 60
    assert len(svg) < 400_000
