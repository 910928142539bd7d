"""Ids, splits and seeds of clients."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from privet.components.ingest import identity
from privet.components.ingest.identity import (
    Identifier,
    assign_splits,
    make_salt,
)
from privet.components.shared.client_ids import read_salt
from privet.components.shared.errors import ConfigError
from privet.components.shared.storage import SPLITS

RAW = pa.array(["ann", "bob", "漢"])


def test_exact_ids_stay_as_they_are(config_of: Any) -> None:
    assert Identifier(config_of("a.csv", client_ids="exact"), None).identify(RAW).ids == RAW


def test_hashed_ids_depend_on_the_salt_alone(config_of: Any, tmp_path: Path) -> None:
    for name in ("one", "same", "other"):
        (tmp_path / name).write_bytes(
            b"x" * 31 + name[-3:].encode() if name == "other" else b"x" * 32
        )
    one, same, other = (
        Identifier(config_of("a.csv", client_ids="hashed"), str(tmp_path / name))
        .identify(RAW)
        .ids.to_pylist()
        for name in ("one", "same", "other")
    )

    assert one == same
    assert not set(one) & set(other)
    assert all(len(client_id) == 32 and client_id.isascii() for client_id in one)
    assert len(set(one)) == 3


def test_split_does_not_depend_on_the_salt(config_of: Any, tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(bytes(range(32)))
    config = config_of("a.csv", client_ids="hashed", split={"eval": 0.5})
    exact = Identifier(config, None).identify(RAW)
    hashed = Identifier(config, str(tmp_path / "salt")).identify(RAW)

    assert exact.splits.tolist() == hashed.splits.tolist()
    assert exact.keys.tolist() != hashed.keys.tolist()


def test_salt_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "salt"
    make_salt(str(path))
    first = path.read_bytes()
    make_salt(str(path))

    assert path.read_bytes() == first
    assert len(first) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_missing_or_short_salt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"salt does not exist\. Make one"):
        read_salt(str(tmp_path / "salt"))
    (tmp_path / "salt").write_bytes(b"secret")
    with pytest.raises(ConfigError, match=r"holds 6 bytes; at least 16 random"):
        read_salt(str(tmp_path / "salt"))


def test_hash_split_is_close_to_its_fraction(config_of: Any) -> None:
    config = config_of("a.csv", split={"eval": 0.2, "test": 0.1})
    splits = assign_splits([b"client-%d" % i for i in range(20_000)], config.split)

    for split, p in (("eval", 0.2), ("test", 0.1), ("train", 0.7)):
        count = np.count_nonzero(splits == SPLITS.index(split))
        z = (count - 20_000 * p) / np.sqrt(20_000 * p * (1 - p))
        assert abs(z) < 6


def test_another_seed_gives_another_division(config_of: Any) -> None:
    ids = [b"c%d" % i for i in range(4000)]
    one, other = (
        assign_splits(ids, config_of("a.csv", split={"eval": 0.5, "seed": seed}).split)
        for seed in (0, 1)
    )

    assert abs(np.count_nonzero(one == other) - 2000) < 6 * np.sqrt(1000)


def test_identity_is_the_same_when_clients_come_again(
    config_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 4)
    (tmp_path / "salt").write_bytes(bytes(range(32)))
    config = config_of("a.csv", split={"eval": 0.5})
    remembering = Identifier(config, str(tmp_path / "salt"))
    for batch in (["a", "b", "c"], ["c", "d"], ["b", "e", "f", "g", "h"], [], ["a", "h", "i"]):
        ids = pa.array(batch, pa.string())
        got = remembering.identify(ids)
        fresh = Identifier(config, str(tmp_path / "salt")).identify(ids)
        assert got.ids == fresh.ids
        assert got.keys.tolist() == fresh.keys.tolist()
        assert got.splits.tolist() == fresh.splits.tolist()


def test_ranks_are_uniform_and_differ_by_secret_seed_source_and_row(
    config_of: Any, tmp_path: Path
) -> None:
    (tmp_path / "salt").write_bytes(bytes(range(32)))
    rows = np.arange(1, 100_001)
    config = config_of("a.csv", client_ids="exact")
    identifier = Identifier(config, None)
    ranks = identifier.example_ranks("a.csv", rows)

    assert len(np.unique(ranks)) == len(rows)
    bins = np.bincount((ranks >> np.uint64(60)).astype(int), minlength=16)
    assert np.abs(bins - len(rows) / 16).max() < 6 * np.sqrt(len(rows) * 15 / 256)
    order = np.corrcoef(np.argsort(ranks), rows)[0, 1]
    assert abs(order) < 6 / np.sqrt(len(rows))
    again = Identifier(config, None).example_ranks("a.csv", rows[:3])
    assert again.tolist() == ranks[:3].tolist()
    other_seed = config_of("a.csv", client_ids="exact", split={"seed": 1})
    for other in (
        identifier.example_ranks("b.csv", rows),
        identifier.example_ranks("a.csv", rows + 100_000),
        Identifier(other_seed, None).example_ranks("a.csv", rows),
        # Also where ids are exact: the choice must be secret.
        Identifier(config, str(tmp_path / "salt")).example_ranks("a.csv", rows),
    ):
        assert not np.isin(ranks, other).any()
