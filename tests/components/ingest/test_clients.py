"""Ids, bounds, splits, partitions and damaged files, through the whole of ingestion."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.partition import client_name
from privet.components.shared.client_ids import read_salt
from privet.components.shared.errors import ConfigError, DataError
from privet.components.shared.storage import ClientStore

CONFIG: dict[str, Any] = {
    "client_id": "client",
    "features": {"x": {"columns": "x", "dtype": "int64"}},
    "label": {"column": "label", "classes": 3},
    "shards": 2,
}


def write(path: Path, sizes: dict[str, int], split: str | None = None) -> str:
    """JSON lines; the clients' rows alternate, x counts a client's rows."""
    rows = [
        {"client": name, "x": row, "label": row % 3, "split": split or name.partition("-")[0]}
        for row in range(max(sizes.values()))
        for name, size in sizes.items()
        if row < size
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config_of(files: str, **changes: Any) -> IngestConfig:
    values = {**CONFIG, "files": files, **changes}
    return IngestConfig.from_mapping({k: v for k, v in values.items() if v is not None})


def clients(found: Any, split: str) -> dict[str, list[int]]:
    store = ClientStore(found.directory, split)
    return {one.client_id: one.features["x"][:, 0].tolist() for one in store.read_many(store)}


def test_no_raw_id_lands_in_an_artifact(ingest: Any, tmp_path: Path) -> None:
    names = {f"person{i}@example.org": 3 for i in range(40)}
    path = write(tmp_path / "a.jsonl", names)
    found = ingest(config_of(path))

    written = b"".join(
        file.read_bytes() for file in Path(found.directory).rglob("*") if file.is_file()
    )
    assert b"person" not in written
    ids = {**clients(found, "train"), **clients(found, "eval")}
    assert len(ids) == 40
    assert all(len(client_id) == 32 for client_id in ids)


def test_ids_repeat_with_the_salt_of_the_state_and_not_with_another(
    ingest: Any, tmp_path: Path
) -> None:
    config = config_of(write(tmp_path / "a.jsonl", {f"c{i}": 1 for i in range(30)}))
    first = ingest(config, tmp_path / "state")
    again = ingest(config, tmp_path / "state")
    other = ingest(config, tmp_path / "other")

    assert clients(first, "train") == clients(again, "train")
    assert not set(clients(first, "train")) & set(clients(other, "train"))
    # The split follows the raw id, so as many clients are in it under any salt.
    assert len(clients(first, "train")) == len(clients(other, "train"))


def test_own_salt_file_is_used_and_must_exist(ingest: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {f"c{i}": 1 for i in range(30)})
    salt = tmp_path / "salt"
    with pytest.raises(ConfigError, match="salt does not exist"):
        ingest(config_of(path, salt_file=str(salt)))
    salt.write_bytes(bytes(32))
    one, two = (ingest(config_of(path, salt_file=str(salt))) for _ in range(2))

    assert clients(one, "train") == clients(two, "train")
    assert read_salt(str(salt)) != bytes(32)  # the key is derived from it


def test_client_in_several_files_is_one_client(ingest: Any, tmp_path: Path) -> None:
    split = {"column": "split"}
    for number in range(3):
        write(tmp_path / f"{number}.jsonl", {"train-a": number + 1, "eval-b": 1})
    found = ingest(config_of(f"{tmp_path}/*.jsonl", client_ids="exact", split=split))

    assert clients(found, "train") == {"train-a": [0, 0, 1, 0, 1, 2]}
    assert clients(found, "eval") == {"eval-b": [0, 0, 0]}


def test_small_clients_are_left_out_and_counted(ingest: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"train-a": 3, "train-b": 2, "eval-c": 3, "eval-d": 1})
    split = {"column": "split"}
    found = ingest(config_of(path, client_ids="exact", split=split, min_examples_per_client=3))

    assert clients(found, "train").keys() == {"train-a"}
    assert clients(found, "eval").keys() == {"eval-c"}
    assert found.summary["clients_too_small"] == 2
    assert found.summary["empty_clients"] == 0


def test_personalization_sets_examples_of_held_out_clients_apart(
    ingest: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", {"train-a": 10, "eval-b": 10, "eval-c": 1, "test-d": 5})
    split = {"column": "split", "personalization": 0.4}
    found = ingest(config_of(path, client_ids="exact", split=split))

    assert clients(found, "train") == {"train-a": list(range(10))}
    evaluated, adapting = clients(found, "eval"), clients(found, "eval_adapt")
    assert evaluated["eval-c"] == [0]
    assert adapting.keys() == {"eval-b"}
    assert (len(evaluated["eval-b"]), len(adapting["eval-b"])) == (6, 4)
    assert sorted(evaluated["eval-b"] + adapting["eval-b"]) == list(range(10))
    assert evaluated["eval-b"] == sorted(evaluated["eval-b"])
    assert adapting["eval-b"] != [6, 7, 8, 9]  # a choice, not the tail
    counted = {
        name: (split["clients"], split["examples"])
        for name, split in found.statistics["splits"].items()
    }
    assert counted == {
        "train": (1, 10),
        "eval": (2, 7),
        "test": (1, 3),
        "eval_adapt": (1, 4),
        "test_adapt": (1, 2),
    }
    assert {name: len(x) for name, x in clients(found, "test").items()} == {"test-d": 3}
    assert {name: len(x) for name, x in clients(found, "test_adapt").items()} == {"test-d": 2}


def test_hot_client_is_bounded_and_loses_no_one_else(
    ingest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privet.components.ingest.spill.CHUNK_BYTES", 20_000)
    sizes = {"train-hot": 5_000, **{f"train-{i}": 2 for i in range(50)}, "eval-b": 2}
    path = write(tmp_path / "a.jsonl", sizes)
    found = ingest(
        config_of(path, client_ids="exact", split={"column": "split"}, max_examples_per_client=100)
    )
    train = clients(found, "train")

    assert len(train["train-hot"]) == 100 == len(set(train["train-hot"]))
    assert train["train-hot"] == sorted(train["train-hot"])
    # Uniform: the mean of 100 out of 0..4999 has a standard deviation below 145.
    assert abs(np.mean(train["train-hot"]) - 2499.5) < 6 * 145
    assert all(len(train[f"train-{i}"]) == 2 for i in range(50))


def test_client_too_large_for_a_record_is_told(
    ingest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privet.components.ingest.merge._MAXIMUM_RECORD", 64)
    path = write(tmp_path / "a.jsonl", {"train-a": 5, "eval-b": 1})

    with pytest.raises(DataError, match=r"^a client has 5 examples of 16 bytes, more than .*max_"):
        ingest(config_of(path, split={"column": "split"}))


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards", "quantity"])
def test_rows_without_a_client_are_partitioned(ingest: Any, tmp_path: Path, kind: str) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.jsonl", {"-": 100})
    partition = {"kind": kind, "clients": 20}
    config = config_of(
        f"{tmp_path}/*.jsonl", client_id=None, partition=partition, split={"eval": 0.3}
    )
    found, again = ingest(config), ingest(config)
    train, held_out = clients(found, "train"), clients(found, "eval")

    assert train.keys() | held_out.keys() == {client_name(number, 20) for number in range(20)}
    assert sum(len(x) for x in (*train.values(), *held_out.values())) == 300
    assert (clients(again, "train"), clients(again, "eval")) == (train, held_out)
    picture = found.statistics["partition"]
    assert picture["kind"] == kind
    assert picture["clients"] == len(train)
    assert picture["shown"] == sorted(train)
    labels = np.array(list(picture["labels"].values())).sum(axis=0).tolist()
    assert labels == [len(train[name]) for name in picture["shown"]]


def test_natural_clients_are_the_values_of_a_column(ingest: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {f"city{i}": 4 for i in range(20)})
    partition = {"kind": "by_feature", "column": "client"}
    found = ingest(config_of(path, client_id=None, partition=partition))

    assert found.statistics["partition"]["kind"] == "by_feature"
    train = clients(found, "train")
    assert all(len(x) == 4 for x in train.values())
    assert not any(name.startswith("city") for name in train)  # real ids are hashed


@pytest.fixture
def truncated(tmp_path: Path) -> str:
    """A good file and one whose gzip stream ends early."""
    good = write(tmp_path / "good.jsonl", {"train-a": 3, "eval-b": 3})
    rows = [
        {"client": f"train-{i}", "x": i * 7919 % 10_007, "label": 0, "split": "train"}
        for i in range(20_000)
    ]
    content = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "bad.jsonl.gz").write_bytes(content[: len(content) * 2 // 3])
    assert good.startswith(str(tmp_path))
    return f"{tmp_path}/*"


def test_damaged_file_stops_the_run_and_is_named(ingest: Any, truncated: str) -> None:
    with pytest.raises(DataError, match=r"^\S*bad\.jsonl\.gz cannot be read"):
        ingest(config_of(truncated, split={"column": "split"}))


def test_damaged_file_is_skipped_from_there_on_if_asked(ingest: Any, truncated: str) -> None:
    found = ingest(config_of(truncated, split={"column": "split"}, corrupt_files="skip"))

    (skipped,) = found.summary["corrupt_files"]
    assert skipped["source"].endswith("bad.jsonl.gz")
    assert 0 < found.statistics["splits"]["train"]["clients"] < 20_000
    assert found.statistics["splits"]["eval"]["clients"] == 1


def test_rejected_values_are_kept_only_if_asked(ingest: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        '{"client": "train-a", "x": 1, "label": 0, "split": "train"}',
        '{"client": "train-a", "x": "SECRET", "label": 0, "split": "train"}',
        "not json SECRET",
        '{"client": "eval-b", "x": 1, "label": 0, "split": "eval"}',
    ]
    path.write_text("\n".join(lines))
    for keep in (False, True):
        found = ingest(
            config_of(
                str(path),
                split={"column": "split"},
                max_reject_fraction=0.5,
                keep_rejected_rows=keep,
            )
        )
        assert [line["row"] for line in found.rejects] == [2, 3]
        assert ("values" in found.rejects[0]) == keep
        assert ("SECRET" in json.dumps(found.rejects)) == keep
    assert found.rejects[0]["values"]["x"] == "SECRET"


def test_features_are_inferred_and_vocabularies_learned(ingest: Any, tmp_path: Path) -> None:
    rows = [
        {"client": f"c{i}", "a_0": i, "a_1": 2, "a_2": 3, "word": "ab"[i % 3 == 0], "label": i % 3}
        for i in range(30)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    word = {"columns": "word", "dtype": "int64", "learn_vocabulary": 5}
    learned = ingest(config_of(str(path), features={"word": word}))
    schema = ClientStore(learned.directory, "train").schema
    assert schema.features["word"].vocabulary == ("a", "b")
    assert schema.learned_features == ("word",)

    assert schema.learned_features == ("word",)
    with pytest.raises(ConfigError, match="word"):
        ingest(config_of(str(path), features=None))
    for row in rows:
        del row["word"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inferred = ingest(config_of(str(path), features=None))
    features = ClientStore(inferred.directory, "train").schema.features
    assert {name: (one.dtype, one.example_shape) for name, one in features.items()} == {
        "a": ("int64", (3,))
    }
    # JSON lines have no types: one client's value decides, which no epsilon covers.
    assert ClientStore(inferred.directory, "train").schema.learned_features == ("a",)
    noised = {"epsilon": 1, "delta": 1e-6, "max_examples_per_client": 1}
    with pytest.raises(ConfigError, match=r"no type for a: learning it"):
        ingest(config_of(str(path), features=None, dp_statistics=noised))


def test_noised_statistics_take_the_place_of_exact_ones(ingest: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {f"c{i}": 5 for i in range(200)})
    config = config_of(
        path, dp_statistics={"epsilon": 1, "delta": 1e-6, "max_examples_per_client": 5}
    )
    one, two = ingest(config), ingest(config)

    assert one.statistics["private"] is True
    assert one.statistics != two.statistics  # the noise comes from the operating system
    clients_found = [found.statistics["splits"]["train"]["clients"] for found in (one, two)]
    exact = len(ClientStore(one.directory, "train"))
    assert all(abs(found - exact) < 200 for found in clients_found)
    assert one.summary["private"] is False
