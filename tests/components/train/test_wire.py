"""Messages as bytes: what is decoded is what was encoded, and nothing else is taken for one."""

import math
import struct
import zlib
from typing import Any

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from privet.components.shared.errors import DataError
from privet.components.train.communication import measured
from privet.components.train.update_compression import levels_of, quantized, received
from privet.components.train.wire import Message, decode, encode, message_bytes

SHAPES = strategies.lists(
    hypothesis.extra.numpy.array_shapes(min_dims=0, max_dims=3, max_side=5), min_size=1, max_size=4
)
SEED = np.array([3, -4], np.int32)


def values_of(shapes: list[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.array(generator.standard_t(2, shape), np.float32) for shape in shapes]


def message_of(values: list[np.ndarray], bits: int, *, rotated: bool = False) -> Message:
    """What a client sends of these."""
    sent = levels_of([tf.constant(value) for value in values], bits, SEED, rotated=rotated)
    levels = [
        one.levels.numpy().astype(np.uint8).reshape(value.shape)
        for one, value in zip(sent, values, strict=True)
    ]
    scales = np.array([(one.least, one.distance) for one in sent], np.float32)
    return Message(levels, bits, scales, SEED if rotated else None)


@hypothesis.given(
    shapes=SHAPES,
    bits=strategies.sampled_from([4, 8]),
    rotated=strategies.booleans(),
    deflate=strategies.booleans(),
    seed=strategies.integers(0, 99),
)
@hypothesis.settings(deadline=None, max_examples=80)
def test_server_decodes_what_training_adds_up(
    shapes: list[tuple[int, ...]], bits: int, rotated: bool, deflate: bool, seed: int
) -> None:
    values = values_of(shapes, seed)
    content = encode(message_of(values, bits, rotated=rotated), deflate=deflate)
    got = received(decode(content, shapes))

    wanted = quantized([tf.constant(value) for value in values], bits, SEED, rotated=rotated)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    most = message_bytes(shapes, bits, rotated=rotated)
    assert len(content) <= most if deflate else len(content) == most


@hypothesis.given(shapes=SHAPES, seed=strategies.integers(0, 99))
@hypothesis.settings(deadline=None, max_examples=30)
def test_float_values_come_back_to_the_bit(shapes: list[tuple[int, ...]], seed: int) -> None:
    values = values_of(shapes, seed)
    values[0][...] = np.nan
    content = encode(Message(values))

    assert len(content) == message_bytes(shapes)
    for a, b in zip(received(decode(content, shapes)), values, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bytes_are_those_that_the_format_states() -> None:
    """By hand: three levels of 4 bits in two bytes, of tensors at -0.5 + 0.25 * level."""
    message = Message([np.array([1, 15, 3], np.uint8)], 4, np.array([[-0.5, 0.25]]))
    fields = b"PVT1" + bytes([4, 0]) + struct.pack("<H", 1)
    rest = struct.pack("<2f", -0.5, 0.25) + bytes([0x1F, 0x30])

    assert encode(message) == fields + struct.pack("<I", zlib.crc32(fields + rest)) + rest
    (got,) = received(decode(encode(message), [(3,)]))
    np.testing.assert_array_equal(got, np.array([-0.25, 3.25, 0.25], np.float32))


def test_equal_levels_deflate_to_few_bytes_and_random_ones_are_left_as_they_are() -> None:
    scales = np.zeros((1, 2), np.float32)
    equal = Message([np.zeros(1000, np.uint8)], 8, scales)
    random = Message([np.random.default_rng(0).integers(0, 256, 1000).astype(np.uint8)], 8, scales)

    assert len(encode(equal, deflate=True)) < 40
    assert encode(random, deflate=True) == encode(random)


@hypothesis.given(
    bits=strategies.sampled_from([None, 4, 8]),
    deflate=strategies.booleans(),
    end=strategies.integers(0, 10_000),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_truncated_messages_are_refused(bits: int | None, deflate: bool, end: int) -> None:
    shapes: list[tuple[int, ...]] = [(30, 2), (2,)]
    values = [np.zeros(shape, np.float32) for shape in shapes]
    message = Message(values) if bits is None else message_of(values, bits)
    content = encode(message, deflate=deflate)

    with pytest.raises(DataError, match=r"wanted a message|cut short"):
        decode(content[: end % len(content)], shapes)


@hypothesis.given(place=strategies.integers(0, 10_000), change=strategies.integers(1, 255))
@hypothesis.settings(deadline=None, max_examples=60)
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    content = bytearray(encode(message_of(values_of([(7, 3)], 0), 8, rotated=True), deflate=True))
    content[place % len(content)] ^= change

    with pytest.raises(DataError, match=r"begins with b'PVT1'|changed on its way"):
        decode(bytes(content), [(7, 3)])


def resealed(content: bytes) -> bytes:
    """With the checksum that fits: as whoever makes such a message on purpose sends it."""
    if len(content) < 12:
        return content
    return content[:8] + struct.pack("<I", zlib.crc32(content[:8] + content[12:])) + content[12:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: b"PVT2" + content[4:], "begins with b'PVT1'"),
        (lambda content: b"", "got 0 that begin with b''"),
        (lambda content: content[:4] + b"\x02" + content[5:], "in 32, 8 or 4 bits, got 1 in 2 "),
        (lambda content: content[:5] + b"\x08" + content[6:], "flags 8"),
        (lambda content: content[:6] + b"\x02" + content[7:], "of 1 tensors"),
        (lambda content: content[:12], "wanted a message with 8 bytes here"),
        (lambda content: content[:-1], r"with 21 bytes here, .* got 20"),
        (lambda content: content + b"\0", r"with 21 bytes here, .* got more"),
        (lambda content: content[:5] + b"\x01" + content[6:], "DEFLATE"),
    ],
)
def test_what_is_no_message_for_the_model_is_refused(change: Any, reason: str) -> None:
    content = encode(message_of(values_of([(7, 3)], 0), 8))

    with pytest.raises(DataError, match=reason):
        decode(
            resealed(change(content)) if len(change(content)) > 11 else change(content), [(7, 3)]
        )


def test_a_message_that_expands_without_end_takes_no_memory() -> None:
    """100 MB of zeros in some 100 kB."""
    content = encode(
        Message([np.zeros((100_000_000,), np.uint8)], 8, np.zeros((1, 2))), deflate=True
    )
    assert len(content) < 200_000

    with pytest.raises(DataError, match=r"with 21 bytes here, .* got more"):
        decode(content, [(7, 3)])


@pytest.mark.parametrize("rotation", [None, "hadamard"])
@pytest.mark.parametrize("algorithm", ["fed_avg", "mime_lite"])
def test_measured_bytes_are_those_of_the_messages(
    train_config: Any, algorithm: str, rotation: str | None
) -> None:
    config = train_config(
        algorithm=algorithm, update_bits=4, update_rotation=rotation, update_code="deflate"
    )
    shapes: list[tuple[int, ...]] = [(5, 20), (20,)]
    sent = shapes * (2 if algorithm == "mime_lite" else 1)
    rows, length = [], 0
    for seed in (1, 2):
        message = message_of(values_of(sent, seed), 4, rotated=rotation is not None)
        assert message.scales is not None
        length += len(encode(message, deflate=True))
        flat = [level.ravel() for level in message.tensors]
        rows.append(np.concatenate([*flat, *message.scales.T]).astype(np.float32))

    assert sum(math.prod(shape) for shape in sent) + 2 * len(sent) == rows[0].size
    got = measured(config, shapes, np.array(rows), np.array([SEED, SEED, SEED]))
    assert got.tolist() == [2, length]
