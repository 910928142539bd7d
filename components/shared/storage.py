"""The client store: one record per client, found by an index instead of a scan.

Layout of a `ClientExamples` artifact:

    schema.json, statistics.json, rejects/
    Split-<name>/clients-00003-of-00008.tfrecord   records of the clients hashed to shard 3
    Split-<name>/clients-00003-of-00008.index      the sorted index of that shard

A record is a tf.train.Example with `client_id`, `num_examples` and one bytes feature per
column: the client's examples as one little-endian C-order array [num_examples, *shape]. Raw
bytes decode at memory speed (np.frombuffer, or tf.io.decode_raw) and keep the dtype.

The index is a NumPy array file (.npy), sorted by client id, which memory-maps on local disks.
"""

import dataclasses
import hashlib
import re
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import google_crc32c
import numpy as np

from privet.components.shared import files, layout
from privet.components.shared.errors import DataError, StoreError
from privet.components.shared.schema import LABEL, Schema

SPLITS = ("train", "eval", "test")
"""Names of the splits. Clients are split, never a client's examples."""

_SHARD_NAME = re.compile(r"clients-(\d{5})-of-(\d{5})\.index$")
_CRC_MASK = 0xA282EAD8
_UINT32 = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class ClientReference:
    """Where one client's record is.

    Attributes:
      client_id: the client.
      shard: path of the TFRecord file.
      offset: byte offset of the record's frame in the shard.
      length: bytes of the record without its frame.
      examples: number of examples that the client holds.
    """

    client_id: str
    shard: str
    offset: int
    length: int
    examples: int


@dataclasses.dataclass(frozen=True)
class ClientData:
    """One client's examples, in memory.

    Attributes:
      client_id: the client.
      features: name -> array [examples, *shape].
      labels: array [examples].
    """

    client_id: str
    features: Mapping[str, np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def stable_hash(*parts: str | int) -> int:
    """A 64-bit hash that is the same on every machine and in every run."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def shard_of(client_id: str, shards: int) -> int:
    """The shard that a client belongs to."""
    return stable_hash("shard", client_id) % shards


def encode_client(client: ClientData) -> bytes:
    """The client's record, as a serialized tf.train.Example."""
    import tensorflow as tf

    columns = {**client.features, LABEL: client.labels}
    features = {
        "client_id": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[client.client_id.encode()])
        ),
        "num_examples": tf.train.Feature(int64_list=tf.train.Int64List(value=[len(client)])),
    }
    for name, values in columns.items():
        little_endian = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
        features[f"column/{name}"] = tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[little_endian.tobytes()])
        )
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )


def decode_client(record: bytes, schema: Schema) -> ClientData:
    """Reads a record back.

    Raises:
      StoreError: a column is missing or has not the size that the schema says.
    """
    import tensorflow as tf

    fields = tf.train.Example.FromString(record).features.feature
    client_id = fields["client_id"].bytes_list.value[0].decode()
    examples = fields["num_examples"].int64_list.value[0]

    def column(name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        stored = fields[f"column/{name}"].bytes_list.value
        values = np.frombuffer(stored[0] if stored else b"", np.dtype(dtype).newbyteorder("<"))
        if values.size != examples * int(np.prod(shape)):
            raise StoreError(
                f"client {client_id!r} holds {values.size} values of {name!r}, wanted "
                f"{examples} examples of shape {list(shape)}. Ingest the data again."
            )
        return values.reshape(examples, *shape)

    return ClientData(
        client_id=client_id,
        features={
            name: column(name, feature.dtype, feature.shape)
            for name, feature in schema.features.items()
        },
        labels=column(LABEL, schema.label.dtype, ()),
    )


def write_shard(
    directory: str, shard: int, shards: int, records: Iterable[tuple[str, int, bytes]]
) -> int:
    """Writes one shard and its index.

    Args:
      directory: the split's folder.
      shard: number of this shard.
      shards: number of shards of the split.
      records: (client id, number of examples, record), every client once.

    Returns:
      The number of clients written.

    Raises:
      DataError: a client id cannot be stored in the index.
    """
    entries: list[tuple[bytes, int, int, int]] = []
    path = _shard_path(directory, shard, shards)
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"  # a retried bundle must not meet its own rest
    with files.open_write(temporary) as file:
        offset = 0
        for client_id, examples, record in records:
            entries.append((_index_key(client_id), offset, len(record), examples))
            offset += _write_frame(file, record)
    width = max((len(key) for key, *_ in entries), default=1)
    dtype = [("client_id", f"S{width}"), ("offset", "<i8"), ("length", "<i8"), ("examples", "<i8")]
    index = np.array(sorted(entries), dtype=dtype)
    with files.open_write(f"{temporary}.index") as file:
        np.lib.format.write_array(file, index, allow_pickle=False)
    files.rename(temporary, path)
    files.rename(f"{temporary}.index", _index_path(path))
    return len(entries)


class ClientStore:
    """Random access to the clients of one split, without reading the others."""

    def __init__(self, directory: str, split: str):
        """Opens a split.

        Raises:
          StoreError: there is no such split, or a shard is missing.
        """
        self.split = split
        self.schema = read_schema(directory)
        self._directory = split_directory(directory, split)
        paths = files.match(files.join(self._directory, "*-of-?????.index"))
        if not paths:
            raise StoreError(f"{directory} has no split {split!r}. Ingest the data again.")
        self._check_complete(paths)
        self._index_paths = paths
        self._loaded: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        """Number of clients."""
        return sum(len(index) for _, index in self._indices())

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of the shards, for work that goes shard by shard."""
        return tuple(self._index_paths)

    def references(self, shard: str | None = None) -> list[ClientReference]:
        """References to every client (of one shard), in order of shard and client id."""
        wanted = self._index_paths if shard is None else [shard]
        return [
            ClientReference(
                client_id=entry["client_id"].decode(),
                shard=path.removesuffix(".index") + ".tfrecord",
                offset=int(entry["offset"]),
                length=int(entry["length"]),
                examples=int(entry["examples"]),
            )
            for path, index in self._indices(wanted)
            for entry in index
        ]

    def find(self, client_id: str) -> ClientReference:
        """The reference of one client, by binary search.

        Raises:
          StoreError: the split has no such client.
        """
        key = _index_key(client_id)
        shard = self._index_paths[shard_of(client_id, len(self._index_paths))]
        (_, index) = next(iter(self._indices([shard])))
        position = int(np.searchsorted(index["client_id"], key))
        if position == len(index) or index["client_id"][position] != key:
            raise StoreError(f"split {self.split!r} has no client {client_id!r}")
        return self.references(shard)[position]

    def read(self, reference: ClientReference) -> ClientData:
        """One client's examples."""
        (client,) = self.read_many([reference])
        return client

    def read_many(self, references: Sequence[ClientReference]) -> Iterator[ClientData]:
        """The clients' examples, in the order given; each shard file is opened once.

        Raises:
          StoreError: a record is damaged.
        """
        open_files: dict[str, BinaryIO] = {}
        try:
            for reference in references:
                file = open_files.get(reference.shard)
                if file is None:
                    file = open_files[reference.shard] = files.open_read(reference.shard)
                file.seek(reference.offset)
                yield decode_client(_read_frame(file, reference), self.schema)
        finally:
            for file in open_files.values():
                file.close()

    def _indices(self, paths: Sequence[str] | None = None) -> Iterator[tuple[str, np.ndarray]]:
        for path in self._index_paths if paths is None else paths:
            if path not in self._loaded:
                self._loaded[path] = _load_index(path)
            yield path, self._loaded[path]

    def _check_complete(self, paths: Sequence[str]) -> None:
        names = [_SHARD_NAME.search(path) for path in paths]
        expected = {int(name[2]) for name in names if name}
        if None in names or expected != {len(paths)}:
            raise StoreError(
                f"{self._directory} holds {len(paths)} index files of {sorted(expected)} shards. "
                "Part of the artifact is missing; ingest the data again."
            )


def split_directory(directory: str, split: str) -> str:
    """The folder of a split, named as TFX names it."""
    return files.join(directory, f"Split-{split}")


def write_schema(directory: str, schema: Schema) -> None:
    """Writes schema.json."""
    files.write_bytes(files.join(directory, layout.SCHEMA), schema.to_json().encode() + b"\n")


def read_schema(directory: str) -> Schema:
    """Reads schema.json."""
    return Schema.from_json(files.read_bytes(files.join(directory, layout.SCHEMA)).decode())


def _load_index(path: str) -> np.ndarray:
    if "://" not in path:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with files.open_read(path) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _index_key(client_id: str) -> bytes:
    key = client_id.encode()
    if not key or key.endswith(b"\0"):
        raise DataError(f"client id {client_id!r} must not be empty or end in a NUL character")
    return key


def _shard_path(directory: str, shard: int, shards: int) -> str:
    return files.join(directory, f"clients-{shard:05d}-of-{shards:05d}.tfrecord")


def _index_path(shard_path: str) -> str:
    return shard_path.removesuffix(".tfrecord") + ".index"


def _write_frame(file: BinaryIO, record: bytes) -> int:
    """Writes a TFRecord frame: length, its masked CRC, the data, their masked CRC."""
    length = struct.pack("<Q", len(record))
    frame = length + _masked_crc(length) + record + _masked_crc(record)
    file.write(frame)
    return len(frame)


def _read_frame(file: BinaryIO, reference: ClientReference) -> bytes:
    frame = file.read(reference.length + 16)
    length, record = struct.pack("<Q", reference.length), frame[12:-4]
    intact = frame == length + _masked_crc(length) + record + _masked_crc(record)
    if not intact:
        raise StoreError(
            f"the record of client {reference.client_id!r} at byte {reference.offset} of "
            f"{reference.shard} is damaged. Ingest the data again."
        )
    return record


def _masked_crc(data: bytes) -> bytes:
    """CRC32C as TFRecord masks it (tensorflow/tsl/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _CRC_MASK) & _UINT32)
