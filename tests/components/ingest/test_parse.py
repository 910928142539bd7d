"""A batch of rows: arrays, or a reason that never shows the value."""

import datetime
import decimal
import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from privet.components.ingest.batches import RowBatch, batch_of_rows
from privet.components.ingest.parse import ParsedBatch, parse_batch
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


def schema_of(feature: dict[str, Any], label: dict[str, Any] | None = None) -> Schema:
    """One feature `x` of a column of that name, and a regression label `y`."""
    return Schema.from_mapping(
        {
            "client_id": "client",
            "features": {"x": {"columns": "x", **feature}},
            "label": label or {"column": "y"},
        }
    )


def valid(**changes: Any) -> dict[str, Any]:
    return {"client": "ann", "x_0": "1.5", "x_1": "-1", "count": "7", "label": "2", **changes}


def parse(
    rows: list[dict[str, Any]], schema: Schema = SCHEMA, split: str | None = None
) -> ParsedBatch:
    names = list(schema.columns) + ([split] if split else [])
    return parse_batch(batch_of_rows(range(1, len(rows) + 1), rows, names), schema, split)


def values(feature: dict[str, Any], *column: Any) -> tuple[list[Any], dict[int, str]]:
    """The values of a feature for rows that hold these, and the reasons."""
    rows = [{"client": "a", "y": 0, "x": value} for value in column]
    parsed = parse(rows, schema_of(feature))
    return parsed.features["x"].tolist(), parsed.problems.found()


def reason_of(row: dict[str, Any], schema: Schema = SCHEMA, split: str | None = None) -> str:
    (reason,) = parse([row], schema, split).problems.found().values()
    return reason


@pytest.mark.parametrize(
    "row", [valid(), valid(x_0=1.5, x_1=-1, count=7.0, label=np.int64(2), more="x")]
)
def test_text_and_typed_values_give_the_same_example(row: dict[str, Any]) -> None:
    parsed = parse([row])

    assert parsed.features["x"].tolist() == [[1.5, -1.0]]
    assert parsed.features["x"].dtype == np.float32
    assert parsed.features["count"].tolist() == [[7]]
    assert parsed.features["count"].dtype == np.int64
    assert parsed.labels.tolist() == [2]
    assert parsed.clients.to_pylist() == ["ann"]
    assert not parsed.problems.found()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"x_0": None}, "column x_0 is missing"),
    ({"x_1": ""}, "column x_1 is missing"),
    ({"x_0": "SECRET"}, "column x_0 is not a number"),
    ({"x_0": "1_0"}, "column x_0 is not a number"),
    ({"x_0": [3]}, "column x_0 is not a number"),
    ({"x_0": "nan"}, "column x_0 is not a finite float32"),
    ({"x_0": math.inf}, "column x_0 is not a finite float32"),
    ({"x_0": 1e39}, "column x_0 is not a finite float32"),
    ({"x_0": 10**400}, "column x_0 is not a finite float32"),
    ({"x_1": "9.01"}, "column x_1 is outside [-1.0, 9.0]"),
    ({"x_0": "-1.01"}, "column x_0 is outside [-1.0, 9.0]"),
    ({"count": "7.5"}, "column count is not a whole number"),
    ({"count": "0x1F"}, "column count is not a whole number"),
    ({"count": 7.5}, "column count is not a whole number"),
    ({"count": decimal.Decimal("7.5")}, "column count is not a whole number"),
    ({"count": math.nan}, "column count is not a whole number"),
    ({"count": 2**63}, "column count is not a whole number"),
    ({"count": datetime.date(2026, 1, 1)}, "column count is not a whole number"),
    ({"label": "3"}, "label label is not a class from 0 to 2"),
    ({"label": -1}, "label label is not a class from 0 to 2"),
    ({"label": "cat"}, "column label is not a whole number"),
    ({"label": None}, "column label is missing"),
    ({"client": None}, "the client id is missing"),
    ({"client": ""}, "the client id is missing"),
    ({"client": "a\0"}, "the client id ends in a NUL character"),
    ({"client": "x" * 257}, "the client id is longer than 256 bytes"),
    ({"client": b"\xff"}, "the client id is not text in UTF-8"),
    ({"client": "\ud800"}, "the client id is not text in UTF-8"),
    ({"client": 1.5}, "the client id is not text"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_refused_with_a_reason_that_names_the_column(changes: dict[str, Any], reason: str) -> None:
    assert reason_of(valid(**changes)) == reason


def test_other_rows_of_a_batch_are_not_touched_by_a_bad_one() -> None:
    rows = [valid(**changes) for changes, _ in REFUSED]
    mixed = [row for bad in rows for row in (bad, valid(x_0=3, count=9))]
    parsed = parse(mixed)

    assert parsed.problems.found() == {2 * row: reason for row, (_, reason) in enumerate(REFUSED)}
    assert parsed.features["x"][1::2].tolist() == [[3.0, -1.0]] * len(rows)
    assert parsed.features["count"][1::2].tolist() == [[9]] * len(rows)


def test_first_reason_of_a_row_is_told() -> None:
    assert reason_of(valid(x_0="?", label="?")) == "column x_0 is not a number"
    assert reason_of(valid(client=None, x_0="?")) == "the client id is missing"


@pytest.mark.parametrize("value", [-1, 9, "9.0", decimal.Decimal("9")])
def test_bounds_are_part_of_the_range(value: Any) -> None:
    assert parse([valid(x_0=value)]).features["x"][0, 0] == float(value)


def test_one_sided_range() -> None:
    assert values({"minimum": 5}, 1e30, 4.9) == (
        [[np.float32(1e30)], [np.float32(4.9)]],
        {1: "column x is outside [5.0, None]"},
    )
    assert values({"maximum": -5}, -1e30, -4.9)[1] == {1: "column x is outside [None, -5.0]"}


def test_regression_label_is_a_number() -> None:
    parsed = parse([{"client": "a", "x": 1, "y": "-2.25"}], schema_of({}))

    assert parsed.labels.tolist() == [-2.25]
    assert parsed.labels.dtype == np.float32


def test_label_by_name() -> None:
    label = {"column": "y", "classes": 2, "names": ["cat", "dog"], "by_name": True}
    parsed = parse(
        [{"client": "a", "x": 1, "y": name} for name in ("dog", "cat", "cow", "")],
        schema_of({}, label),
    )

    assert parsed.labels[:2].tolist() == [1, 0]
    assert parsed.problems.found() == {
        2: "label y is none of the class names",
        3: "column y is missing",
    }


@pytest.mark.parametrize(
    ("value", "client"),
    [("ann", "ann"), (7, "7"), ("  ", "  "), (0, "0"), ("漢", "漢"), (b"b", "b")],
)
def test_client_is_the_text_of_its_column(value: Any, client: str) -> None:
    assert parse([valid(client=value)]).clients.to_pylist() == [client]


def test_split_is_one_of_three() -> None:
    parsed = parse([valid(s=name) for name in ("train", "eval", "test")], split="s")
    assert parsed.splits is not None
    assert parsed.splits.tolist() == [0, 1, 2]
    for value in ("validation", "", None, ["eval"], "eval_adapt"):
        assert reason_of(valid(s=value), split="s") == "column s must be one of train, eval, test"


def test_uint8_holds_0_to_255() -> None:
    assert values({"dtype": "uint8"}, 0, "255", 256, -1, 1.5) == (
        [[0], [255], [0], [255], [0]],
        {
            2: "column x is not a uint8",
            3: "column x is not a uint8",
            4: "column x is not a whole number",
        },
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2, 3, 4, 5, 6]] * 2, pa.list_(pa.uint8(), 6)),
        pa.array([[1, 2, 3, 4, 5, 6]] * 2, pa.list_(pa.int64())),
        pa.array([[[1, 2, 3], [4, 5, 6]]] * 2),
        pa.array([[[1, 2, 3], [4, 5, 6]]] * 3, pa.list_(pa.list_(pa.uint8(), 3), 2)).slice(1),
        pa.array([bytes([1, 2, 3, 4, 5, 6])] * 2),
        pa.array([bytes([1, 2, 3, 4, 5, 6])] * 3, pa.binary(6)).slice(1),
        pa.array([bytes([1, 2, 3, 4, 5, 6])] * 2).dictionary_encode(),
        [[1, 2, 3, 4, 5, 6], ("1", "2", 3, 4, 5, 6.0)],
        [np.arange(1, 7).reshape(2, 3), bytes([1, 2, 3, 4, 5, 6])],
    ],
    ids=lambda column: str(getattr(column, "type", "python"))[:40],
)
def test_one_column_of_many_values_fills_the_shape(column: Any) -> None:
    batch = RowBatch(np.array([1, 2]), {"client": ["a", "b"], "y": [0, 0], "x": column})
    parsed = parse_batch(batch, schema_of({"dtype": "uint8", "shape": [2, 3]}))

    assert parsed.features["x"].tolist() == [[[1, 2, 3], [4, 5, 6]]] * 2
    assert parsed.features["x"].dtype == np.uint8
    assert not parsed.problems.found()


@pytest.mark.parametrize("as_arrow", [False, True])
def test_odd_vectors_are_refused_and_the_usual_kept(as_arrow: bool) -> None:
    rows: list[Any] = [[1.0, 2.0], None, [3.0], [4.0, None], [5.0, 6.0], [math.nan, 1.0]]
    column = pa.array(rows) if as_arrow else rows
    batch = RowBatch(np.arange(6), {"client": ["a"] * 6, "y": [0] * 6, "x": column})
    parsed = parse_batch(batch, schema_of({"shape": [2]}))

    assert parsed.features["x"][[0, 4]].tolist() == [[1, 2], [5, 6]]
    assert parsed.problems.found() == {
        1: "column x is missing",
        2: "column x does not hold 2 values",
        3: "column x is missing",
        5: "column x is not a finite float32",
    }


@pytest.mark.parametrize("as_arrow", [False, True])
def test_missing_values_are_filled_where_a_value_is_given(as_arrow: bool) -> None:
    rows: list[Any] = [1.0, None, math.nan, 2.0]
    column = pa.array(rows) if as_arrow else rows
    batch = RowBatch(np.arange(4), {"client": ["a"] * 4, "y": [0] * 4, "x": column})
    parsed = parse_batch(batch, schema_of({"fill_missing": -7}))

    assert parsed.features["x"].tolist() == [[1], [-7], [-7], [2]]
    assert not parsed.problems.found()
    assert values({"fill_missing": 3, "shape": [2]}, None, [1, None], [math.nan, 2.0])[0] == [
        [3, 3],
        [1, 3],
        [3, 2],
    ]


def test_column_that_no_row_has_is_missing() -> None:
    batch = RowBatch(np.array([1]), {"client": ["a"], "y": [0]})

    assert parse_batch(batch, schema_of({})).problems.found() == {0: "column x is missing"}


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], axis=-1)


def test_images_are_decoded_to_the_shape() -> None:
    image = {"encoding": "image", "dtype": "uint8"}

    assert values({**image, "shape": [2, 3]}, encoded(GREY, "PNG"))[0] == [GREY.tolist()]
    assert values({**image, "shape": [2, 3, 1]}, encoded(GREY, "PNG"))[0] == [
        GREY[..., None].tolist()
    ]
    assert values({**image, "shape": [2, 3, 3]}, encoded(COLOUR, "PNG"))[0] == [COLOUR.tolist()]
    flat = np.full((8, 8), 77, np.uint8)
    assert values({**image, "shape": [8, 8]}, encoded(flat, "JPEG"))[0] == [flat.tolist()]


def test_broken_images_are_refused() -> None:
    good = encoded(GREY, "PNG")
    found = values(
        {"encoding": "image", "dtype": "uint8", "shape": [2, 3]},
        good,
        good[: len(good) // 2],
        encoded(GREY.T.copy(), "PNG"),
        encoded(GREY, "BMP"),
        None,
        b"",
        "text",
    )

    assert found[0][0] == GREY.tolist()
    assert found[1] == {
        1: "column x is not a PNG or JPEG image",
        2: "column x is not an image of 2 x 3 pixels",
        3: "column x is not a PNG or JPEG image",
        4: "column x is missing",
        5: "column x is missing",
        6: "column x is not a PNG or JPEG image",
    }


WORDS = {"dtype": "int64", "vocabulary": ["red", "green", "7"]}


def test_string_becomes_its_index_in_the_vocabulary() -> None:
    assert values(WORDS, "green", "red", 7, "blue", None) == (
        [[1], [0], [2], [0], [0]],
        {
            3: "column x holds a string that is not in the vocabulary",
            4: "column x is missing",
        },
    )
    assert values({**WORDS, "unknown": "index"}, "blue", "red")[0] == [[3], [0]]
    assert values({**WORDS, "fill_missing": "red"}, "", None)[0] == [[0], [0]]
    assert values({**WORDS, "shape": [2]}, ["red", "green"], ["red"]) == (
        [[0, 1], [0, 0]],
        {1: "column x does not hold 2 strings"},
    )


def test_text_is_cut_or_padded_to_the_shape() -> None:
    words = {**WORDS, "tokens": "words", "shape": [3], "unknown": "index"}
    assert values(words, "red  green", "a red 7 green", " ") == (
        [[1, 2, 0], [4, 1, 3], [0, 0, 0]],
        {},
    )
    letters = {**WORDS, "vocabulary": ["a", "b"], "tokens": "characters", "shape": [2]}
    assert values(letters, "ab", "bbb", "b", "c") == (
        [[1, 2], [2, 2], [2, 0], [0, 0]],
        {3: "column x holds a string that is not in the vocabulary"},
    )


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
any_row = st.dictionaries(
    st.sampled_from(["client", "split", *SCHEMA.columns]), anything, max_size=8
)
A_ROW = {"client": "ann", "split": "eval", "x_0": 1, "x_1": 1, "count": 1, "label": 1}


@given(st.lists(any_row, max_size=4))
@example([A_ROW | {"x_0": decimal.Decimal("sNaN")}])
@example([A_ROW | {"count": decimal.Decimal("Infinity")}])
@example([A_ROW | {"x_0": 10**5000}])
def test_any_row_is_an_example_or_a_reason(rows: list[dict[str, Any]]) -> None:
    parsed = parse(rows, split="split")
    fine = parsed.problems.fine

    assert parsed.features["x"].shape == (len(rows), 2)
    assert np.all((parsed.features["x"][fine] >= -1) & (parsed.features["x"][fine] <= 9))
    assert set(parsed.labels[fine].tolist()) <= {0, 1, 2}
    assert "" not in parsed.clients.filter(pa.array(fine)).to_pylist()


@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=6))
def test_a_row_fares_the_same_alone_and_among_others(pairs: list[tuple[Any, Any]]) -> None:
    rows = [valid(x_0=first, count=second) for first, second in pairs]
    together = parse(rows)
    for number, row in enumerate(rows):
        alone = parse([row])
        assert alone.problems.found().get(0) == together.problems.found().get(number)
        if alone.problems.fine[0]:
            assert (alone.features["x"][0] == together.features["x"][number]).all()
            assert (alone.features["count"][0] == together.features["count"][number]).all()


odd_values = st.one_of(
    anything,
    st.sampled_from(["nan", "NaN", "-inf", "1", " 1", "1_0", "ab", "", b"7", b"", math.nan]),
    st.integers(2**53, 2**53 + 9),
    st.integers(2**53, 2**53 + 9).map(float),
    st.lists(st.sampled_from(["nan", "ab", 1, 2.5, None, math.nan, 2**60 + 1]), max_size=3),
    st.lists(st.integers(0, 9), min_size=2, max_size=2).map(np.array),
)


@pytest.mark.parametrize(
    "feature",
    [
        {"dtype": "int64"},
        {"fill_missing": 5},
        {"dtype": "int64", "fill_missing": 5},
        {"shape": [2]},
        {"shape": [2], "fill_missing": 5},
        {"dtype": "uint8", "shape": [2]},
        {"dtype": "int64", "vocabulary": ["ab", "1"]},
        {"dtype": "int64", "vocabulary": ["ab", "1"], "shape": [2], "fill_missing": "ab"},
        {"dtype": "int64", "vocabulary": ["a", "b"], "shape": [2], "tokens": "characters"},
    ],
)
@given(column=st.lists(odd_values, min_size=2, max_size=6))
def test_no_value_changes_what_another_one_gives(
    feature: dict[str, Any], column: list[Any]
) -> None:
    """Else one client's row would change the stored data of another, and privacy with it."""
    together, reasons = values(feature, *column)
    for row, value in enumerate(column):
        alone, reason = values(feature, value)
        assert reason.get(0) == reasons.get(row)
        if not reason:
            assert alone[0] == together[row]


@given(
    st.lists(st.floats(width=64) | st.none(), min_size=1, max_size=5)
    | st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1, max_size=5)
    | st.lists(st.text("0123456789.eE+-_xX nainf", max_size=8) | st.none(), min_size=1, max_size=5)
    | st.lists(st.booleans() | st.none(), min_size=1, max_size=5)
)
def test_arrow_and_python_values_mean_the_same(column: list[Any]) -> None:
    rows = {"client": ["a"] * len(column), "y": [0] * len(column)}
    for feature in ({}, {"dtype": "int64"}, {"dtype": "uint8"}, {"fill_missing": 2}):
        parsed = [
            parse_batch(RowBatch(np.arange(len(column)), {**rows, "x": x}), schema_of(feature))
            for x in (column, pa.array(column))
        ]
        assert parsed[0].problems.found() == parsed[1].problems.found()
        fine = parsed[0].problems.fine
        assert parsed[0].features["x"][fine].tolist() == parsed[1].features["x"][fine].tolist()


@given(
    st.sampled_from(["x_0", "count", "label", "split"]),
    st.integers(2**64, 2**90) | st.from_regex(r"S[A-Z]{12}", fullmatch=True),
)
def test_reason_never_quotes_the_value(column: str, value: Any) -> None:
    assert str(value) not in reason_of({**A_ROW, column: value}, split="split")
