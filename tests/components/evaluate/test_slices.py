"""How examples and clients are divided."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from privet.components.evaluate.config import SliceConfig
from privet.components.evaluate.slices import build_slicers
from privet.components.shared.client_ids import hashed_ids, read_salt
from privet.components.shared.errors import ConfigError


def parts_of(batch: Any, schema: Any, salt_file: str | None = None, **settings: Any) -> list[str]:
    """The part of each example."""
    config = SliceConfig.from_mapping({"name": "s", **settings})
    names, codes = build_slicers([config], schema, salt_file)["s"](batch)
    return [names[code] for code in codes]


@pytest.fixture(scope="module")
def batch(clients_of: Any) -> Any:
    """c0 with one example, c1 with three."""
    ages = np.array([[20], [30], [59.5], [60]], np.float32)
    return clients_of([1, 0, 1, 1], [1, 3], age=ages, word=[0, 1, 2, 1])


@pytest.fixture(scope="module")
def schema(schema_of: Any) -> Any:
    word = {"columns": "w", "dtype": "int64", "vocabulary": ["a", "b"], "unknown": "index"}
    return schema_of({"age": 1, "word": {**word, "shape": []}}, 2, names=["no", "yes"])


def test_by_label_and_by_feature(batch: Any, schema: Any) -> None:
    assert parts_of(batch, schema, by="label") == ["yes", "no", "yes", "yes"]
    assert parts_of(batch, schema, by="feature", feature="word") == ["a", "b", "unknown", "b"]
    assert parts_of(batch, schema, by="feature", feature="age") == ["20", "30", "59.5", "60"]


def test_edges_belong_to_the_interval_above(batch: Any, schema: Any) -> None:
    found = parts_of(batch, schema, by="feature", feature="age", edges=[30, 60])
    assert found == ["below 30", "30 to 60", "30 to 60", "60 and above"]
    assert parts_of(batch, schema, by="examples", edges=[2]) == ["below 2"] + ["2 and above"] * 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_by_an_attribute_of_the_client(
    batch: Any, schema: Any, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"regions.{ending}"
    table = pa.table({"client": ["c1", "c9"], "region": ["north", "south"]})
    if ending == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif ending == "csv":
        path.write_text("client,region\nc1,north\nc9,south\n", encoding="utf-8")
    else:
        path.write_text('{"client": "c1", "region": "north"}\n', encoding="utf-8")
    found = parts_of(batch, schema, by="attribute", file=str(path), column="region")

    assert found == ["unknown"] + ["north"] * 3


def test_file_of_attributes_has_the_ids_of_the_source(
    clients_of: Any, schema: Any, tmp_path: Path
) -> None:
    salt, path = tmp_path / "salt", tmp_path / "age.csv"
    salt.write_bytes(bytes(range(32)))
    path.write_text("who,age\n17,42\n", encoding="utf-8")  # an id that looks like a number
    (stored,) = hashed_ids([b"17"], read_salt(str(salt)))
    batch = clients_of([1], [1])
    batch = type(batch)([stored], batch.sizes, {}, batch.labels)
    settings = {"by": "attribute", "file": str(path), "client_id": "who", "column": "age"}

    assert parts_of(batch, schema, str(salt), **settings, edges=[18]) == ["18 and above"]


def test_file_that_cannot_be_used_says_why(batch: Any, schema: Any, tmp_path: Path) -> None:
    path = tmp_path / "regions.csv"
    path.write_text("client,region\nc1,north\n", encoding="utf-8")
    settings = {"by": "attribute", "file": str(path)}
    with pytest.raises(ConfigError, match="has no column area; it has client, region"):
        parts_of(batch, schema, **settings, column="area")
    with pytest.raises(ConfigError, match=r"'north' in .* is no number"):
        parts_of(batch, schema, **settings, column="region", edges=[1])
    with pytest.raises(ConfigError, match=r"ends in none of \.csv"):
        parts_of(batch, schema, by="attribute", file="a.txt", column="region")
