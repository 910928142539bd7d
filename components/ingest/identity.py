"""Who a client is in the store: its id, its split, and which of its examples are kept.

A raw id goes through a keyed hash (BLAKE2b, RFC 7693), so that the store does not tell who its
clients are. The split comes from the raw id, so that it does not depend on the salt.

The choice among a client's examples goes by the position of a row in its file, and so would, as a
public function, depend on other clients' rows: one client less moves the rows of all others, which
no clipping bounds. As a pseudo-random function of a secret it is the same as independent uniform
choices, whatever the positions, and neighbouring data sets differ in one client's examples only.
"""

import dataclasses
import functools
import hashlib
import secrets
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from privet.components.ingest.config import IngestConfig, SplitConfig
from privet.components.shared import files
from privet.components.shared.client_ids import hashed_ids, read_salt
from privet.components.shared.storage import SPLITS, stable_hash, stable_hashes

SALT_FILE = "client_salt"
"""Name of the salt that a work directory's first run makes."""

_REMEMBERED = 1 << 16
"""Clients whose identity is kept: rows in random order bring the same ones in every batch."""


@dataclasses.dataclass(frozen=True)
class Identities:
    """What is known of the distinct clients of a batch, one entry per client.

    Attributes:
      ids: the store's ids.
      keys: uint64; order and shard of the client in the store.
      splits: uint8, index into storage.SPLITS.
    """

    ids: pa.StringArray
    keys: np.ndarray
    splits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Identifier:
    """Gives clients their identities.

    Attributes:
      config: settings.
      salt_file: the secret; None for simulated clients, who need none.
    """

    config: IngestConfig
    salt_file: str | None

    def identify(self, raw_ids: pa.StringArray) -> Identities:
        """The identities of distinct raw ids."""
        raw, known = raw_ids.to_pylist(), self._known
        new = [raw_id for raw_id in raw if raw_id not in known]
        if len(known) + len(new) > _REMEMBERED:
            known.clear()
            new = raw
        known.update(zip(new, self._identities(new), strict=True))
        ids, keys, splits = zip(*map(known.__getitem__, raw), strict=True) if raw else ((), (), ())
        return Identities(
            pa.array(ids, pa.string()), np.array(keys, np.uint64), np.array(splits, np.uint8)
        )

    def _identities(self, raw_ids: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        """Id, key and split of each."""
        ids = raw = [raw_id.encode() for raw_id in raw_ids]
        if self.config.client_ids == "hashed" and self.salt_file is not None:
            ids = [one.encode() for one in hashed_ids(raw, self._key)]
        keys = stable_hashes("shard", each=ids).tolist()
        splits = assign_splits(raw, self.config.split).tolist()
        return zip((one.decode() for one in ids), keys, splits, strict=True)

    def example_ranks(self, source: str, numbers: np.ndarray) -> np.ndarray:
        """A pseudo-random rank for each row: the lowest of a client are a uniform choice.

        The rank depends on the secret, the seed, the source's name and the row's number only, so
        the choice is the same on every runner, and can be made in parts: the lowest of all are
        among the lowest of each part. AES is the pseudo-random function, on one block per row, so
        there is no chaining mode.

        Args:
          source: name of the source.
          numbers: int64 [rows], positions in the source.

        Returns:
          uint64 [rows].
        """
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        blocks = np.empty((len(numbers), 2), np.uint64)
        blocks[:, 0] = stable_hash("source", source)
        blocks[:, 1] = numbers
        key = hashlib.blake2b(
            str(self.config.split.seed).encode(), key=self._key, digest_size=16, person=b"choice"
        )
        encryptor = Cipher(algorithms.AES(key.digest()), modes.ECB()).encryptor()
        encrypted = encryptor.update(blocks.tobytes()) + encryptor.finalize()
        return np.frombuffer(encrypted, np.uint64).reshape(-1, 2)[:, 0].copy()

    @functools.cached_property
    def _known(self) -> dict[str, tuple[str, int, int]]:
        return {}

    @functools.cached_property
    def _key(self) -> bytes:
        return b"" if self.salt_file is None else read_salt(self.salt_file)


def assign_splits(raw_ids: Sequence[bytes], split: SplitConfig) -> np.ndarray:
    """The split of each client by the hash of its id: a stable, uniform division.

    Returns:
      uint8 [clients], index into SPLITS.
    """
    position = stable_hashes("split", split.seed, each=raw_ids) / 2.0**64
    splits = np.full(len(raw_ids), SPLITS.index("train"), np.uint8)
    splits[position < split.eval + split.test] = SPLITS.index("test")
    splits[position < split.eval] = SPLITS.index("eval")
    return splits


def make_salt(path: str) -> None:
    """Makes a secret salt, unless there is one."""
    if not files.exists(path):
        files.write_secret(path, secrets.token_bytes(32))
