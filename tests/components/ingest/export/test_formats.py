"""Every format, read back by the library that others would use: all rows, in order, exactly."""

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.ingest.export.clients import export_clients
from privet.components.ingest.formats import FORMATS
from privet.components.shared.schema import Schema

Row = dict[str, Any]


def rows_of_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {
                "client": row["who"],
                "split": row["split"],
                "x": floats(row[f"x_{i}"] for i in range(3)),
                "image": [int(row[f"img_{i}"]) for i in range(6)],
                "spectrum": floats(row[f"spectrum_{i}"] for i in range(4)),
                "count": [int(row["n"])],
                "word": [int(row[f"w_{i}"]) for i in range(2)],
                "label": int(row["y"]),
            }


def rows_of_json_lines(path: Path) -> Iterator[Row]:
    return map(from_columns, map(json.loads, path.read_text(encoding="utf-8").splitlines()))


def rows_of_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    return map(from_columns, pyarrow.parquet.read_table(path).to_pylist())


def rows_of_avro(path: Path) -> Iterator[Row]:
    import fastavro

    with path.open("rb") as file:
        yield from map(from_columns, fastavro.reader(file))


def rows_of_tfrecord(path: Path) -> Iterator[Row]:
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        yield from_columns({name: value_of(feature) for name, feature in features.items()})


def rows_of_sequence_tfrecord(path: Path) -> Iterator[Row]:
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        example = tf.train.SequenceExample.FromString(record)
        context = {name: value_of(one) for name, one in example.context.feature.items()}
        lists = example.feature_lists.feature_list
        lengths = {len(steps.feature) for steps in lists.values()}
        assert len(lengths) == 1
        for step in range(lengths.pop()):
            row = {name: value_of(steps.feature[step]) for name, steps in lists.items()}
            yield from_columns(context | row)


def rows_of_tff_sqlite(path: Path) -> Iterator[Row]:
    import tensorflow as tf

    query = "SELECT client_id, split_name, serialized_example_proto FROM examples ORDER BY rowid"
    for client_id, split, proto in sqlite3.connect(path).execute(query):
        features = tf.train.Example.FromString(proto).features.feature
        row = {name: value_of(feature) for name, feature in features.items()}
        yield from_columns({"who": client_id, "split": split, **row})


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "csv": rows_of_csv,
    "jsonl": rows_of_json_lines,
    "parquet": rows_of_parquet,
    "avro": rows_of_avro,
    "tfrecord": rows_of_tfrecord,
    "sequence_tfrecord": rows_of_sequence_tfrecord,
    "tff_sqlite": rows_of_tff_sqlite,
}


def value_of(feature: Any) -> Any:
    (field,) = feature.ListFields()
    values = [one.decode() if isinstance(one, bytes) else one for one in field[1].value]
    return values[0] if len(values) == 1 else values


def from_columns(columns: Row) -> Row:
    """The row as Sample.rows has it."""
    return {
        "client": columns["who"],
        "split": columns["split"],
        "x": floats(columns[f"x_{i}"] for i in range(3)),
        "image": columns["img"],
        "spectrum": floats(columns["spectrum"]),
        "count": [columns["n"]],
        "word": columns["w"],
        "label": columns["y"],
    }


def floats(values: Any) -> list[float]:
    return [float(np.float32(value)) for value in values]


def test_every_format_has_a_reader_here() -> None:
    assert set(READERS) == set(FORMATS)


@pytest.mark.parametrize("file_format", FORMATS)
def test_rows_are_those_of_the_store(sample: Any, tmp_path: Path, file_format: Any) -> None:
    path = tmp_path / "out"
    export_clients(sample.directory, None, str(path), file_format)

    assert list(READERS[file_format](path)) == sample.rows()


def test_parquet_has_lists_of_fixed_size_without_missing_values(
    sample: Any, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "out.parquet"
    export_clients(sample.directory, None, str(path), "parquet")

    schema = pyarrow.parquet.read_schema(path)
    assert schema.field("img").type == pa.list_(pa.field("element", pa.uint8(), nullable=False), 6)
    assert schema.field("spectrum").type.value_type == pa.float32()
    assert schema.field("n").type == pa.int64()
    assert schema.field("who").type == pa.string()
    assert not any(field.nullable for field in schema)


def test_large_client_is_cut_in_files_with_a_record_per_client(
    sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from privet.components.ingest.export import blocks, clients

    small = 3 * (12 + 6 + 16 + 8 + 16 + 64)  # three rows
    monkeypatch.setattr(clients, "read_blocks", lambda store: blocks.read_blocks(store, small))
    path = tmp_path / "out"
    export_clients(sample.directory, ["train"], str(path), "sequence_tfrecord")

    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == 1 + 2 + 1 + 3 + 1  # of 1, 4, 2, 7 and 3 rows
    wanted = [row for row in sample.rows() if row["split"] == "train"]
    assert list(rows_of_sequence_tfrecord(path)) == wanted


def test_metadata_counts_a_client_in_several_blocks_once(
    sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privet.components.ingest.export import blocks, clients

    monkeypatch.setattr(clients, "read_blocks", lambda store: blocks.read_blocks(store, 250))
    path = tmp_path / "out.sqlite"
    export_clients(sample.directory, None, str(path), "tff_sqlite")

    found = sqlite3.connect(path).execute("SELECT * FROM client_metadata").fetchall()
    assert found == [
        (client.client_id, split, len(client))
        for split, clients in sample.splits.items()
        for client in clients
    ]


@pytest.mark.parametrize("split", ["train", "eval", None])
def test_tff_reads_the_sqlite_file(
    write_store: Any, tmp_path: Path, sample: Any, split: str | None
) -> None:
    import tensorflow as tf
    from tensorflow_federated.python.simulation.datasets import (
        load_and_parse_sql_client_data,
    )

    from privet.components.shared.storage import ClientData, read_schema

    def plain(client: ClientData) -> ClientData:  # TFF puts ids between quotes as they are
        return ClientData(client.client_id.replace("'", ""), client.features, client.labels)

    splits = {name: [plain(one) for one in clients] for name, clients in sample.splits.items()}
    directory = write_store(tmp_path / "store", read_schema(sample.directory), splits)
    path = str(tmp_path / "out.sqlite")
    export_clients(directory, None, path, "tff_sqlite")

    data = load_and_parse_sql_client_data(
        path,
        {
            "img": tf.TensorSpec((2, 3), tf.uint8),
            "x_1": tf.TensorSpec((), tf.float32),
            "n": tf.TensorSpec((), tf.int64),
            "y": tf.TensorSpec((), tf.int64),
        },
        split,
    )
    wanted = [client for name in splits if split in (name, None) for client in splits[name]]
    assert data.client_ids == sorted(client.client_id for client in wanted)
    for client in wanted:
        dataset = data.create_tf_dataset_for_client(client.client_id)
        images, x_1, counts, labels = zip(
            *((row["img"], row["x_1"], row["n"], row["y"]) for row in dataset), strict=True
        )
        np.testing.assert_array_equal(images, client.features["image"])
        np.testing.assert_array_equal(x_1, client.features["x"][:, 1])
        np.testing.assert_array_equal(counts, client.features["count"][:, 0])
        np.testing.assert_array_equal(labels, client.labels)


def test_sqlite_finds_a_client_by_index(sample: Any, tmp_path: Path) -> None:
    path = tmp_path / "out.sqlite"
    export_clients(sample.directory, None, str(path), "tff_sqlite")

    query = "SELECT serialized_example_proto FROM examples WHERE client_id = 'a'"
    for suffix in ("", " and split_name = 'train'"):  # as TFF asks
        plan = sqlite3.connect(path).execute(f"EXPLAIN QUERY PLAN {query}{suffix}").fetchall()
        assert "USING INDEX examples_of_client" in str(plan)


def test_avro_refuses_a_name_that_it_cannot_hold(
    write_store: Any, client: Any, tmp_path: Path
) -> None:
    from privet.components.shared.errors import DataError

    schema = Schema.from_mapping(
        {
            "client_id": "who",
            "features": {"x": {"columns": "petal length (cm)"}},
            "label": {"column": "y"},
        }
    )
    one = client("ann", [1.0], dtype="float32", x=[[2.0]])
    directory = write_store(tmp_path / "store", schema, {"train": [one]})

    with pytest.raises(DataError, match=r"does not allow the column name 'petal length \(cm\)'"):
        export_clients(directory, None, str(tmp_path / "out.avro"), "avro")
    assert not list(tmp_path.glob("out*"))
    export_clients(directory, None, str(tmp_path / "out.csv"), "csv")
