"""Settings of ingestion: rules across keys, and what follows from them."""

from typing import Any

import pytest

from privet.components.shared.errors import ConfigError

SQL = {"url": "postgresql://ann@host/db", "query": "SELECT 1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": []}, r"give exactly one source of rows: .* \(got None\)"),
        ({"sql": SQL}, r"give exactly one source of rows: .*\['sql', 'files'\]"),
        ({"max_examples_per_client": 0}, "max_examples_per_client=0 must be >= 1"),
        ({"max_reject_fraction": 1.5}, r"max_reject_fraction=1.5 must lie in \[0, 1\]"),
        ({"shards": 0}, "shards=0 must lie between 1 and 99999"),
        ({"shards": 100_000}, "shards=100000 must lie"),
        ({"split": {"eval": 0.0}}, "`split`: eval=0.0 must lie between 0 and 1"),
        ({"split": {"eval": 0.5, "test": 0.5}}, r"must leave clients to train on \(sum < 1\)"),
        ({"split": {"test": -0.1}}, r"test=-0.1 must lie in \[0, 1\)"),
        ({"format": "json"}, "`format`: 'json' is none of csv, jsonl, parquet, avro, "),
        ({"split": {"personalization": 1.0}}, r"personalization=1.0 must lie in \[0, 1\)"),
        ({"min_examples_per_client": 0}, "min_examples_per_client=0 must be >= 1"),
        (
            {"min_examples_per_client": 3, "max_examples_per_client": 2},
            "min_examples_per_client=3 exceeds max_examples_per_client=2",
        ),
        ({"client_id": None}, "client_id must name the column with the client, or partition"),
        ({"partition": {"kind": "iid", "clients": 3}}, "client_id='client' and partition exclude"),
        (
            {"client_id": None, "partition": {"kind": "iid", "clients": 3}},
            "split.column does not go with partition",
        ),
        ({"client_id": None, "partition": {"kind": "iid"}}, "clients=None is needed for iid"),
        (
            {"client_id": None, "partition": {"kind": "by_feature", "clients": 3}},
            "clients=3 does not apply to kind=by_feature",
        ),
        ({"spans": True}, r"with spans every pattern holds \{SPAN\}"),
        ({"files": "{SPAN}/a.csv"}, "without none does"),
        ({"dp_statistics": {"epsilon": 0, "delta": 0.1, "max_examples_per_client": 1}}, "epsilon"),
        ({"client_id": "label"}, r"columns \['label'\] are used more than once"),
        ({"featurs": {}}, "`featurs`. Did you mean `features`?"),
    ],
)
def test_refused(config_of: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of("a.csv", **changes)


def test_columns_include_the_split(config_of: Any) -> None:
    config = config_of("a.csv")
    schema = config.schema_of(config.features)

    assert config.columns(schema) == ("client", "x_0", "x_1", "count", "label", "split")
    assert "split" not in config_of("a.csv", split={}).columns(schema)


def test_simulated_clients_are_not_a_column_of_the_source(config_of: Any) -> None:
    made = {"client_id": None, "split": {}, "partition": {"kind": "iid", "clients": 3}}
    config = config_of("a.csv", **made)
    by_feature = {**made, "partition": {"kind": "by_feature", "column": "city"}}
    natural = config_of("a.csv", **by_feature)

    assert config.columns(config.schema_of(config.features)) == ("x_0", "x_1", "count", "label")
    assert natural.columns(natural.schema_of(natural.features))[0] == "city"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hunter2@host/db",
        "postgresql://ann:hunter2#?/x@host/db",
        "postgresql://ann@host/db?Password=hunter2",
        "postgresql://ann@host/db?sslpassword=hunter2",
        "mssql+pyodbc:///?odbc_connect=UID%3Dann%3BPWD%3Dhunter2",
    ],
)
def test_password_in_a_url_is_refused_unseen(config_of: Any, url: str) -> None:
    sql = {**SQL, "url": url}
    with pytest.raises(ConfigError, match="url holds a password") as error:
        config_of([], sql=sql)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://ann@host:5432/db", "sqlite:///a:b@c.db", "postgresql://host/db?sslmode=on"],
)
def test_url_without_a_password_is_fine(config_of: Any, url: str) -> None:
    assert config_of([], sql={**SQL, "url": url}).sql.url == url


@pytest.mark.parametrize(
    ("split", "splits"),
    [
        ({}, ("train", "eval")),
        ({"test": 0.1}, ("train", "eval", "test")),
        ({"column": "split"}, ("train", "eval", "test")),
        ({"personalization": 0.5}, ("train", "eval", "eval_adapt")),
        (
            {"test": 0.1, "personalization": 0.5},
            ("train", "eval", "test", "eval_adapt", "test_adapt"),
        ),
    ],
)
def test_test_split_exists_where_clients_may_be_in_it(
    config_of: Any, split: dict[str, Any], splits: tuple[str, ...]
) -> None:
    assert config_of("a.csv", split=split).splits == splits


def test_one_path_or_several(config_of: Any) -> None:
    assert config_of("a.csv").patterns == ("a.csv",)
    assert config_of(["a.csv", "b.csv"]).patterns == ("a.csv", "b.csv")
