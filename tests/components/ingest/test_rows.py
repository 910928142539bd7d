"""One row: an example, or a reason that never shows the value."""

import datetime
import decimal
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privet.components.ingest import rows
from privet.components.shared.schema import Schema

SCHEMA = Schema.from_mapping(
    {
        "client_id": "client",
        "features": {
            "x": {"columns": ["x_0", "x_1"], "minimum": -1, "maximum": 9},
            "count": {"columns": "count", "dtype": "int64"},
        },
        "label": {"column": "label", "classes": 3},
    }
)
VALUES = SCHEMA.from_mapping(
    {
        "client_id": "client",
        "features": {"x": {"columns": "x_0"}},
        "label": {"column": "label"},
    }
)


def valid(**changes: Any) -> dict[str, Any]:
    return {"client": "ann", "x_0": "1.5", "x_1": "-1", "count": "7", "label": "2", **changes}


@pytest.mark.parametrize(
    "row", [valid(), valid(x_0=1.5, x_1=-1, count=7.0, label=np.int64(2), more="x")]
)
def test_text_and_typed_values_give_the_same_example(row: dict[str, Any]) -> None:
    example_ = rows.parse_example(row, SCHEMA)

    assert example_.features["x"].tolist() == [1.5, -1.0]
    assert example_.features["x"].dtype == np.float32
    assert example_.features["count"].tolist() == [7]
    assert example_.features["count"].dtype == np.int64
    assert example_.label == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x_0": None}, "column x_0 is missing"),
        ({"x_1": ""}, "column x_1 is missing"),
        ({"x_0": "SECRET"}, "column x_0 is not a number"),
        ({"x_0": [3]}, "column x_0 is not a number"),
        ({"x_0": "nan"}, "column x_0 is not a finite float32"),
        ({"x_0": math.inf}, "column x_0 is not a finite float32"),
        ({"x_0": 1e39}, "column x_0 is not a finite float32"),
        ({"x_0": 10**400}, "column x_0 is not a finite float32"),
        ({"x_1": "9.01"}, "column x_1 is outside [-1.0, 9.0]"),
        ({"x_0": "-1.01"}, "column x_0 is outside [-1.0, 9.0]"),
        ({"count": "7.5"}, "column count is not a whole number"),
        ({"count": 7.5}, "column count is not a whole number"),
        ({"count": decimal.Decimal("7.5")}, "column count is not a whole number"),
        ({"count": math.nan}, "column count is not a whole number"),
        ({"count": 2**63}, "column count is not a whole number"),
        ({"count": datetime.date(2026, 1, 1)}, "column count is not a whole number"),
        ({"label": "3"}, "label label is not a class from 0 to 2"),
        ({"label": -1}, "label label is not a class from 0 to 2"),
        ({"label": "cat"}, "column label is not a whole number"),
        ({"label": None}, "column label is missing"),
    ],
)
def test_refused_with_a_reason_that_names_the_column(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(rows.RowRejectedError) as error:
        rows.parse_example(valid(**changes), SCHEMA)

    assert str(error.value) == reason


@pytest.mark.parametrize("value", [-1, 9, "9.0", decimal.Decimal("9")])
def test_bounds_are_part_of_the_range(value: Any) -> None:
    assert rows.parse_example(valid(x_0=value), SCHEMA).features["x"][0] == float(value)


def test_one_sided_range_and_none(schema_of: Any) -> None:
    low = schema_of({"x": {"columns": "x", "minimum": 5}}, None)
    high = schema_of({"x": {"columns": "x", "maximum": -5}}, None)

    assert rows.parse_example({"x": 1e30, "target": 0}, low).features["x"] == np.float32(1e30)
    assert rows.parse_example({"x": -1e30, "target": 0}, high).features["x"] == np.float32(-1e30)
    for schema, value in ((low, 4.9), (high, -4.9)):
        with pytest.raises(rows.RowRejectedError, match="outside"):
            rows.parse_example({"x": value, "target": 0}, schema)


def test_regression_label_is_a_number() -> None:
    assert rows.parse_example({"x_0": 1, "label": "-2.25"}, VALUES).label == -2.25


@pytest.mark.parametrize(
    ("value", "client"), [("ann", "ann"), (7, "7"), ("  ", "  "), (0, "0"), ("漢", "漢")]
)
def test_client_is_the_text_of_its_column(value: Any, client: str) -> None:
    assert rows.client_of({"client": value}, SCHEMA) == client


@pytest.mark.parametrize("row", [{}, {"client": None}, {"client": ""}])
def test_row_without_a_client_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(rows.RowRejectedError, match=r"^the client id is missing$"):
        rows.client_of(row, SCHEMA)


@pytest.mark.parametrize("value", ["a\0", "\0"])
def test_client_that_the_store_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(rows.RowRejectedError, match=r"^the client id ends in a NUL character$"):
        rows.client_of({"client": value}, SCHEMA)


def test_split_is_one_of_three() -> None:
    assert rows.split_of({"s": "eval"}, "s") == "eval"
    for value in ("validation", "", None, ["eval"]):
        with pytest.raises(
            rows.RowRejectedError, match=r"^column s must be one of train, eval, test$"
        ):
            rows.split_of({"s": value}, "s")


anything = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.binary(max_size=8),
    st.integers(),
    st.integers(2**1000, 2**1100),
    st.floats(allow_subnormal=False),
    st.booleans(),
    st.decimals(),
    st.datetimes(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.from_regex(r"\s*[-+]?[0-9_]{1,5}(\.[0-9]*)?(e[0-9]{1,4})?", fullmatch=True),
)
any_rows = st.dictionaries(
    st.sampled_from(["client", "split", *SCHEMA.columns]), anything, max_size=8
)


@given(any_rows)
@example({"client": "ann", "x_0": decimal.Decimal("sNaN"), "x_1": 1, "count": 1, "label": 1})
@example({"x_0": 1, "x_1": 1, "count": decimal.Decimal("Infinity"), "label": 1})
@example({"x_0": 10**5000, "x_1": 1, "count": 1, "label": 1})
def test_any_row_is_an_example_or_a_reason(row: dict[str, Any]) -> None:
    for parse in (
        lambda: rows.client_of(row, SCHEMA),
        lambda: rows.split_of(row, "split"),
        lambda: rows.parse_example(row, SCHEMA),
    ):
        try:
            parsed = parse()
        except rows.RowRejectedError:
            continue
        if isinstance(parsed, rows.Example):
            assert parsed.features["x"].shape == (2,)
            assert np.all((parsed.features["x"] >= -1) & (parsed.features["x"] <= 9))
            assert parsed.label in (0, 1, 2)


@given(
    st.sampled_from(["x_0", "count", "label", "split"]),
    st.integers(2**64, 2**90) | st.from_regex(r"S[A-Z]{12}", fullmatch=True),
)
def test_reason_never_quotes_the_value(column: str, value: Any) -> None:
    def parse() -> None:
        rows.parse_example(valid(**{column: value}), SCHEMA)
        rows.split_of({column: value}, "split")

    with pytest.raises(rows.RowRejectedError) as error:
        parse()
    assert str(value) not in str(error.value)
