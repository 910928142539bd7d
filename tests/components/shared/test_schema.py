"""The schema of one example: columns, shapes, tasks, and what it refuses."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.shared.schema import FeatureConfig, LabelConfig, Schema


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("age", ("age",)),
        ("pixel_{0..2}", ("pixel_0", "pixel_1", "pixel_2")),
        ("x{9..11}_mm", ("x9_mm", "x10_mm", "x11_mm")),
        (["a", "b_{1..2}", "c"], ("a", "b_1", "b_2", "c")),
        ("not a {range}", ("not a {range}",)),
    ],
)
def test_ranges_of_columns_are_expanded_in_order(columns: Any, names: tuple[str, ...]) -> None:
    feature = FeatureConfig.from_mapping({"columns": columns})

    assert feature.column_names == names
    assert feature.example_shape == (len(names),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"columns": []}, r"columns=\[\] must name at least one column"),
        ({"columns": "x_{3..1}"}, "must name at least one column"),
        ({"columns": ["a", "x_{0..1}", "x_1"]}, "names a column twice"),
        (
            {"columns": "a", "minimum": 2, "maximum": 1},
            "minimum=2.0 must not exceed maximum=1.0",
        ),
        ({"columns": "a", "dtype": "float64"}, "'float64' is none of float32, int64"),
    ],
)
def test_feature_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureConfig.from_mapping(values)


def test_learned_vocabulary_is_stored_and_marked_as_private(schema_of: Any) -> None:
    learns = {"columns": "a", "dtype": "int64", "learn_vocabulary": 9}
    public = {"columns": "b", "dtype": "int64", "vocabulary": ["x"]}
    schema = schema_of({"a": learns, "b": public}, None)
    stored = schema.with_learned({"a": ("u", "v")})

    assert schema.learned_features == ()
    assert stored.learned_features == ("a",)
    assert stored.features["a"].vocabulary == ("u", "v")
    assert stored.features["a"].learn_vocabulary is None
    assert stored.features["a"].index_range == (0, 1)
    assert stored.features["b"] == schema.features["b"]
    assert Schema.from_json(stored.to_json()) == stored


def test_learned_features_are_those_of_features() -> None:
    with pytest.raises(ConfigError, match=r"learned_features=\('c',\) must name features"):
        Schema.from_mapping(
            {
                "client_id": "id",
                "features": {"b": {"columns": "b"}},
                "label": {"column": "y"},
                "learned_features": ["c"],
            }
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"column": "y", "classes": 1}, "classes=1 must be >= 2"),
        ({"column": "y", "classes": 2, "names": ["a"]}, "names has 1 entries for classes=2"),
        ({"column": "y", "names": ["a"]}, "names has 1 entries for classes=None"),
    ],
)
def test_label_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelConfig.from_mapping(values)


@pytest.mark.parametrize(
    ("features", "client_id", "message"),
    [
        ({}, "client", "must name at least one feature"),
        ({"a b": "x"}, "client", "feature name 'a b' must be an identifier"),
        ({"label": "x"}, "client", "feature name 'label' is taken by the label"),
        ({"a": "x", "b": "x"}, "client", r"columns \['x'\] are used more than once"),
        ({"a": "target"}, "client", r"columns \['target'\] are used more than once"),
        ({"a": "x"}, "x", r"columns \['x'\] are used more than once"),
    ],
)
def test_schema_refuses(features: dict[str, str], client_id: str, message: str) -> None:
    values = {
        "client_id": client_id,
        "features": {name: {"columns": column} for name, column in features.items()},
        "label": {"column": "target"},
    }
    with pytest.raises(ConfigError, match=message):
        Schema.from_mapping(values)


@pytest.mark.parametrize(
    ("classes", "task", "units", "dtype"),
    [
        (None, "regression", 1, "float32"),
        (2, "binary", 1, "int64"),
        (3, "multiclass", 3, "int64"),
    ],
)
def test_classes_decide_the_task(
    schema_of: Any, classes: int | None, task: str, units: int, dtype: str
) -> None:
    schema = schema_of({"x": 2}, classes)

    assert (schema.task, schema.output_units, schema.label.dtype) == (task, units, dtype)


def test_class_names_are_indices_when_none_are_given(schema_of: Any) -> None:
    assert schema_of({"x": 1}, 3).label.class_names == ("0", "1", "2")
    assert schema_of({"x": 1}, 2, names=["no", "yes"]).label.class_names == ("no", "yes")
    assert schema_of({"x": 1}, None).label.class_names == ()


def test_columns_are_those_that_a_source_must_have(schema_of: Any) -> None:
    assert schema_of({"x": 2, "z": 1}, 3).columns == ("client", "x_0", "x_1", "z_0", "target")
