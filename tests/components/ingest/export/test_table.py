"""The columns of an exported file, and the configuration that is written beside it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.export.table import Table, table_of
from privet.components.ingest.formats import FORMATS
from privet.components.shared.schema import Schema


def schema_with(features: Mapping[str, Any], **changes: Any) -> Schema:
    label = {"column": "y", "classes": 2}
    return Schema.from_mapping(
        {"client_id": "client", "features": features, "label": label, **changes}
    )


def names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def test_scalar_columns_keep_their_names_and_patterns() -> None:
    feature = {"columns": "x_{0..2}", "shape": [3, 1], "minimum": 0, "maximum": 0.1}
    table = table_of(schema_with({"x": feature}), "parquet")

    assert names(table) == ["x_0", "x_1", "x_2", "y"]
    assert (table.client_id, table.split) == ("client", "split")
    assert json.loads(table.to_json("parquet", 5)) == {
        "format": "parquet",
        "client_id": "client",
        "client_ids": "exact",
        "features": {"x": feature},
        "label": {"column": "y", "classes": 2},
        "split": {"column": "split"},
        "shards": 5,
    }


@pytest.mark.parametrize("shape", [None, [1], [1, 1], []])
def test_single_value_is_a_scalar_column_whatever_its_shape(shape: list[int] | None) -> None:
    schema = schema_with({"x": {"columns": "v", "shape": shape}})

    for file_format in FORMATS:
        (column, _) = table_of(schema, file_format).columns
        assert (column.name, column.size) == ("v", None)
        config = json.loads(table_of(schema, file_format).to_json(file_format, 1))
        assert config["features"]["x"].get("shape") == shape


def test_list_is_one_column_but_in_csv() -> None:
    schema = schema_with({"image": {"columns": "img", "dtype": "uint8", "shape": [2, 2]}})

    parquet, csv = (table_of(schema, one) for one in ("parquet", "csv"))
    assert [(column.name, column.size) for column in parquet.columns] == [("img", 4), ("y", None)]
    assert names(csv) == ["img_0", "img_1", "img_2", "img_3", "y"]
    assert csv.features["image"].column_names == ("img_0", "img_1", "img_2", "img_3")
    assert csv.features["image"].example_shape == (2, 2)


def test_columns_made_for_csv_avoid_those_that_are_there() -> None:
    schema = schema_with(
        {"a": {"columns": "v", "shape": [2]}, "b": {"columns": ["v_1", "v__0"]}},
    )

    table = table_of(schema, "csv")
    assert names(table) == ["v___0", "v___1", "v_1", "v__0", "y"]
    assert len(set(names(table))) == 5


def test_split_column_avoids_a_feature_of_that_name() -> None:
    table = table_of(schema_with({"x": {"columns": ["split", "split_"]}}), "avro")

    assert table.split == "split__"
    assert names(table) == ["split", "split_", "y"]


def test_sqlite_keeps_its_own_columns_and_renames_others() -> None:
    schema = schema_with(
        {"x": {"columns": ["client_id", "a"]}, "z": {"columns": "client_id_"}},
        label={"column": "split_name"},
    )

    table = table_of(schema, "tff_sqlite")
    assert (table.client_id, table.split) == ("client_id", "split_name")
    assert names(table) == ["client_id__", "a", "client_id_", "split_name_"]
    assert table.features["x"].column_names == ("client_id__", "a")
    assert table.label.column == "split_name_"


def test_text_becomes_indices_within_the_public_range() -> None:
    word = {"columns": "w", "dtype": "int64", "vocabulary": ["a", "b"], "fill_missing": "a"}
    schema = schema_with(
        {
            "whole": word,
            "open": {**word, "columns": "o", "unknown": "index"},
            "tokens": {**word, "columns": "t", "tokens": "characters", "shape": [3]},
        }
    )

    features = table_of(schema, "jsonl").features
    assert [features[name].minimum for name in ("whole", "open", "tokens")] == [0, 0, 0]
    assert [features[name].maximum for name in ("whole", "open", "tokens")] == [1, 2, 2]
    assert not any(feature.is_text or feature.fill_missing for feature in features.values())


def test_learned_vocabulary_stays_marked_as_private() -> None:
    schema = schema_with({"w": {"columns": "w", "dtype": "int64", "learn_vocabulary": 9}})
    schema = schema.with_learned({"w": ("x", "y")})

    table = table_of(schema, "csv")
    values = {**json.loads(table.to_json("csv", 1)), "files": "x.csv"}
    config = IngestConfig.from_mapping(values)
    assert config.schema_of(config.features).learned_features == ("w",)
    assert config.features["w"].maximum is None  # the number of strings was learned, too


def test_label_by_name_is_exported_by_number() -> None:
    label = {"column": "y", "classes": 2, "names": ["no", "yes"], "by_name": True}
    table = table_of(schema_with({"x": {"columns": "x"}}, label=label), "csv")

    assert table.label.names == ("no", "yes")
    assert not table.label.by_name
    assert table.columns[-1].dtype == "int64"


@pytest.mark.parametrize("file_format", FORMATS)
def test_written_configuration_is_one_that_ingestion_takes(file_format: Any, sample: Any) -> None:
    from privet.components.shared.storage import read_schema

    table = table_of(read_schema(sample.directory), file_format)
    values = json.loads(table.to_json(file_format, 3))
    config = IngestConfig.from_mapping({**values, "files": "x"})
    shapes = {name: feature.example_shape for name, feature in config.features.items()}
    assert shapes == {
        "x": (3,),
        "image": (2, 3),
        "spectrum": (4,),
        "count": (1,),
        "word": (2,),
    }


def test_columns_made_for_csv_are_listed_where_no_pattern_can_name_them() -> None:
    schema = schema_with({"x": {"columns": "two\nlines", "shape": [2]}})

    (feature,) = table_of(schema, "csv").features.values()
    assert feature.column_names == ("two\nlines_0", "two\nlines_1")
