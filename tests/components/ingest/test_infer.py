"""Inferring features: only names, types and sizes are taken from data."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from privet.components.ingest.batches import RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.infer import infer_features
from privet.components.shared.errors import ConfigError
from privet.components.shared.schema import FeatureConfig


def make_config(**changes: Any) -> IngestConfig:
    settings = {"client_id": "client", "label": {"column": "y"}, "files": "x"}
    return IngestConfig.from_mapping(settings | changes)


def infer(types: dict[str, Any], columns: dict[str, Any], **changes: Any) -> Any:
    rows = len(next(iter(columns.values()), ()))
    first = RowBatch(np.arange(1, rows + 1), columns)
    return infer_features(types, first, make_config(**changes))


def infer_typed(**columns: pa.Array) -> dict[str, FeatureConfig]:
    return infer({name: column.type for name, column in columns.items()}, columns)


def infer_untyped(**columns: Any) -> dict[str, FeatureConfig]:
    return infer(dict.fromkeys(columns), columns)


def picture(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


PNG = picture("PNG", "RGB", (5, 4))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 2], pa.int32()), {"dtype": "int64"}),
        (pa.array([1, 2], pa.uint8()), {"dtype": "int64"}),
        (pa.array([True, False]), {"dtype": "int64"}),
        (pa.array([1, 2], pa.float16()), {"dtype": "float32"}),
        (pa.array([1, 2], pa.decimal128(5, 2)), {"dtype": "float32"}),
        (pa.array([[1, 2]], pa.list_(pa.uint8(), 2)), {"dtype": "uint8", "shape": (2,)}),
        (pa.array([None, [1, 2, 3]], pa.list_(pa.uint8())), {"dtype": "uint8", "shape": (3,)}),
        (pa.array([[1, 2]], pa.large_list(pa.int8())), {"dtype": "int64", "shape": (2,)}),
        (
            pa.array([[[1, 2, 3]] * 2], pa.list_(pa.list_(pa.float32(), 3))),
            {"dtype": "float32", "shape": (2, 3)},
        ),
        (
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 4), np.uint8)),
            {"dtype": "uint8", "shape": (3, 4)},
        ),
        (pa.array([b"\xff\0\1"] * 2), {"dtype": "uint8", "shape": (3,)}),
        (pa.array([b"\xff\0\1"], pa.binary(3)), {"dtype": "uint8", "shape": (3,)}),
        (pa.array([PNG]), {"dtype": "uint8", "shape": (4, 5, 3), "encoding": "image"}),
        (
            pa.array([None, picture("JPEG", "L", (5, 4))]),
            {"dtype": "uint8", "shape": (4, 5), "encoding": "image"},
        ),
        (
            pa.array([picture("PNG", "P", (5, 4))]),
            {"dtype": "uint8", "shape": (4, 5, 3), "encoding": "image"},
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_typed_column(column: pa.Array, expected: dict[str, Any]) -> None:
    assert infer_typed(a=column) == {"a": FeatureConfig(columns="a", **expected)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["1", None, "-3"]), {"dtype": "int64"}),
        (pa.array(["1", "2.5", ""]), {"dtype": "float32"}),
        ([1, None, True], {"dtype": "int64"}),
        ([1, 2.5], {"dtype": "float32"}),
        ([None, [1, 2]], {"dtype": "int64", "shape": (2,)}),
        ([[1, 2], [1, 2.5]], {"dtype": "float32", "shape": (2,)}),
        ([[[1.0], [2.0]]], {"dtype": "float32", "shape": (2, 1)}),
        ([np.zeros((2, 3), np.uint8)] * 2, {"dtype": "uint8", "shape": (2, 3)}),
        ([PNG, PNG], {"dtype": "uint8", "shape": (4, 5, 3), "encoding": "image"}),
    ],
)
def test_untyped_column(values: Any, expected: dict[str, Any]) -> None:
    assert infer_untyped(a=values) == {"a": FeatureConfig(columns="a", **expected)}


@pytest.mark.parametrize(
    ("told", "values", "what"),
    [
        (pa.string(), pa.array(["secret"]), "text"),
        (pa.large_string(), pa.array(["7"], pa.large_string()), "text"),
        (pa.dictionary(pa.int32(), pa.string()), pa.array(["secret"]).dictionary_encode(), "text"),
        (pa.list_(pa.string()), pa.array([["secret"]]), "text"),
        (pa.binary(), pa.array([b"secret", b"people"]), "text"),
        (pa.binary(), pa.array([b"\xff", b"\xff\0"]), "bytes of unequal length"),
        (pa.binary(), pa.array([PNG[:30]]), "a damaged image in the first row"),
        (pa.date32(), pa.array([1], pa.date32()), r"values of type date32\[day\]"),
        (pa.list_(pa.int64()), pa.array([[]], pa.list_(pa.int64())), "an empty list"),
        (pa.list_(pa.list_(pa.int64())), pa.array([[[1], [1, 2]]]), "lists of unequal length"),
        (None, pa.array(["1", "secret"]), "text"),
        (None, [1, "secret"], "values of type int"),
        (None, [["secret"]], "lists of text"),
        (None, [[1, [2, 3]]], "lists of unequal length"),
        (None, [{"secret": 1}], "values of type dict"),
        (None, [None, None], "no value in the first rows"),
    ],
)
def test_what_cannot_be_inferred_is_named_with_the_ways_out(
    told: Any, values: Any, what: str
) -> None:
    expected = rf"cannot infer features from column a \({what}.*\)\. .*`vocabulary`.*leave out"
    with pytest.raises(ConfigError, match=expected) as error:
        infer({"a": told, "b": pa.int64()}, {"a": values, "b": pa.array([1] * len(values))})
    assert "secret" not in str(error.value)


def test_numbered_columns_are_one_feature() -> None:
    columns = {f"pixel_{index}": pa.array([index]) for index in (*range(2, 64), 0, 1)}
    found = infer_typed(before=pa.array([1.5]), **columns)
    assert found == {
        "before": FeatureConfig(columns="before"),
        "pixel": FeatureConfig(columns="pixel_{0..63}", dtype="int64"),
    }


def test_numbers_with_leading_zeros_are_one_feature_too() -> None:
    columns = {f"p{index:03}": pa.array([1.0]) for index in range(98, 102)}
    assert infer_typed(**columns) == {
        "p": FeatureConfig(columns=("p098", "p099", "p100", "p101")),
    }


def test_whole_numbers_among_others_belong_together_only_without_types() -> None:
    texts = {f"x{index}": pa.array(["0", "1.5" if index else "1"]) for index in range(3)}
    assert infer_untyped(**texts) == {"x": FeatureConfig(columns="x{0..2}")}

    typed = {f"x{index}": pa.array([0, 1], pa.int64() if index else pa.int32()) for index in (0, 1)}
    assert list(infer_typed(**typed, x2=pa.array([1]))) == ["x0", "x1", "x2"]


def test_two_gaps_and_lists_stay_apart() -> None:
    columns = {name: pa.array([1]) for name in ("a1", "a2", "b1", "b2", "b4", "c1", "c2")}
    columns |= {"c3": pa.array([[1]]), "d5": pa.array([1]), "d6": pa.array([1])}
    found = infer_typed(**columns, d7=pa.array([1]))
    assert list(found) == ["a1", "a2", "b1", "b2", "b4", "c1", "c2", "c3", "d"]


def test_client_label_split_and_partition_are_no_features() -> None:
    types = dict.fromkeys(("client", "y", "part", "x"), pa.int64())
    columns = {name: pa.array([1]) for name in types}
    assert list(infer(types, columns, split={"column": "part"})) == ["x"]
    by_feature = {"client_id": None, "partition": {"kind": "by_feature", "column": "part"}}
    assert list(infer(types, columns, **by_feature)) == ["client", "x"]


def test_names_are_valid_and_distinct() -> None:
    names = ("label", "1st value", "größe (cm)", "a b", "a-b", "_", "Δ")
    found = infer_typed(**{name: pa.array([1]) for name in names})
    assert list(found) == [
        "label_feature",
        "feature_1st_value",
        "gr_e_cm",
        "a_b",
        "a_b_2",
        "feature",
        "feature_2",
    ]
    assert tuple(feature.columns for feature in found.values()) == names
    assert make_config().schema_of(found)


def test_ranges_are_never_inferred() -> None:
    found = infer_typed(a=pa.array([3, 7]), b=pa.array([[1, 200]], pa.list_(pa.uint8(), 2)))
    assert all(f.minimum is None and f.maximum is None for f in found.values())


def test_column_whose_name_looks_like_a_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="looks like a range of columns"):
        infer_typed(**{"a{0..3}": pa.array([1])})


def test_nothing_beside_client_and_label_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no column beside the client id and the label"):
        infer_typed(client=pa.array(["a"]), y=pa.array([1]))


def test_type_suffices_where_the_first_rows_have_no_value() -> None:
    assert infer({"a": pa.int64()}, {}) == {"a": FeatureConfig(columns="a", dtype="int64")}
