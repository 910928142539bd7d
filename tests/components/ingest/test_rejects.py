"""What was refused, and when it stops the run."""

import io
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from privet.components.ingest.batches import Malformed, RowBatch
from privet.components.ingest.problems import Problems
from privet.components.ingest.rejects import (
    Place,
    Rejects,
    check_rejects,
    check_splits,
    refused_rows,
    write_rejects,
)
from privet.components.shared.errors import DataError


@pytest.fixture
def batch() -> RowBatch:
    """Rows 11, 12 and 14; row 13 is malformed."""
    return RowBatch(
        np.array([11, 12, 14]),
        {"x": pa.array([math.nan, 2.5, 3.5]), "b": [{"c": b"\x00"}, b"\x01", None]},
        (Malformed(13, "no row", "the text"),),
    )


@pytest.fixture
def problems() -> Problems:
    found = Problems(3)
    found.mark_row(0, "bad x")
    return found


def test_batch_is_counted_in_the_order_of_its_rows(batch: RowBatch, problems: Problems) -> None:
    rejects = Rejects()
    rejects.add("a.csv", 4, refused_rows(batch, problems))

    assert rejects.rows == 4
    assert rejects.refused == 2
    assert rejects.first == [(Place("a.csv", 11), "bad x"), (Place("a.csv", 13), "no row")]


@pytest.mark.parametrize("keep", [False, True])
def test_list_holds_values_only_if_asked(batch: RowBatch, problems: Problems, keep: bool) -> None:
    file = io.BytesIO()
    write_rejects(file, "a.csv", batch, refused_rows(batch, problems), keep_values=keep)

    expected: list[dict[str, Any]] = [
        {"source": "a.csv", "row": 11, "reason": "bad x"},
        {"source": "a.csv", "row": 13, "reason": "no row"},
    ]
    if keep:
        expected[0]["values"] = {"x": "nan", "b": {"c": {"base64": "AA=="}}}
        expected[1]["values"] = "the text"
    assert [json.loads(line) for line in file.getvalue().splitlines()] == expected


def test_parts_merge_in_any_order() -> None:
    parts = [
        Rejects(rows=3, first=[(Place("b", row), "r") for row in range(5)], empty=1),
        Rejects(rows=4, first=[(Place("a", 7), "q")], first_torn=[Place("z", 1)], torn=1),
        Rejects(corrupt=[("f", "why")], small=2),
    ]
    for part, count in zip(parts, (5, 1, 0), strict=True):
        part.reasons["r"] = count
    merged = [Rejects(), Rejects()]
    for total, order in zip(merged, (parts, parts[::-1]), strict=True):
        for part in order:
            total.merge(part)

    assert merged[0] == merged[1]
    assert merged[0].to_json() == {
        "schema": 1,
        "private": False,
        "rows": 7,
        "refused": 6,
        "reasons": {"r": 6},
        "first": [
            {"source": "a", "row": 7, "reason": "q"},
            *({"source": "b", "row": row, "reason": "r"} for row in range(4)),
        ],
        "corrupt_files": [{"source": "f", "reason": "why"}],
        "empty_clients": 1,
        "first_empty_clients": [],
        "clients_in_two_splits": 1,
        "first_in_two_splits": [{"source": "z", "row": 1}],
        "clients_too_small": 2,
    }


def refused(count: int) -> Rejects:
    rejects = Rejects(rows=100, first=[(Place("a.csv", i), f"reason {i}") for i in range(5)])
    rejects.reasons.update({"common": count - 1, "rare": 1})
    return rejects


def test_fraction_of_refused_rows_may_be_reached_but_not_exceeded(config_of: Any) -> None:
    config = config_of("a.csv", max_reject_fraction=0.05)
    check_rejects(refused(5), config)

    with pytest.raises(DataError) as error:
        check_rejects(refused(6), config)
    assert str(error.value) == (
        "6 of 100 rows do not fit the schema, more than data.max_reject_fraction=0.05 allows. "
        "Most frequent: 5 x common; 1 x rare. First: a.csv row 0: reason 0; a.csv row 1: reason "
        "1; a.csv row 2: reason 2. Correct the rows or data.features / data.label, or raise the "
        "fraction to skip them."
    )


def test_clients_without_an_example_are_told_unless_allowed(config_of: Any) -> None:
    rejects = Rejects(rows=9, empty=4, first_empty=[Place("a.csv", row) for row in range(4)])
    with pytest.raises(DataError) as error:
        check_rejects(rejects, config_of("a.csv"))
    assert str(error.value) == (
        "4 clients have no valid example left, for example those of a.csv row 0, a.csv row 1, "
        "a.csv row 2. Correct their rows, or set data.allow_empty_clients: true to leave such "
        "clients out."
    )
    check_rejects(rejects, config_of("a.csv", allow_empty_clients=True))


@pytest.mark.parametrize("split", ["train", "eval"])
def test_split_without_a_client_is_named(config_of: Any, split: str) -> None:
    clients = {"train": 5, "eval": 5, split: 0}

    with pytest.raises(DataError, match=rf"^the {split} split has no client\. .*column=split\)"):
        check_splits(clients, config_of("a.csv"))
