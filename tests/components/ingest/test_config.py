"""Settings of ingestion: rules across keys, and what follows from them."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": []}, r"files=\[\] must name at least one file"),
        ({"max_examples_per_client": 0}, "max_examples_per_client=0 must be >= 1"),
        ({"max_rejected_fraction": 1.5}, r"max_rejected_fraction=1.5 must lie in \[0, 1\]"),
        ({"shards": 0}, "shards=0 must lie between 1 and 99999"),
        ({"shards": 100_000}, "shards=100000 must lie"),
        ({"split": {"eval": 0.0}}, "`split`: eval=0.0 must lie between 0 and 1"),
        ({"split": {"eval": 0.5, "test": 0.5}}, r"must leave clients to train on \(sum < 1\)"),
        ({"split": {"test": -0.1}}, r"test=-0.1 must lie in \[0, 1\)"),
        ({"format": "json"}, "`format`: 'json' is none of csv, parquet"),
        ({"client_id": "label"}, r"columns \['label'\] are used more than once"),
        ({"featurs": {}}, "`featurs`. Did you mean `features`?"),
    ],
)
def test_refused(config_of: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of("a.csv", **changes)


def test_columns_include_the_split(config_of: Any) -> None:
    assert config_of("a.csv").columns == ("client", "x_0", "x_1", "count", "label", "split")
    assert "split" not in config_of("a.csv", split={}).columns


@pytest.mark.parametrize(
    ("split", "splits"),
    [
        ({}, ("train", "eval")),
        ({"test": 0.1}, ("train", "eval", "test")),
        ({"column": "split"}, ("train", "eval", "test")),
    ],
)
def test_test_split_exists_where_clients_may_be_in_it(
    config_of: Any, split: dict[str, Any], splits: tuple[str, ...]
) -> None:
    assert config_of("a.csv", split=split).splits == splits


def test_one_path_or_several(config_of: Any) -> None:
    assert config_of("a.csv").patterns == ("a.csv",)
    assert config_of(["a.csv", "b.csv"]).patterns == ("a.csv", "b.csv")
