"""TFRecord files of tf.train.Example: each record is a row, whatever its neighbours look like."""

import contextlib
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.components.ingest.batches import BATCH_ROWS, RowBatch
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import tfrecords
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.examples import NO_EXAMPLE
from privet.components.ingest.sources.portions import Portion
from privet.components.shared import files, tfrecord
from privet.components.shared.errors import DataError

CONFIG = IngestConfig.from_mapping(
    {"files": "x.tfrecord", "client_id": "client", "label": {"column": "label", "classes": 2}}
)
WANTED = ("client", "x", "label")


def write(path: Path, records: list[bytes]) -> Path:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        for record in records:
            tfrecord.write_frame(file, record)
    return path


def portion_of(path: Path) -> Portion:
    (portion,) = tfrecords.portions((str(path), path.name), CONFIG)
    return portion


def read(path: Path, wanted: tuple[str, ...] = WANTED) -> list[RowBatch]:
    return list(tfrecords.read(portion_of(path), CONFIG, wanted))


ROWS = [
    {"client": "ann", "x": [0.5, 1.5], "label": 1},
    {"client": "bob", "x": [2.5, -1.0], "label": 0},
]


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_rows_are_the_records(tmp_path, name, example_of, values_of):
    (batch,) = read(write(tmp_path / name, [example_of(row) for row in ROWS]))
    assert batch.numbers.tolist() == [1, 2]
    assert values_of(batch, "client") == [b"ann", b"bob"]
    assert values_of(batch, "x") == [[0.5, 1.5], [2.5, -1.0]]
    assert values_of(batch, "label") == [1, 0]
    assert isinstance(batch.columns["x"], pa.FixedSizeListArray)  # one block of memory
    assert not batch.malformed


def test_only_wanted_columns_are_read(tmp_path, example_of, values_of):
    (batch,) = read(write(tmp_path / "a.tfrecord", [example_of(ROWS[0])]), ("label", "absent"))
    assert set(batch.columns) == {"label", "absent"}
    assert values_of(batch, "absent") == [None]


def test_nothing_wanted_still_counts_rows(tmp_path, example_of):
    path = write(tmp_path / "a.tfrecord", [example_of(row) for row in ROWS])
    assert [len(batch) for batch in read(path, ())] == [2]


def test_columns_have_the_types_of_the_first_records(tmp_path, example_of):
    rows = [
        {"client": "ann", "x": [0.5, 1.5], "label": 1, "odd": 1, "n": [1]},
        {"client": "bob", "x": [2.5, -1.0], "label": 0, "odd": 1.5, "n": [1, 2], "rare": ["a"]},
    ]
    path = write(tmp_path / "a.tfrecord", [b"\xff no proto", *map(example_of, rows)])
    assert tfrecords.columns(portion_of(path), CONFIG) == {
        "client": pa.binary(),
        "x": pa.list_(pa.float32(), 2),
        "label": pa.int64(),
        "odd": None,
        "n": pa.list_(pa.int64()),
        "rare": pa.binary(),
    }


@pytest.mark.parametrize(
    "column",
    [
        [1, 2, None],
        [1, [2, 3], None],
        [[1, 2], [3, 4], None],
        [[1, 2], [3, 4, 5], None],
        [None, [1], [1, 2]],
        [1.5, [2.5, 3.5]],
        ["a", ["b", "c\0"], [], None],
        ["\xff\0", "ü"],
        [1, 2.5, "three", None],
        [[1, 2], 2.5],
        [None, None],
        [-(2**63), 2**63 - 1],
    ],
    ids=str,
)
def test_a_value_is_a_scalar_a_list_or_missing(tmp_path, column, example_of, values_of):
    path = write(tmp_path / "a.tfrecord", [example_of({"x": value}) for value in column])

    def expected(value: Any) -> Any:
        parts = value if isinstance(value, list) else [value]
        parts = [part.encode() if isinstance(part, str) else part for part in parts]
        return parts if len(parts) > 1 else parts[0] if parts else None

    (batch,) = read(path, ("x",))
    assert values_of(batch, "x") == [expected(value) for value in column]


def test_a_record_that_is_no_example_is_malformed_and_its_neighbours_are_not(
    tmp_path, example_of, values_of
):
    records = [example_of(ROWS[0]), b"\xff secret", example_of(ROWS[1])]
    (batch,) = read(write(tmp_path / "a.tfrecord", records))
    assert batch.numbers.tolist() == [1, 3]
    assert [(one.number, one.reason) for one in batch.malformed] == [(2, NO_EXAMPLE)]
    assert values_of(batch, "x") == [[0.5, 1.5], [2.5, -1.0]]
    assert values_of(batch, "label") == [1, 0]


@pytest.mark.parametrize("count", [2, 31, 32, 127, 128, 4095, 4096, 5000])
def test_floats_are_read_whatever_their_number(tmp_path, count, example_of, values_of):
    numbers = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    (batch,) = read(write(tmp_path / "a.tfrecord", [example_of({"x": numbers})]), ("x",))
    assert values_of(batch, "x") == [numbers.tolist()]


def test_floats_beside_unknown_fields_are_read(tmp_path, values_of):
    import tensorflow as tf

    known = tf.train.FloatList(value=[1.5, 2.5, 3.5]).SerializeToString()
    unknown = bytes([15 << 3 | 5]) + bytes(4)  # field 15, four bytes as a float has
    parsed = tf.train.FloatList.FromString(known + unknown)
    feature = tf.train.Feature(float_list=parsed)
    record = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
    (batch,) = read(write(tmp_path / "a.tfrecord", [record.SerializeToString()]), ("x",))
    assert values_of(batch, "x") == [[1.5, 2.5, 3.5]]


def test_no_record_is_written_to_the_log(tmp_path, capfd, example_of):
    read(write(tmp_path / "a.tfrecord", [b"secret of a client", example_of(ROWS[0])]))
    captured = capfd.readouterr()
    assert "secret" not in captured.out + captured.err


def test_batches_are_bounded_in_rows_and_bytes(tmp_path, example_of):
    small = write(tmp_path / "small.tfrecord", [example_of({"x": 1})] * (BATCH_ROWS + 3))
    assert [len(batch) for batch in read(small, ("x",))] == [BATCH_ROWS, 3]
    large = write(tmp_path / "large.tfrecord", [example_of({"x": b"." * (1 << 20)})] * 40)
    sizes = [sum(map(len, batch.columns["x"])) for batch in read(large, ("x",))]
    assert len(sizes) > 2
    assert max(sizes) <= 17 << 20


def test_rows_before_the_damage_are_given_then_the_file_is_named(tmp_path, example_of, drained):
    path = write(tmp_path / "a.tfrecord", [example_of(row) for row in ROWS])
    path.write_bytes(path.read_bytes()[:-3])
    found = drained(tfrecords.read(portion_of(path), CONFIG, WANTED), "client")
    assert found.rows == [(b"ann",)]
    assert isinstance(found.error, CorruptFileError)
    assert str(found.error).startswith(f"{path} cannot be read after row 1: it ends within")


def test_truncated_gzip_gives_what_could_be_unpacked(tmp_path, example_of, drained):
    rows = [{"client": f"{i}", "x": np.random.default_rng(i).random(500)} for i in range(50)]
    path = write(tmp_path / "a.tfrecord.gz", [example_of(row) for row in rows])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = drained(tfrecords.read(portion_of(path), CONFIG, WANTED), "client")
    assert isinstance(found.error, CorruptFileError)
    assert 10 < len(found.rows) < 50
    assert found.rows == [(f"{i}".encode(),) for i in range(len(found.rows))]


def test_a_failing_disk_is_not_taken_for_a_damaged_file(tmp_path, example_of, drained, monkeypatch):
    path = write(tmp_path / "a.tfrecord", [example_of(row) for row in ROWS] * 2)

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 100:
                raise OSError(5, "Input/output error")
            return super().read(min(size, 60))

    monkeypatch.setattr(files, "open_read", lambda path: Failing(Path(path).read_bytes()))
    found = drained(tfrecords.read(portion_of(path), CONFIG, WANTED), "client")
    assert found.rows == [(b"ann",), (b"bob",)][: len(found.rows)]
    assert isinstance(found.error, DataError)
    assert not isinstance(found.error, CorruptFileError)
    assert "Input/output error" in str(found.error)


@pytest.mark.parametrize("content", [b"client,label\nzoe,1\n" * 9, b"PAR1" * 9, b"x"])
def test_a_file_of_another_format_says_so(tmp_path, content):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="may not be a TFRecord") as caught:
        read(path)
    assert "zoe" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent"):
        read(tmp_path / "absent.tfrecord")


@settings(max_examples=200)
@given(data=st.data())
def test_any_bytes_give_rows_or_a_corrupt_file(tmp_path_factory, data, example_of, drained):
    records = [example_of(row) for row in ROWS]
    content = bytearray(b"".join(map(tfrecord.frame, records)))
    kind = data.draw(st.sampled_from(["random", "cut", "flip", "record"]))
    if kind == "random":
        content = bytearray(data.draw(st.binary(max_size=200)))
    elif kind == "cut":
        del content[data.draw(st.integers(0, len(content))) :]
    elif kind == "flip":
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
    else:  # whole frames around a record that is anything
        record = bytearray(records[0])
        place = data.draw(st.integers(0, len(record) - 1))
        record[place : place + 2] = data.draw(st.binary(max_size=4))
        content = bytearray(tfrecord.frame(bytes(record)) + tfrecord.frame(records[1]))
    path = tmp_path_factory.mktemp("fuzz") / "a.tfrecord"
    path.write_bytes(content)
    found = drained(tfrecords.read(portion_of(path), CONFIG, WANTED), *WANTED)
    numbers = sorted([*found.numbers, *found.malformed])
    assert numbers == list(range(1, len(numbers) + 1))
    assert found.error is None or isinstance(found.error, CorruptFileError)
    if kind == "record":
        assert found.error is None
        assert len(numbers) == 2
    with contextlib.suppress(CorruptFileError):
        tfrecords.columns(portion_of(path), CONFIG)
