"""Any table in: the store gives back exactly the accepted rows of each client."""

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.components.ingest import run, spill, transforms
from privet.components.ingest.config import IngestConfig
from privet.components.shared.errors import DataError
from privet.components.shared.storage import ClientStore

CLIENTS = ["ann", "bob", "漢", "d,e", 'f"g', ""]
SPLITS = ["train", "eval", "test", "other"]

rows = st.fixed_dictionaries(
    {
        "client": st.sampled_from(CLIENTS),
        "split": st.sampled_from(SPLITS[:3]) | st.sampled_from(SPLITS),
        "x": st.integers(-2, 12),
        "label": st.integers(-1, 3),
    }
)
tables = st.lists(st.lists(rows, max_size=12), min_size=1, max_size=3)


def refusal(row: dict[str, Any]) -> str | None:
    """What an independent reading of the schema says about a row."""
    if not row["client"]:
        return "the client id is missing"
    if row["split"] == "other":
        return "column split must be one of train, eval, test"
    if not 0 <= row["x"] <= 9:
        return "column x is outside [0.0, 9.0]"
    if not 0 <= row["label"] <= 2:
        return "label label is not a class from 0 to 2"
    return None


@pytest.mark.slow
@settings(max_examples=25)
@given(
    tables=tables,
    least=st.integers(1, 3),
    most=st.none() | st.integers(3, 4),
    shards=st.sampled_from([1, 3, 70]),
    chunk=st.sampled_from([200, 1 << 20]),
    by_column=st.booleans(),
)
def test_store_holds_exactly_the_accepted_rows(
    tables: list[list[dict[str, Any]]],
    least: int,
    most: int | None,
    shards: int,
    chunk: int,
    by_column: bool,
    beam_options: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("property")
    if not by_column:
        tables = [[{**row, "split": "train"} for row in table] for table in tables]
    # Two clients that are always there, so that no split is empty.
    always = [{"client": f"{split}!", "split": split, "x": 1, "label": 1} for split in SPLITS[:2]]
    tables = [[*tables[0], *(always * least)], *tables[1:]]
    for number, table in enumerate(tables):
        lines = "".join(json.dumps(row) + "\n" for row in table)
        Path(folder, f"{number}.jsonl").write_text(lines)
    config = IngestConfig.from_mapping(
        {
            "files": f"{folder}/*.jsonl",
            "client_id": "client",
            "client_ids": "exact",
            "features": {"x": {"columns": "x", "dtype": "int64", "minimum": 0, "maximum": 9}},
            "label": {"column": "label", "classes": 3},
            "split": {"column": "split"},
            "min_examples_per_client": least,
            "max_examples_per_client": most,
            "max_reject_fraction": 1.0,
            "allow_empty_clients": True,
            "shards": shards,
        }
    )
    inputs = [row for table in tables for row in table]
    accepted: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for row in inputs:
        if refusal(row) is None:
            accepted[row["client"]].append(row)
    torn = [name for name, kept in accepted.items() if len({row["split"] for row in kept}) > 1]

    def ingest() -> None:
        run.ingest_to(
            config, f"{folder}/out", f"{folder}/state", lambda: transforms.pipeline_of(beam_options)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "CHUNK_BYTES", chunk)
        if torn:
            with pytest.raises(DataError, match=f"^{len(torn)} clients have rows in more than one"):
                ingest()
            return
        ingest()

    listed = [
        json.loads(line)
        for path in Path(folder, "out", "rejects").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    reasons = collections.Counter(refusal(row) for row in inputs)
    kept = reasons.pop(None)
    assert collections.Counter(line["reason"] for line in listed) == reasons
    assert kept + len(listed) == len(inputs)
    for split in SPLITS[:3]:
        store = ClientStore(f"{folder}/out", split)
        expected = {
            name: [(row["x"], row["label"]) for row in kept]
            for name, kept in accepted.items()
            if kept[0]["split"] == split and len(kept) >= least
        }
        found = {client.client_id: client for client in store.read_many(store)}
        assert found.keys() == expected.keys()
        assert len(store) == len(expected)
        for name, client in found.items():
            examples = list(
                zip(client.features["x"][:, 0].tolist(), client.labels.tolist(), strict=True)
            )
            assert len(examples) == min(len(expected[name]), most or len(expected[name]))
            assert is_subsequence(examples, expected[name])


def is_subsequence(short: list[Any], long: list[Any]) -> bool:
    remaining = iter(long)
    return all(item in remaining for item in short)


def test_is_subsequence_minds_the_order() -> None:
    assert is_subsequence([1, 3], [1, 2, 3])
    assert not is_subsequence([3, 1], [1, 2, 3])


def test_chunks_and_workers_do_not_change_the_store(
    tmp_path: Path, beam_options: list[str]
) -> None:
    """Byte for byte, whatever the bundles: chunks of one batch, threads, or processes."""
    generator = np.random.default_rng(0)
    for number in range(4):
        lines = [
            json.dumps({"client": f"c{client}", "x": int(x), "label": int(x) % 3})
            for client, x in zip(
                generator.integers(0, 40, 400), generator.integers(0, 10, 400), strict=True
            )
        ]
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines))
    config = IngestConfig.from_mapping(
        {
            "files": f"{tmp_path}/*.jsonl",
            "client_id": "client",
            "client_ids": "exact",
            "features": {"x": {"columns": "x"}},
            "label": {"column": "label", "classes": 3},
            "max_examples_per_client": 7,
            "split": {"eval": 0.3},
        }
    )
    variants: list[tuple[str, int, list[str]]] = [
        ("one", 1 << 25, []),
        ("chunks", 500, []),
        ("threads", 500, ["--direct_running_mode=multi_threading", "--direct_num_workers=3"]),
        (
            "processes",
            1 << 25,
            ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
        ),
    ]
    for name, chunk, options in variants:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spill, "CHUNK_BYTES", chunk)
            run.ingest_to(
                config,
                f"{tmp_path}/{name}",
                f"{tmp_path}/state",
                lambda options=options: transforms.pipeline_of([*beam_options, *options]),
            )
    files = sorted(path.relative_to(tmp_path / "one") for path in tmp_path.glob("one/**/*.*"))
    assert len(files) > 32
    for name, _, _ in variants[1:]:
        for file in files:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
