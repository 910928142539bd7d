"""The client store: one record per client, found by an index instead of a scan.

Layout of a `ClientExamples` artifact:

    schema.json, statistics.json, rejects/
    Split-<name>/clients-00003-of-00008.tfrecord   records of the clients hashed to shard 3
    Split-<name>/clients-00003-of-00008.index      the sorted index of that shard

A record is a tf.train.Example with `client_id`, `num_examples` and one bytes feature per
column: the client's examples as one little-endian C-order array [num_examples, *shape]. Raw
bytes decode at memory speed (np.frombuffer, or tf.io.decode_raw) and keep the dtype.

The index is a NumPy array file (.npy), sorted by client id, which memory-maps on local disks:
opening a store costs the same for a thousand clients as for a million. Nothing here needs
TensorFlow.
"""

import array
import bisect
import contextlib
import dataclasses
import functools
import hashlib
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from google.protobuf.message import DecodeError

from privet.components.shared import files, layout, splits, tfrecord
from privet.components.shared.errors import DataError, StoreError
from privet.components.shared.open_files import OpenFiles
from privet.components.shared.schema import LABEL, Schema
from privet.components.shared.shard_index import (
    build_index,
    find_client,
    load_index,
    read_count,
    write_index,
)
from privet.components.shared.tf_example import Example

SPLITS = splits.SPLITS
ADAPT_SPLITS = splits.ADAPT_SPLITS

_SHARD_NAME = re.compile(r"clients-(\d{5})-of-(\d{5})\.index$")
_LONGEST_ID = 1000  # bytes; every entry of a shard's index takes as many as its longest id
_OPEN_FILES = 64  # of each kind (records and indices) that a store keeps open


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


def stable_hashes(*parts: str | int, each: Sequence[bytes]) -> np.ndarray:
    """stable_hash(*parts, text) of each text (given in UTF-8), as uint64 [texts].

    >>> int(stable_hashes("shard", each=[b"ann"])[0]) == stable_hash("shard", "ann")
    True
    """
    head = "".join(f"{part}\x1f" for part in parts).encode()
    digests = [hashlib.blake2b(head + text, digest_size=8).digest() for text in each]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def shard_of(client_id: str, shards: int) -> int:
    """The shard that a client belongs to."""
    return stable_hash("shard", client_id) % shards


def encode_client(client: ClientData) -> bytes:
    """The client's record, as a serialized tf.train.Example."""
    example = Example()
    features = example.features.feature
    features["client_id"].bytes_list.value.append(client.client_id.encode())
    features["num_examples"].int64_list.value.append(len(client))
    for name, values in (*client.features.items(), (LABEL, client.labels)):
        little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
        features[f"column/{name}"].bytes_list.value.append(little_endian.tobytes())
    return example.SerializeToString(deterministic=True)


def decode_client(record: bytes, schema: Schema) -> ClientData:
    """Reads a record back.

    Returns:
      The client; its arrays are read-only.

    Raises:
      StoreError: it is no client's record, or a column is missing or has not the size that the
        schema says.
    """
    return _decode(record, _stored_columns(schema))


_Columns = Mapping[str, tuple[np.dtype, tuple[int, ...]]]


def _stored_columns(schema: Schema) -> _Columns:
    """Dtype and shape of one example in each stored column."""
    columns = {
        name: (np.dtype(feature.dtype).newbyteorder("<"), feature.example_shape)
        for name, feature in schema.features.items()
    }
    return {**columns, LABEL: (np.dtype(schema.label.dtype).newbyteorder("<"), ())}


def _decode(record: bytes, columns: _Columns) -> ClientData:
    try:
        fields = Example.FromString(record).features.feature
        client_id = fields["client_id"].bytes_list.value[0].decode()
        examples = fields["num_examples"].int64_list.value[0]
    except (DecodeError, IndexError, UnicodeDecodeError) as error:
        raise StoreError(
            f"a record of the store is not a client's ({type(error).__name__}). Ingest the data "
            "again."
        ) from error

    arrays = {}
    for name, (dtype, shape) in columns.items():
        stored = fields[f"column/{name}"].bytes_list.value
        content = stored[0] if stored else b""
        if len(content) != examples * math.prod(shape) * dtype.itemsize:
            raise StoreError(
                f"client {client_id!r} holds {len(content) / dtype.itemsize:g} values of "
                f"{name!r}, wanted {examples} examples of shape {list(shape)}. Ingest the data "
                "again."
            )
        arrays[name] = np.frombuffer(content, dtype).reshape(examples, *shape)
    labels = arrays.pop(LABEL)
    return ClientData(client_id, arrays, labels)


class ShardWriter:
    """Writes one shard and its index, as a context manager.

    Both files have temporary names until the end of the block, and are removed if it ends in an
    exception.

    Args:
      directory: the split's folder.
      shard: number of this shard.
      shards: number of shards of the split.
    """

    def __init__(self, directory: str, shard: int, shards: int):
        self._path = _shard_path(directory, shard, shards)
        self._temporary = f"{self._path}.tmp-{uuid.uuid4().hex}"  # not the rest of an earlier try
        self._keys: list[bytes] = []
        # Plain numbers: 24 bytes a client, where a list of tuples takes 200.
        self._offsets, self._lengths, self._examples = (array.array("q") for _ in range(3))
        self._end = 0

    def __len__(self) -> int:
        """Number of clients written so far."""
        return len(self._keys)

    def __enter__(self) -> Self:
        self._file = files.open_write(self._temporary)
        return self

    def write(self, client_id: str, examples: int, record: bytes) -> None:
        """Adds a client.

        Args:
          client_id: the client; every one once.
          examples: how many the record holds.
          record: see encode_client.

        Raises:
          DataError: the client id cannot be stored in the index.
        """
        self._keys.append(_index_key(client_id))
        self._offsets.append(self._end)
        self._lengths.append(len(record))
        self._examples.append(examples)
        self._end += tfrecord.write_frame(self._file, record)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Writes the index and gives both files their names.

        Raises:
          StoreError: a client was written twice.
        """
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._remove)
            self._file.close()
            if kind is not None:
                return
            index = build_index(self._keys, self._offsets, self._lengths, self._examples)
            write_index(f"{self._temporary}.index", index)
            files.rename(self._temporary, self._path)
            files.rename(f"{self._temporary}.index", _index_path(self._path))
            cleanup.pop_all()

    def _remove(self) -> None:
        for path in (self._temporary, f"{self._temporary}.index"):
            files.remove(path)


class ClientStore(Sequence[ClientReference]):
    """Random access to the clients of one split, without reading the others.

    A sequence of references, ordered by shard and client id. It may be used by several threads
    and pickled; `close` (or `with`) closes the files that it keeps open.
    """

    def __init__(self, directory: str, split: str):
        """Opens a split.

        Raises:
          StoreError: there is no such split, or a shard is missing.
        """
        self.split = split
        self.schema = read_schema(directory)
        self._columns = _stored_columns(self.schema)
        self.directory = directory
        self._folder = split_directory(directory, split)
        paths = files.match(files.join(self._folder, "*-of-?????.index"))
        if not paths:
            raise StoreError(f"{directory} has no split {split!r}. Ingest the data again.")
        self._check_complete(paths)
        self.shards = tuple(paths)
        """Names of the shards, for work that goes shard by shard."""
        self._ends = np.cumsum([read_count(path) for path in paths]).tolist()
        self._index = functools.lru_cache(_OPEN_FILES)(load_index)
        self._files = OpenFiles(_OPEN_FILES)

    def __reduce__(self) -> tuple[Any, ...]:
        return ClientStore, (self.directory, self.split)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; reading again opens them again."""
        self._files.close()
        self._index.cache_clear()

    def __len__(self) -> int:
        """Number of clients."""
        return self._ends[-1]

    @overload
    def __getitem__(self, position: int) -> ClientReference: ...

    @overload
    def __getitem__(self, position: slice) -> list[ClientReference]: ...

    def __getitem__(self, position: int | slice) -> ClientReference | list[ClientReference]:
        """The reference of the client at a position, or those of a slice."""
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        place = position + len(self) if position < 0 else position
        if not 0 <= place < len(self):
            raise IndexError(f"position {position} of the {len(self)} clients in {self.split!r}")
        shard = bisect.bisect_right(self._ends, place)
        index = self._index(self.shards[shard])
        start = self._ends[shard] - len(index)
        return _reference(self.shards[shard], index[place - start])

    def __iter__(self) -> Iterator[ClientReference]:
        return self.references()

    def references(self, shard: str | None = None) -> Iterator[ClientReference]:
        """References to every client (of one shard), in order of shard and client id."""
        for name in self.shards if shard is None else (shard,):
            for entry in self._index(name):
                yield _reference(name, entry)

    def example_counts(self) -> np.ndarray:
        """Number of examples of every client, int64 [clients], by position."""
        return np.concatenate([self._index(name)["examples"] for name in self.shards])

    def find(self, client_id: str) -> ClientReference:
        """The reference of one client.

        Raises:
          StoreError: the split has no such client.
        """
        reference = self.look_up(client_id)
        if reference is None:
            raise StoreError(f"split {self.split!r} has no client {client_id!r}")
        return reference

    def look_up(self, client_id: str) -> ClientReference | None:
        """The reference of one client, by binary search; None if the split has no such client."""
        shard = self.shards[shard_of(client_id, len(self.shards))]
        index = self._index(shard)
        position = find_client(index, _index_key(client_id))
        return None if position is None else _reference(shard, index[position])

    def read(self, reference: ClientReference) -> ClientData:
        """One client's examples."""
        (client,) = self.read_many([reference])
        return client

    def read_many(self, references: Iterable[ClientReference]) -> Iterator[ClientData]:
        """The clients' examples, in the order given; their arrays are read-only.

        Raises:
          StoreError: a record is damaged.
        """
        for reference in references:
            yield _decode(self._read_record(reference), self._columns)

    def _read_record(self, reference: ClientReference) -> bytes:
        size = tfrecord.HEAD + reference.length + tfrecord.FOOT
        framed = self._files.read(reference.shard, reference.offset, size)
        try:
            if len(framed) != size:
                raise tfrecord.DamagedFrameError("it ends within a record")
            return tfrecord.unframe(framed)
        except tfrecord.DamagedFrameError as error:
            raise StoreError(
                f"the record of client {reference.client_id!r} at byte {reference.offset} of "
                f"{reference.shard} is damaged: {error}. Ingest the data again."
            ) from error

    def _check_complete(self, paths: Sequence[str]) -> None:
        names = [_SHARD_NAME.search(path) for path in paths]
        expected = {int(name[2]) for name in names if name}
        if None in names or expected != {len(paths)}:
            raise StoreError(
                f"{self._folder} holds {len(paths)} index files of {sorted(expected)} shards. "
                "Part of the artifact is missing; ingest the data again."
            )


def has_split(directory: str, split: str) -> bool:
    """Whether a store has a split of that name."""
    return bool(files.match(files.join(split_directory(directory, split), "*-of-?????.index")))


def split_directory(directory: str, split: str) -> str:
    """The folder of a split, named as TFX names it."""
    return files.join(directory, f"Split-{split}")


def write_schema(directory: str, schema: Schema) -> None:
    """Writes schema.json."""
    files.write_bytes(files.join(directory, layout.SCHEMA), schema.to_json().encode() + b"\n")


def read_schema(directory: str) -> Schema:
    """Reads schema.json."""
    return Schema.from_json(files.read_bytes(files.join(directory, layout.SCHEMA)).decode())


def _reference(index_path: str, entry: Any) -> ClientReference:
    return ClientReference(
        client_id=entry["client_id"].decode(),
        shard=index_path.removesuffix(".index") + ".tfrecord",
        offset=int(entry["offset"]),
        length=int(entry["length"]),
        examples=int(entry["examples"]),
    )


def _index_key(client_id: str) -> bytes:
    key = client_id.encode()
    if not key or key.endswith(b"\0") or len(key) > _LONGEST_ID:
        raise DataError(
            f"a client id of {len(key)} bytes: wanted 1 to {_LONGEST_ID}, and no NUL character at "
            "the end. Set client_ids: hashed, or take another column."
        )
    return key


def _shard_path(directory: str, shard: int, shards: int) -> str:
    return files.join(directory, f"clients-{shard:05d}-of-{shards:05d}.tfrecord")


def _index_path(shard_path: str) -> str:
    return shard_path.removesuffix(".tfrecord") + ".index"
