"""Ingestion end to end: real files, the real in-process Beam runner, the store read back."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from privet.components.shared.errors import DataError
from privet.components.shared.storage import ClientStore


def contents(directory: str, split: str) -> dict[str, tuple[Any, ...]]:
    """client -> its values, in order."""
    store = ClientStore(directory, split)
    return {
        client.client_id: (
            *(client.features[name].tolist() for name in sorted(client.features)),
            client.labels.tolist(),
        )
        for client in store.read_many(store.references())
    }


@pytest.fixture(scope="module")
def table(row: Any) -> list[dict[str, Any]]:
    return [
        row("ann", x_0=1, x_1=2, count=-5, label=0),
        row("bob", x_0=3, label=1),
        row("ann", x_0=0.25, x_1=9, count=2**62, label=2),
        row("漢字", "eval", label=1),
    ]


@pytest.fixture(scope="module")
def from_csv(table: Any, ingest: Any, config_of: Any, write_csv: Any, tmp_path_factory: Any) -> Any:
    return ingest(config_of(str(write_csv(tmp_path_factory.mktemp("csv") / "a.csv", table))))


def test_rows_become_clients_in_the_order_of_the_file(from_csv: Any) -> None:
    assert contents(from_csv.directory, "train") == {
        "ann": ([[-5], [2**62]], [[1.0, 2.0], [0.25, 9.0]], [0, 2]),
        "bob": ([[7]], [[3.0, 2.0]], [1]),
    }
    assert contents(from_csv.directory, "eval") == {"漢字": ([[7]], [[1.5, 2.0]], [1])}


def test_statistics_by_hand(from_csv: Any) -> None:
    assert from_csv.statistics == {
        "schema": 2,
        "private": False,
        "splits": {
            "train": {
                "clients": 2,
                "examples": 3,
                "examples_per_client": {"min": 1, "p50": 1, "max": 2},
                "labels": {"0": 1, "1": 1, "2": 1},
                "labels_per_client": {"min": 1, "p50": 1, "max": 2},
                "features": {
                    "count": {"min": -5, "max": 2**62, "mean": pytest.approx(2**62 / 3)},
                    "x": {"min": 0.25, "max": 9.0, "mean": 17.25 / 6},
                },
            },
            "eval": {
                "clients": 1,
                "examples": 1,
                "examples_per_client": {"min": 1, "p50": 1, "max": 1},
                "labels": {"1": 1},
                "labels_per_client": {"min": 1, "p50": 1, "max": 1},
                "features": {
                    "count": {"min": 7, "max": 7, "mean": 7},
                    "x": {"min": 1.5, "max": 2.0, "mean": 1.75},
                },
            },
            "test": {
                "clients": 0,
                "examples": 0,
                "examples_per_client": {"min": 0, "p50": 0, "max": 0},
                "labels": None,
                "labels_per_client": None,
                "features": {},
            },
        },
    }
    assert from_csv.summary == {
        "schema": 1,
        "private": False,
        "rows": 4,
        "refused": 0,
        "reasons": {},
        "first": [],
        "corrupt_files": [],
        "empty_clients": 0,
        "first_empty_clients": [],
        "clients_in_two_splits": 0,
        "first_in_two_splits": [],
        "clients_too_small": 0,
    }
    assert from_csv.rejects == []
    assert not Path(from_csv.directory, "work").exists()


def test_every_shard_exists_though_empty(from_csv: Any) -> None:
    for split in ("train", "eval", "test"):
        names = sorted(path.name for path in Path(from_csv.directory, f"Split-{split}").iterdir())
        assert names == [
            "clients-00000-of-00002.index",
            "clients-00000-of-00002.tfrecord",
            "clients-00001-of-00002.index",
            "clients-00001-of-00002.tfrecord",
        ]
    assert len(ClientStore(from_csv.directory, "test")) == 0


def test_schema_is_beside_the_data(from_csv: Any, config_of: Any) -> None:
    assert ClientStore(from_csv.directory, "train").schema == config_of("a.csv").schema_of(
        config_of("a.csv").features
    )


def test_csv_and_parquet_give_the_same_store(
    from_csv: Any, table: Any, ingest: Any, config_of: Any, tmp_path: Path
) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(table), tmp_path / "a.parquet")
    from_parquet = ingest(config_of(f"{tmp_path}/a.parquet"))

    for split in ("train", "eval", "test"):
        for one in sorted(Path(from_csv.directory, f"Split-{split}").iterdir()):
            other = Path(from_parquet.directory, f"Split-{split}", one.name)
            assert one.read_bytes() == other.read_bytes()
    assert from_parquet.statistics == from_csv.statistics


def test_two_files_merge_one_client(
    table: Any, ingest: Any, config_of: Any, write_csv: Any, tmp_path: Path, from_csv: Any
) -> None:
    write_csv(tmp_path / "1.csv", table[:2])
    write_csv(tmp_path / "2.csv", table[2:])
    found = ingest(config_of(f"{tmp_path}/*.csv"))

    for split in ("train", "eval"):
        assert contents(found.directory, split) == contents(from_csv.directory, split)


def refused(ingest: Any, config: Any) -> str:
    with pytest.raises(DataError) as error:
        ingest(config)
    return str(error.value)


SECRET = "8675309"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x_0": f"S{SECRET}"}, "column x_0 is not a number"),
        ({"x_0": SECRET}, "column x_0 is outside [0.0, 9.0]"),
        ({"label": SECRET}, "label label is not a class from 0 to 2"),
    ],
)
def test_one_bad_row_stops_the_run_with_its_place_but_not_its_value(
    ingest: Any,
    config_of: Any,
    row: Any,
    write_csv: Any,
    tmp_path: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    path = write_csv(
        tmp_path / "a.csv", [row("ann"), row("ann", **changes), row("eve", "eval"), row("ann")]
    )
    message = refused(ingest, config_of(str(path)))

    assert message == (
        "1 of 4 rows do not fit the schema, more than data.max_reject_fraction=0.0 allows. "
        f"Most frequent: 1 x {reason}. First: {path} row 2: {reason}. "
        "Correct the rows or data.features / data.label, or raise the fraction to skip them. "
        f"All refused rows are listed in {ingest.state}/rejects."
    )
    listed = Path(ingest.state, "rejects", "rejects-00000.jsonl").read_text()
    assert json.loads(listed) == {"source": str(path), "row": 2, "reason": reason}
    written = b"".join(one.read_bytes() for one in ingest.folder.rglob("*") if one.is_file())
    assert SECRET.encode() not in written


def test_allowed_rejects_are_listed_and_counted(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    bad = [
        row("ann", x_0=""),
        row("ann", x_0="nan"),
        row("", label=1),
        row("ann", label=3),
        row("ann", label=4),
        row("bob", "validation"),
    ]
    good = [row("ann"), row("bob"), row("eve", "eval")]
    path = str(write_csv(tmp_path / "a.csv", [*bad, *good]))
    found = ingest(config_of(path, max_reject_fraction=0.7))

    reasons = [
        "column x_0 is missing",
        "column x_0 is not a finite float32",
        "the client id is missing",
        "label label is not a class from 0 to 2",
        "label label is not a class from 0 to 2",
        "column split must be one of train, eval, test",
    ]
    assert found.rejects == [
        {"source": path, "row": number, "reason": reason}
        for number, reason in enumerate(reasons, start=1)
    ]
    rejected = found.summary
    assert rejected["rows"] == 9
    assert rejected["refused"] == 6
    assert rejected["reasons"] == {reason: reasons.count(reason) for reason in reasons}
    assert rejected["first"] == found.rejects[:5]
    assert contents(found.directory, "train").keys() == {"ann", "bob"}


def test_client_whose_rows_were_all_refused_stops_the_run_or_is_counted(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    path = str(
        write_csv(
            tmp_path / "a.csv",
            [row("ann"), row("bob", label=9), row("bob", x_0=-1), row("eve", "eval")],
        )
    )

    assert f"1 clients have no valid example left, for example those of {path} row 2." in refused(
        ingest, config_of(path, max_reject_fraction=0.5)
    )
    found = ingest(config_of(path, max_reject_fraction=0.5, allow_empty_clients=True))
    assert found.summary["empty_clients"] == 1
    assert found.statistics["splits"]["train"]["clients"] == 1


@pytest.mark.parametrize("limit", [None, 1])
def test_client_in_two_splits_stops_the_run(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path, limit: int | None
) -> None:
    path = str(
        write_csv(
            tmp_path / "a.csv", [row("ann"), row("bob"), row("bob", "eval"), row("eve", "eval")]
        )
    )
    config = config_of(path, max_examples_per_client=limit)

    message = refused(ingest, config)
    # Which of bob's rows is left to name depends on the salt.
    assert re.fullmatch(
        "1 clients have rows in more than one split, for example those of "
        rf"{path} row [23]\. Column 'split' must hold one split per client: clients are split, "
        rf"not rows\. All refused rows are listed in {ingest.state}/rejects\.",
        message,
    )


def test_empty_split_stops_the_run(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    path = str(write_csv(tmp_path / "a.csv", [row("ann")]))

    assert refused(ingest, config_of(path)).startswith(
        "the eval split has no client. Add clients, or change data.split"
    )


def test_missing_client_column_is_named_before_anything_runs(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    path = str(write_csv(tmp_path / "a.csv", [row("ann")]))

    assert f"{path} has no column user (the client id). Its columns: client, split" in refused(
        ingest, config_of(path, client_id="user")
    )
    assert not list(ingest.folder.rglob("*.tfrecord"))


CLIENTS, ROWS, KEPT = 300, 6, 2


@pytest.fixture(scope="module")
def bounded(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path_factory: Any
) -> list[Any]:
    """The same 300 clients of six numbered rows, bounded to two: twice, from two folders."""
    table = [row(f"c{c}", count=r) for c in range(CLIENTS) for r in range(ROWS)]
    stores = []
    salt = tmp_path_factory.mktemp("salt") / "salt"
    salt.write_bytes(bytes(32))
    for seed in (0, 0, 1):
        path = str(write_csv(tmp_path_factory.mktemp("rows") / "a.csv", table))
        split = {"eval": 0.3, "seed": seed}
        config = config_of(path, split=split, max_examples_per_client=KEPT, salt_file=str(salt))
        stores.append(ingest(config))
    return stores


def kept_rows(store: Any) -> dict[str, list[int]]:
    merged = {**contents(store.directory, "train"), **contents(store.directory, "eval")}
    return {name: [count for (count,) in values[0]] for name, values in merged.items()}


def test_limit_keeps_exactly_so_many_examples(bounded: list[Any]) -> None:
    kept = kept_rows(bounded[0])

    assert len(kept) == CLIENTS
    assert all(len(set(rows)) == KEPT and rows == sorted(rows) for rows in kept.values())


def test_choice_repeats_in_another_folder_and_changes_with_the_seed(bounded: list[Any]) -> None:
    assert kept_rows(bounded[0]) == kept_rows(bounded[1])
    assert kept_rows(bounded[0]) != kept_rows(bounded[2])


def test_choice_is_uniform(bounded: list[Any]) -> None:
    rows = [row for kept in kept_rows(bounded[0]).values() for row in kept]
    counts = np.bincount(rows, minlength=ROWS)
    p = KEPT / ROWS

    assert np.abs(counts - CLIENTS * p).max() < 6 * np.sqrt(CLIENTS * p * (1 - p))


def test_hash_split_does_not_move_a_client_when_others_are_added(
    bounded: list[Any], ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    more = [row(f"new{c}") for c in range(100)] + [row(f"c{c}") for c in range(CLIENTS)]
    path = str(write_csv(tmp_path / "more.csv", more))
    larger = ingest(config_of(path, split={"eval": 0.3}))

    for split in ("train", "eval"):
        before = contents(bounded[0].directory, split).keys()
        after = contents(larger.directory, split).keys()
        assert before == {name for name in after if name.startswith("c")}


def test_regression_data_have_no_label_counts(
    ingest: Any, config_of: Any, row: Any, write_csv: Any, tmp_path: Path
) -> None:
    path = str(
        write_csv(tmp_path / "a.csv", [row("ann", label=-1.25), row("eve", "eval", label=2.5)])
    )
    found = ingest(config_of(path, label={"column": "label"}))

    assert found.statistics["splits"]["train"]["labels"] is None
    assert contents(found.directory, "train")["ann"][-1] == [-1.25]
