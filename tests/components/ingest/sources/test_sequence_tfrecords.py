"""TFRecord files of tf.train.SequenceExample: a record is a client, its steps are the rows."""

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.components.ingest.batches import BATCH_ROWS
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import sequence_tfrecords
from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.ingest.sources.portions import Portion
from privet.components.shared import tfrecord

CONFIG = IngestConfig.from_mapping(
    {
        "files": "x.tfrecord",
        "format": "sequence_tfrecord",
        "client_id": "client",
        "label": {"column": "label", "classes": 2},
    }
)
WANTED = ("client", "split", "x", "label")


@pytest.fixture(scope="session")
def sequence_of(features_of, feature_of):
    """Serializes a SequenceExample out of its context and its lists of steps."""

    def made(context: dict[str, Any], **lists: list[Any]) -> bytes:
        import tensorflow as tf

        feature_lists = {
            name: tf.train.FeatureList(
                feature=[tf.train.Feature() if s is None else feature_of(s) for s in steps]
            )
            for name, steps in lists.items()
        }
        return tf.train.SequenceExample(
            context=features_of(context),
            feature_lists=tf.train.FeatureLists(feature_list=feature_lists),
        ).SerializeToString()

    return made


def write(path: Path, records: list[bytes]) -> Portion:
    path.write_bytes(b"".join(map(tfrecord.frame, records)))
    (portion,) = sequence_tfrecords.portions((str(path), path.name), CONFIG)
    return portion


def read(portion: Portion, wanted: tuple[str, ...] = WANTED):
    return sequence_tfrecords.read(portion, CONFIG, wanted)


@pytest.fixture
def clients(sequence_of):
    return [
        sequence_of({"client": "ann", "split": "train"}, x=[[0.5, 1.5], [2.5, 3.5]], label=[0, 1]),
        sequence_of({"client": "bob", "split": "eval"}, x=[[4.5, 5.5]], label=[1]),
    ]


def test_each_step_is_a_row_with_the_context_of_its_record(tmp_path, clients, drained):
    found = drained(read(write(tmp_path / "a.tfrecord", clients)), *WANTED)
    assert found.error is None
    assert found.numbers == [1, 2, 3]
    assert found.rows == [
        (b"ann", b"train", [0.5, 1.5], 0),
        (b"ann", b"train", [2.5, 3.5], 1),
        (b"bob", b"eval", [4.5, 5.5], 1),
    ]


def test_columns_have_the_types_of_context_and_steps(tmp_path, clients):
    portion = write(tmp_path / "a.tfrecord", [b"\xff", *clients])
    assert sequence_tfrecords.columns(portion, CONFIG) == {
        "client": pa.binary(),
        "split": pa.binary(),
        "x": pa.list_(pa.float32(), 2),
        "label": pa.int64(),
    }


def test_a_step_without_a_value_is_missing_it(tmp_path, sequence_of, drained):
    record = sequence_of({"client": "ann"}, x=[1.5, None, 2.5], label=[0, 1, 0], other=[])
    found = drained(read(write(tmp_path / "a.tfrecord", [record])), "x", "other")
    assert found.rows == [(1.5, None), (None, None), (2.5, None)]


def test_lists_of_different_lengths_refuse_the_steps_of_the_record(
    tmp_path, sequence_of, clients, drained
):
    odd = sequence_of({"client": "eve"}, x=[1.5, 2.5, 3.5], label=[0, 1])
    found = drained(read(write(tmp_path / "a.tfrecord", [clients[1], odd, clients[0]])), "client")
    assert found.rows == [(b"bob",), (b"ann",), (b"ann",)]
    assert found.numbers == [1, 5, 6]
    reason = "the feature lists of the record differ in length"
    assert found.malformed == {2: reason, 3: reason, 4: reason}


def test_what_is_no_sequence_example_is_a_malformed_row(tmp_path, clients, example_of, drained):
    records = [b"\xff secret", example_of({"client": "ann", "label": 1}), clients[1]]
    found = drained(read(write(tmp_path / "a.tfrecord", records)), "client")
    assert found.rows == [(b"bob",)]
    assert found.numbers == [3]
    assert "not a tf.train.SequenceExample" in found.malformed[1]
    assert "format tfrecord" in found.malformed[2]


def test_a_client_without_steps_has_no_rows(tmp_path, sequence_of, clients, drained):
    records = [sequence_of({"client": "nil"}, x=[], label=[]), clients[1]]
    found = drained(read(write(tmp_path / "a.tfrecord", records)), "client")
    assert (found.numbers, found.rows, found.malformed) == ([1], [(b"bob",)], {})


def test_row_numbers_do_not_depend_on_what_is_wanted(tmp_path, sequence_of, clients, drained):
    odd = sequence_of({"client": "eve"}, x=[1.5, 2.5, 3.5], label=[0, 1])
    portion = write(tmp_path / "a.tfrecord", [odd, *clients])
    numbers = [drained(read(portion, wanted)).numbers for wanted in ((), ("label",), WANTED)]
    assert numbers == [[4, 5, 6]] * 3


def test_a_client_larger_than_a_batch_is_cut(tmp_path, sequence_of):
    record = sequence_of({"client": "ann"}, label=[1] * (BATCH_ROWS + 7))
    batches = list(read(write(tmp_path / "a.tfrecord", [record])))
    assert [len(batch) for batch in batches] == [BATCH_ROWS, 7]
    assert batches[1].numbers[0] == BATCH_ROWS + 1


def test_rows_before_the_damage_are_given(tmp_path, clients, drained):
    portion = write(tmp_path / "a.tfrecord", clients)
    Path(portion.source).write_bytes(Path(portion.source).read_bytes()[:-1])
    found = drained(read(portion), "client")
    assert found.rows == [(b"ann",), (b"ann",)]
    assert isinstance(found.error, CorruptFileError)


@settings(max_examples=150)
@given(data=st.data())
def test_any_bytes_give_rows_or_a_corrupt_file(tmp_path_factory, data, sequence_of, drained):
    good = sequence_of({"client": "ann"}, x=[[0.5, 1.5], [2.5, 3.5]], label=[0, 1])
    content = bytearray(tfrecord.frame(good))
    kind = data.draw(st.sampled_from(["random", "cut", "flip", "record"]))
    if kind == "random":
        content = bytearray(data.draw(st.binary(max_size=200)))
    elif kind == "cut":
        del content[data.draw(st.integers(0, len(content))) :]
    elif kind == "flip":
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
    else:
        record = bytearray(good)
        place = data.draw(st.integers(0, len(record) - 1))
        record[place : place + 2] = data.draw(st.binary(max_size=4))
        content = bytearray(tfrecord.frame(bytes(record)))
    path = tmp_path_factory.mktemp("fuzz") / "a.tfrecord"
    path.write_bytes(content)
    portion = Portion("a", 0, str(path))
    found = drained(read(portion), *WANTED)
    numbers = sorted([*found.numbers, *found.malformed])
    assert numbers == list(range(1, len(numbers) + 1))
    assert found.error is None or isinstance(found.error, CorruptFileError)
    with contextlib.suppress(CorruptFileError):
        sequence_tfrecords.columns(portion, CONFIG)
