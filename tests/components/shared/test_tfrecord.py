"""TFRecord frames: TensorFlow reads what is written, and damage is told, whatever it is."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared import tfrecord
from privet.components.shared.tfrecord import DamagedFrameError

RECORDS = [b"", b"one", bytes(range(256)) * 40]


def framed(records):
    file = io.BytesIO()
    sizes = [tfrecord.write_frame(file, record) for record in records]
    assert sum(sizes) == file.tell()
    return file.getvalue()


def test_tensorflow_reads_what_is_written(tmp_path):
    import tensorflow as tf

    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(RECORDS))
    read = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert read == RECORDS


def test_what_tensorflow_writes_is_read(tmp_path):
    import tensorflow as tf

    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    with path.open("rb") as file:
        assert list(tfrecord.read_frames(file)) == RECORDS


def test_empty_file_has_no_records():
    assert list(tfrecord.read_frames(io.BytesIO())) == []


@pytest.mark.parametrize("keep", [5, 11, 12, 13, 18])
def test_truncated_file_gives_the_records_before(keep):
    content = framed([b"one", b"two"])
    assert len(content) == 2 * 19
    records = tfrecord.read_frames(io.BytesIO(content[: 19 + keep]))
    assert next(records) == b"one"
    with pytest.raises(DamagedFrameError, match="ends within"):
        next(records)


def test_absurd_length_with_a_fitting_checksum_allocates_nothing():
    length = struct.pack("<Q", 2**60)
    with pytest.raises(DamagedFrameError, match="2 GiB"):
        next(tfrecord.read_frames(io.BytesIO(length + tfrecord.masked_crc(length) + b"x" * 50)))


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.data())
def test_any_flipped_bit_is_noticed(records, data):
    content = bytearray(framed(records))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    read: list[bytes] = []
    with pytest.raises(DamagedFrameError):
        read.extend(tfrecord.read_frames(io.BytesIO(bytes(content))))
    assert read == records[: len(read)]
    assert len(read) < len(records)
