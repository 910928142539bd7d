"""The run's nodes as rows: below what they take from, joined by as few lines as say it."""

from typing import Any

from privet.components.report.dag import Row, rows_of


def nodes(**inputs: str) -> list[dict[str, Any]]:
    return [{"name": name, "inputs": taken.split()} for name, taken in inputs.items()]


def names(rows: list[Row]) -> list[list[str | None]]:
    return [[slot["name"] if slot else None for slot in row.slots] for row in rows]


def test_nodes_stand_below_all_that_they_take_from() -> None:
    rows = rows_of(nodes(a="", b="a", c="b a", d="c a"))
    assert names(rows) == [["a"], ["b"], ["c"], ["d"]]
    # a's lines to c and d are left out: the way through b says as much.
    assert [row.links for row in rows] == [[(50.0, 50.0)]] * 3 + [[]]


def test_branches_stand_beside_each_other_and_meet_again() -> None:
    rows = rows_of(nodes(a="", b="a", c="a", d="b c"))
    assert names(rows) == [["a"], ["b", "c"], ["d"]]
    assert rows[0].links == [(50.0, 25.0), (50.0, 75.0)]
    assert sorted(rows[1].links) == [(25.0, 50.0), (75.0, 50.0)]


def test_line_that_crosses_a_row_takes_a_slot_of_it() -> None:
    rows = rows_of(nodes(a="", b="a", c="b", side="a", end="c side"))
    assert names(rows) == [["a"], ["b", "side"], ["c", None], ["end"]]
    assert rows[2].columns == "minmax(0, 3fr) minmax(0, 1fr)"
    assert sorted(rows[2].links) == [(37.5, 50.0), (87.5, 50.0)]


def test_unknown_inputs_and_circles_do_no_harm() -> None:
    assert names(rows_of(nodes(a="b elsewhere a", b="a"))) == [["a"], ["b"]]
    assert rows_of([]) == []
