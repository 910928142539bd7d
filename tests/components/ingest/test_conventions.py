"""Settings out of the names of columns."""

from pathlib import Path

import pytest

from privet.components.ingest.conventions import conventional_config
from privet.components.shared.errors import ConfigError, DataError


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_columns_are_taken_by_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "client_id,label,x,count", "ann,0,0.5,1", "bob,2,1.5,2")

    config = conventional_config(path, None)
    assert (config.client_id, config.client_ids) == ("client_id", "hashed")
    assert config.label.classes == 3
    assert {name: one.dtype for name, one in config.features.items()} == {
        "x": "float32",
        "count": "int64",
    }
    assert config.split.column is None
    # The classes are learned from labels.
    assert config.learned_features == ("count", "x")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "0"], 2),
        (["0", "9"], 10),
        (["0", "9999"], 10_000),
        (["0", "10000"], None),
        (["-1", "1"], None),
        (["0", "0.5"], None),
        (["1", "oops"], 2),
    ],
)
def test_small_whole_labels_are_classes(
    tmp_path: Path, labels: list[str], classes: int | None
) -> None:
    rows = [f"c{index},{label},1" for index, label in enumerate(labels)]
    path = write(tmp_path / "a.csv", "client_id,label,x", *rows)

    assert conventional_config(path, None).label.classes == classes


def test_all_files_count(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "client_id,split,label,x", "ann,train,0,1")
    write(tmp_path / "2.csv", "client_id,split,label,x", "bob,eval,6,1")

    config = conventional_config(str(tmp_path / "*.csv"), None)
    assert config.label.classes == 7
    assert config.split.column == "split"
    assert list(config.features) == ["x"]


def test_split_column_without_eval_clients_is_neither_split_nor_feature(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "client_id,split,label,x", "ann,train,0,1", "bob,test,1,1")

    config = conventional_config(path, None)
    assert config.split.column is None
    assert list(config.features) == ["x"]


@pytest.mark.parametrize("missing", ["client_id", "label"])
def test_other_names_need_a_schema(tmp_path: Path, missing: str) -> None:
    header = ",".join(name for name in ("client_id", "label", "x") if name != missing)
    path = write(tmp_path / "a.csv", header, "a,1")

    with pytest.raises(ConfigError, match=rf"no column '{missing}'.*Its columns: .*--schema"):
        conventional_config(path, None)


def test_labels_that_are_names_need_a_schema_and_are_not_quoted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "client_id,label,x", "ann,secret,1")

    with pytest.raises(ConfigError, match=r"no value of its column 'label' is a number") as error:
        conventional_config(path, None)
    assert "secret" not in str(error.value)


def test_file_without_rows_is_told(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError)):
        conventional_config(write(tmp_path / "a.csv", "client_id,label,x"), None)
