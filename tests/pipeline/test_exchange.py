"""Export and import: a store that went through any format comes back equal, client by client."""

import json
import stat
import string
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privet.components.ingest.formats import FORMATS
from privet.components.shared import storage
from privet.components.shared.errors import ConfigError, DataError, StoreError
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData, ClientStore
from privet.pipeline import cli, exchange
from privet.pipeline.config import load_config

Splits = Mapping[str, Iterable[ClientData]]

SCHEMA = Schema.from_mapping(
    {
        "client_id": "owner",
        "features": {
            "x": {"columns": "x_{0..1}", "minimum": -0.1, "maximum": 0.1},
            "image": {"columns": "img", "dtype": "uint8", "shape": [2, 2], "encoding": "image"},
            "word": {"columns": "w", "dtype": "int64", "vocabulary": ["a", "b", "c"]},
        },
        "label": {"column": "y", "classes": 3},
    }
)


def write_store(directory: Path, schema: Schema, splits: Splits, shards: int = 2) -> str:
    storage.write_schema(str(directory), schema)
    for split, clients in splits.items():
        for shard in range(shards):
            folder = storage.split_directory(str(directory), split)
            with storage.ShardWriter(folder, shard, shards) as writer:
                for client in clients:
                    if storage.shard_of(client.client_id, shards) == shard:
                        writer.write(client.client_id, len(client), storage.encode_client(client))
    return str(directory)


def content(directory: str, split: str) -> dict[str, Any]:
    """Client -> everything that it holds, to the last bit."""
    with ClientStore(directory, split) as store:
        return {
            client.client_id: (
                client.labels.dtype.str,
                client.labels.tobytes(),
                {
                    name: (values.dtype.str, values.shape, values.tobytes())
                    for name, values in client.features.items()
                },
            )
            for client in store.read_many(store)
        }


def some_clients(names: Iterable[str]) -> list[ClientData]:
    generator = np.random.default_rng(0)
    return [
        ClientData(
            name,
            {
                "x": generator.choice(np.float32([-0.1, 0, 0.1]), (n, 2)),
                "image": generator.integers(0, 256, (n, 2, 2), dtype=np.uint8),
                "word": generator.integers(0, 3, (n, 1)),
            },
            generator.integers(0, 3, n),
        )
        for n, name in enumerate(names, start=1)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    splits = {
        "train": some_clients(["ann", "bob", "cy"]),
        "eval": some_clients(["dee", "eve"]),
        "test": some_clients(["fay"]),
    }
    return write_store(tmp_path_factory.mktemp("exchange") / "store", SCHEMA, splits, shards=3)


# --- the round trip --------------------------------------------------------------------------

ODD_NAMES = ["plain", "two words", 'a "quoted", one', "é漢🙂", "-1", "null", "line\nbreak", "x.y/z"]
_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
client_ids = _texts.filter(lambda text: not text.endswith("\0"))
ELEMENTS = {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
}


@st.composite
def populations(draw: st.DrawFn, file_format: str) -> tuple[Schema, dict[str, list[ClientData]]]:
    """A schema with columns of odd names and all types, and clients with odd ids."""
    plain = file_format == "avro"  # which allows no others
    names = iter(
        [f"{letter}{index}" for index, letter in enumerate(string.ascii_letters)]
        if plain
        else draw(st.permutations([*ODD_NAMES, "split", "label", "split_name", "a_0", "a"]))
    )
    client_column, label_column = next(names), next(names)
    features: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(sorted(ELEMENTS)))
        columns: Any = [next(names) for _ in range(draw(st.integers(1, 2)))]
        shape = None
        if len(columns) == 1:
            (columns,) = columns
            shape = draw(st.sampled_from([None, [1], [3], [2, 2], [1, 1, 1]]))
        features[f"f{index}"] = {"columns": columns, "dtype": dtype, "shape": shape}
    classes = draw(st.sampled_from([None, 2, 5]))
    schema = Schema.from_mapping(
        {
            "client_id": client_column,
            "features": features,
            "label": {"column": label_column, "classes": classes},
        }
    )
    labels = ELEMENTS["float32"] if classes is None else st.integers(0, classes - 1)
    splits: dict[str, list[ClientData]] = {"train": [], "eval": [], "test": []}
    for position, name in enumerate(
        draw(st.lists(client_ids, min_size=2, max_size=6, unique=True))
    ):
        examples = draw(st.integers(1, 4))
        client = ClientData(
            name,
            {
                feature: draw(
                    arrays.arrays(
                        config.dtype,
                        (examples, *config.example_shape),
                        elements=ELEMENTS[config.dtype],
                    )
                )
                for feature, config in schema.features.items()
            },
            draw(arrays.arrays(schema.label.dtype, examples, elements=labels)),
        )
        fixed = ("train", "eval")[position : position + 1]
        splits[fixed[0] if fixed else draw(st.sampled_from(sorted(splits)))].append(client)
    return schema, splits


@pytest.mark.parametrize("file_format", FORMATS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_store_comes_back_equal_through_any_format(
    file_format: Any, data: st.DataObject
) -> None:
    schema, splits = data.draw(populations(file_format))
    with tempfile.TemporaryDirectory() as folder:
        before = write_store(Path(folder, "before"), schema, splits)
        path, after = str(Path(folder, "out")), str(Path(folder, "after"))
        exchange.export_store(before, path, None, file_format)
        done = exchange.import_store(path, after)

        for split in splits:
            assert content(after, split) == content(before, split)
            assert done["splits"][split]["clients"] == len(splits[split])
        read = storage.read_schema(after)
        assert read.label.classes == schema.label.classes
        for name, feature in schema.features.items():
            assert read.features[name].example_shape == feature.example_shape


@pytest.mark.parametrize("ending", ["csv", "parquet", "sqlite"])
def test_ranges_images_and_vocabularies_come_back(store: str, tmp_path: Path, ending: str) -> None:
    """0.1 is not a float32: the stored value lies beyond the bound as it was written."""
    path = str(tmp_path / f"out.{ending}")
    exchange.export_store(store, path, None, None)
    exchange.import_store(path, str(tmp_path / "after"), shards=1)

    for split in ("train", "eval", "test"):
        assert content(str(tmp_path / "after"), split) == content(store, split)
    read = storage.read_schema(str(tmp_path / "after"))
    assert (read.features["x"].minimum, read.features["x"].maximum) == (-0.1, 0.1)
    assert (read.features["word"].minimum, read.features["word"].maximum) == (0, 2)
    assert len(ClientStore(str(tmp_path / "after"), "train").shards) == 1


def test_extreme_floats_come_back_through_text(tmp_path: Path) -> None:
    """The shortest digits of the largest float32, 3.4028235e38, lie above it."""
    schema = Schema.from_mapping(
        {"client_id": "owner", "features": {"x": {"columns": "x"}}, "label": {"column": "y"}}
    )
    limits = np.finfo(np.float32)
    extremes = np.float32([limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0])
    clients = [
        ClientData(name, {"x": extremes[:, None]}, extremes[::-1]) for name in ("ann", "bob")
    ]
    before = write_store(tmp_path / "before", schema, {"train": clients[:1], "eval": clients[1:]})

    for ending in ("csv", "jsonl"):
        after = str(tmp_path / f"after-{ending}")
        exchange.export_store(before, str(tmp_path / f"out.{ending}"), None, None)
        exchange.import_store(str(tmp_path / f"out.{ending}"), after)
        assert content(after, "train") == content(before, "train")


def test_learned_vocabulary_is_still_refused_by_private_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = {"columns": "w", "dtype": "int64", "learn_vocabulary": 3}
    features = {"word": word}
    schema = Schema.from_mapping(
        {"client_id": "owner", "features": features, "label": {"column": "y", "classes": 3}}
    ).with_learned({"word": ("a", "b", "c")})
    clients = [
        ClientData(one.client_id, {"word": one.features["word"]}, one.labels)
        for one in some_clients(["ann", "bob"])
    ]
    before = write_store(tmp_path / "before", schema, {"train": clients[:1], "eval": clients[1:]})

    assert cli.main(["export-clients", before, str(tmp_path / "out.csv")]) == cli.EXIT_DONE
    assert "NOT private: word" in capsys.readouterr().out
    exchange.import_store(str(tmp_path / "out.csv"), str(tmp_path / "after"))
    assert storage.read_schema(str(tmp_path / "after")).learned_features == ("word",)


def test_exported_file_is_a_data_section_for_a_run(project: Any, store: str) -> None:
    exchange.export_store(store, str(project.folder / "out.parquet"), None, None)
    config = yaml.safe_load(project.config.read_text())
    beside = json.loads((project.folder / "out.parquet.schema.json").read_text())
    config["data"] = {"files": "out.parquet", **beside}
    project.config.write_text(yaml.safe_dump(config))

    data = load_config(project.config).data
    assert data.client_ids == "exact"
    assert data.schema_of(data.features).columns == ("owner", "img", "w", "x_0", "x_1", "y")


# --- what is exported ------------------------------------------------------------------------


def test_work_directory_stands_for_the_store_of_its_last_run(store: str, tmp_path: Path) -> None:
    run = {"artifacts": {"examples": store}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert exchange.store_of(str(tmp_path)) == store

    (tmp_path / "inner").mkdir()
    write_store(tmp_path / "artifacts" / "1", SCHEMA, {})
    (tmp_path / "run.json").write_text(json.dumps({"artifacts": {"examples": "artifacts/1"}}))
    assert exchange.store_of(str(tmp_path)) == str(tmp_path / "artifacts" / "1")


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"neither a client store .* nor a work directory"):
        exchange.store_of(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"artifacts": {}}))
    with pytest.raises(StoreError, match=r"the last run in .* made no client store"):
        exchange.store_of(str(tmp_path))


def test_export_prints_counts(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.csv")
    code = cli.main(["export-clients", store, out, "--split", "train", "--split", "eval", "--json"])

    assert code == cli.EXIT_DONE
    assert json.loads(capsys.readouterr().out) == {
        "path": out,
        "schema": f"{out}.schema.json",
        "splits": {
            "train": {"clients": 3, "examples": 6},
            "eval": {"clients": 2, "examples": 3},
        },
        "left_out": [],
        "learned_features": [],
    }


def test_export_does_not_overwrite(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("precious")

    assert cli.main(["export-clients", store, str(out)]) == cli.EXIT_FAILED
    error = capsys.readouterr().err
    assert error.startswith(f"privet export-clients: {out} exists already.")
    assert error.count("\n") == 1
    assert out.read_text() == "precious"


# --- what is imported ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tff_made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, np.ndarray]]:
    """A file of TFF's own save_to_sql_client_data, without a schema; client -> its pixels."""
    import tensorflow as tf
    from tensorflow_federated.python.simulation.datasets import save_to_sql_client_data

    generator = np.random.default_rng(1)
    pixels = {
        f"writer {i}": generator.random((1 + i % 3, 4, 4)).astype(np.float32) for i in range(20)
    }
    datasets = {
        name: tf.data.Dataset.from_tensor_slices(
            {"pixels": images, "label": np.arange(len(images), dtype=np.int32) * 3}
        )
        for name, images in pixels.items()
    }
    path = str(tmp_path_factory.mktemp("tff") / "made.sqlite")
    save_to_sql_client_data(
        list(pixels),
        datasets.__getitem__,
        path,
        split_names_by_client_id=dict.fromkeys(pixels, "train"),
    )
    return path, pixels


def test_file_made_by_tff_is_imported_by_its_column_names(
    tff_made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, pixels = tff_made
    after = str(tmp_path / "after")

    assert cli.main(["import-clients", path, after]) == cli.EXIT_DONE
    printed = capsys.readouterr().out
    assert "inferred from the columns" in printed
    assert "label: 7 classes" in printed
    assert "training with privacy refuses this store" in printed
    assert "pixels: float32 [16] of pixels" in printed
    schema = storage.read_schema(after)
    assert schema.label.classes == 7
    assert list(schema.features) == ["pixels"]
    assert schema.learned_features == ("pixels",)
    found = {
        client.features["pixels"].tobytes()
        for split in ("train", "eval")
        for client in read_all(after, split)
    }
    assert found == {images.tobytes() for images in pixels.values()}


def test_ids_of_others_are_hashed_with_a_salt_beside_the_store(
    tff_made: Any, tmp_path: Path
) -> None:
    path, _ = tff_made
    first, again = str(tmp_path / "first"), str(tmp_path / "again")
    done = exchange.import_store(path, first)

    assert done["state"] == f"{first}.state"
    ids = {client.client_id for client in read_all(first, "train")}
    assert not any("writer" in client_id for client_id in ids)
    assert not any(b"writer" in file.read_bytes() for file in files_in(Path(first)))
    (salt,) = Path(done["state"]).glob("client_salt")
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    Path(done["state"]).rename(f"{again}.state")
    exchange.import_store(path, again)
    assert {client.client_id for client in read_all(again, "train")} == ids


def test_given_schema_wins(tff_made: Any, tmp_path: Path) -> None:
    path, pixels = tff_made
    schema = tmp_path / "schema.json"
    values = {
        "client_id": "client_id",
        "client_ids": "exact",
        "features": {"image": {"columns": "pixels", "shape": [4, 4]}},
        "label": {"column": "label", "classes": 9},
    }
    schema.write_text(json.dumps(values))
    done = exchange.import_store(path, str(tmp_path / "after"), str(schema), shards=2)

    assert done["schema"] == str(schema)
    train, held_out = (read_all(str(tmp_path / "after"), split) for split in ("train", "eval"))
    assert {client.client_id for client in (*train, *held_out)} == set(pixels)
    for client in train:
        np.testing.assert_array_equal(client.features["image"], pixels[client.client_id])


def test_split_column_is_taken_where_it_names_eval_clients(tmp_path: Path) -> None:
    rows = ["client_id,split,a,label", "ann,train,1,0.5", "bob,eval,2,1.5", "cy,eval,3,2.5"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    done = exchange.import_store(str(tmp_path / "rows.csv"), str(tmp_path / "after"))

    assert {name: counts["clients"] for name, counts in done["splits"].items()} == {
        "train": 1,
        "eval": 2,
        "test": 0,
    }
    assert storage.read_schema(str(tmp_path / "after")).label.classes is None


def test_import_leaves_no_store_behind_when_it_fails(tmp_path: Path) -> None:
    rows = ["client_id,split,a,label", "ann,train,1,0", "bob,eval,2,1", "bob,train,3,1"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")

    with pytest.raises(DataError, match="in more than one split"):
        exchange.import_store(str(tmp_path / "rows.csv"), str(tmp_path / "after"))
    assert not list(tmp_path.glob("after*/Split-*"))
    assert not (tmp_path / "after").exists()
    assert not list(tmp_path.glob("*.tmp-*"))


def test_import_does_not_overwrite(store: str, tmp_path: Path) -> None:
    (tmp_path / "after").mkdir()

    with pytest.raises(DataError, match="after exists already"):
        exchange.import_store(str(tmp_path / "rows.csv"), str(tmp_path / "after"))


def test_file_whose_name_looks_like_a_glob_is_that_file(store: str, tmp_path: Path) -> None:
    path = str(tmp_path / "data[1]*.csv")
    exchange.export_store(store, path, None, None)
    (tmp_path / "data1.csv").write_text("another\n")
    exchange.import_store(path, str(tmp_path / "after"))

    assert content(str(tmp_path / "after"), "train") == content(store, "train")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold an object"),
        ('{"client": "a"}', "unknown configuration key `client`"),
    ],
)
def test_wrong_schema_file_is_a_configuration_error(
    tmp_path: Path, text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("client,a,label\n")
    (tmp_path / "schema.json").write_text(text)
    arguments = [str(tmp_path / "rows.csv"), str(tmp_path / "after")]

    code = cli.main(["import-clients", *arguments, "--schema", str(tmp_path / "schema.json")])
    assert code == cli.EXIT_USAGE
    assert reason in capsys.readouterr().err


def test_missing_schema_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the schema .*No such file"):
        exchange.import_store("rows.csv", str(tmp_path / "after"), str(tmp_path / "nothing.json"))


def read_all(directory: str, split: str) -> list[ClientData]:
    with ClientStore(directory, split) as store:
        return list(store.read_many(store))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
