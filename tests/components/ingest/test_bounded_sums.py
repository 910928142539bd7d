"""Bounded sums by hand, and the bound itself on any data: one client never adds more."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.ingest.bounded_sums import (
    MEAN_STEPS,
    BoundedSums,
    public_range,
    size_edges,
    statistics_of,
)
from privet.components.ingest.config import IngestConfig
from privet.components.shared.schema import FeatureConfig, Schema
from privet.components.shared.storage import ClientData

FEATURES = {
    "x": {"columns": ["x_0", "x_1"], "minimum": -1, "maximum": 3},
    "image": {"columns": "image", "dtype": "uint8", "shape": [2, 2]},
    "age": {"columns": "age", "dtype": "int64", "minimum": 0, "maximum": 100},
    "words": {
        "columns": "words",
        "dtype": "int64",
        "shape": [3],
        "vocabulary": ["a", "b"],
        "tokens": "words",
        "unknown": "index",
    },
    "free": {"columns": "free"},
}


def make_config(limit: int = 3, **changes: Any) -> IngestConfig:
    return IngestConfig.from_mapping(
        {
            "files": "rows.csv",
            "client_id": "client",
            "features": FEATURES,
            "label": {"column": "digit", "classes": 3},
            "dp_statistics": {"epsilon": 1, "delta": 1e-6, "max_examples_per_client": limit},
            **changes,
        }
    )


def make_sums(limit: int = 3, **changes: Any) -> BoundedSums:
    config = make_config(limit, **changes)
    return BoundedSums(config, config.schema_of(config.features))


def make_client(name: str, labels: Any, x: Any, image: Any, age: Any, words: Any) -> ClientData:
    return ClientData(
        name,
        {
            "x": np.array(x, np.float32).reshape(-1, 2),
            "image": np.array(image, np.uint8).reshape(-1, 2, 2),
            "age": np.array(age, np.int64).reshape(-1, 1),
            "words": np.array(words, np.int64).reshape(-1, 3),
            "free": np.zeros((len(labels), 1), np.float32),
        },
        np.array(labels, np.int64),
    )


ANN = make_client("ann", [2], [[-1, 3]], [[0, 25, 26, 255]], [[100]], [[1, 2, 0]])
BOB = make_client(
    "bob",
    [0, 1, 1, 2, 0],
    [[1, 1], [3, 3], [2, 2], [-1, -1], [0, 0]],
    [[255] * 4, [0] * 4, [51] * 4, [0] * 4, [0] * 4],
    [[0], [10], [55], [99], [1]],
    [[3, 3, 3], [0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 0, 0]],
)
# Of bob's five examples three count, at even distances: 0, 1 (5 / 3) and 3 (10 / 3).


def test_sums_of_two_clients_are_those_counted_by_hand() -> None:
    sums = make_sums()
    sums.add("train", ANN)
    sums.add("train", BOB)
    train = {name: values.tolist() for name, values in sums.sums["train"].items()}

    assert train == {
        "clients": [2],
        "examples": [4],  # 1 + 3 of 5
        "examples_per_client": [1, 1],  # one example; two or three
        "labels": [1, 1, 2],  # ann: 2; bob: 0, 1, 2
        # Means of x, mapped from [-1, 3] to [-1, 1]: ann 0; bob 0, 1, -1.
        "x.mean": [0],
        # -1 twice (bob) and once (ann) in the first bin, 1 twice in the sixth, 3 thrice in the last
        "x.histogram": [3, 0, 0, 0, 0, 2, 0, 0, 0, 3],
        # Ann: 2 * (0 + 25 + 26 + 255) / (4 * 255) - 1 = -0.4; bob: 1, -1, -1.
        "image.mean": [round(-0.4 * MEAN_STEPS) - MEAN_STEPS],
        "image.histogram": [10, 1, 0, 0, 0, 0, 0, 0, 0, 5],  # 25 < 25.5 < 26
        # Ages 100 | 0, 10, 99 -> 1, -1, -0.8, 0.98
        "age.mean": [MEAN_STEPS + sum(round(a * MEAN_STEPS) for a in (-1.0, -0.8, 0.98))],
        "age.histogram": [1, 1, 0, 0, 0, 0, 0, 0, 0, 2],
        "words.histogram": [4, 1, 4, 3],  # padding, a, b, unknown
    }
    assert not any(values.any() for values in sums.sums["eval"].values())


def test_every_split_that_holds_clients_is_there_from_the_start() -> None:
    assert list(make_sums().sums) == ["train", "eval"]
    held_out = {"eval": 0.2, "test": 0.2, "personalization": 0.5}
    assert list(make_sums(split=held_out).sums) == ["train", "eval", "test"]


def test_held_out_client_counts_once_with_the_examples_that_adapt_too() -> None:
    sums = make_sums(limit=10, split={"eval": 0.2, "personalization": 0.4})
    sums.add("eval", BOB)

    assert list(sums.sums) == ["train", "eval"]
    assert sums.sums["eval"]["clients"] == [1]
    assert sums.sums["eval"]["examples"] == [5]
    with pytest.raises(KeyError):
        sums.add("eval_adapt", BOB)


def test_what_is_not_public_is_not_summed() -> None:
    config = make_config()
    learned = {**FEATURES["words"], "learn_vocabulary": 5}
    learned.pop("vocabulary")
    changes = make_config(features={**FEATURES, "words": learned})
    schema = changes.schema_of(changes.features)
    names = {one.name for one in statistics_of(schema, 3)}
    known = {one.name for one in statistics_of(config.schema_of(config.features), 3)}

    assert known - names == {"words.histogram"}
    assert not any(name.startswith("free") for name in known)
    # After learning, too: how many strings there are is the clients' secret.
    settled = schema.with_learned({"words": ("a", "b", "c")})
    assert {one.name for one in statistics_of(settled, 3)} == names


def test_regression_has_no_histogram_of_labels() -> None:
    config = make_config(label={"column": "digit"})
    assert "labels" not in {one.name for one in statistics_of(config.schema_of(config.features), 3)}


@pytest.mark.parametrize(
    ("feature", "bounds"),
    [
        ({}, None),
        ({"minimum": 0}, None),
        ({"minimum": 2, "maximum": 2}, None),
        ({"minimum": -1e308, "maximum": 1e308}, None),
        ({"minimum": 0, "maximum": 2}, (0.0, 2.0)),
        ({"dtype": "uint8"}, (0.0, 255.0)),
        ({"dtype": "uint8", "maximum": 15}, (0.0, 15.0)),
        ({"dtype": "int64"}, None),
    ],
)
def test_range_is_public_only_if_the_schema_says_it(feature: Any, bounds: Any) -> None:
    assert public_range(FeatureConfig.from_mapping({"columns": "x", **feature})) == bounds


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 8, 1000])
def test_every_size_has_exactly_one_bin(limit: int) -> None:
    edges = size_edges(limit)

    assert edges[0] == 1
    assert edges[-1] == limit + 1
    assert edges == sorted(set(edges))
    assert all(edge & (edge - 1) == 0 for edge in edges[:-1])


def many(generator: np.random.Generator, clients: int, most: int) -> list[ClientData]:
    def one(name: int) -> ClientData:
        rows = int(generator.integers(1, most + 1))
        return make_client(
            str(name),
            generator.integers(0, 3, rows),
            generator.uniform(-1, 3, (rows, 2)),
            generator.integers(0, 256, (rows, 4)),
            generator.integers(0, 101, rows),
            generator.integers(0, 4, (rows, 3)),
        )

    return [one(name) for name in range(clients)]


def columns_of(clients: list[ClientData]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    features = {
        name: np.concatenate([client.features[name] for client in clients]) for name in FEATURES
    }
    labels = np.concatenate([client.labels for client in clients])
    return features, labels, np.cumsum([0, *(len(client) for client in clients)])


def equal(one: BoundedSums, other: BoundedSums) -> bool:
    return all(
        np.array_equal(values, other.sums[split][name])
        for split, sums in one.sums.items()
        for name, values in sums.items()
    )


@pytest.mark.parametrize("limit", [1, 4, 9, 50])
def test_many_at_once_in_chunks_or_merged_in_parts_are_the_same(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = many(np.random.default_rng(7), 40, 20)
    one_by_one, at_once, chunked = make_sums(limit), make_sums(limit), make_sums(limit)
    parts = [make_sums(limit) for _ in range(3)]
    for number, client in enumerate(clients):
        one_by_one.add("train", client)
        parts[number % 3].add("train", client)
    at_once.add_many("train", *columns_of(clients))
    monkeypatch.setattr("privet.components.ingest.bounded_sums._CHUNK_VALUES", 7)
    chunked.add_many("train", *columns_of(clients))
    last = pickle.loads(pickle.dumps(parts[2]))
    merged = last.merge(parts[0]).merge(parts[1])

    assert equal(at_once, one_by_one)
    assert equal(chunked, one_by_one)
    assert equal(merged, one_by_one)
    assert one_by_one.sums["train"]["clients"] == [40]


def test_no_clients_at_all_add_nothing() -> None:
    sums = make_sums()
    features = {name: values[:0] for name, values in ANN.features.items()}
    sums.add_many("train", features, ANN.labels[:0], np.array([0]))

    assert equal(sums, make_sums())


def test_bytes_are_summed_as_any_other_number() -> None:
    whole = {"columns": "image", "dtype": "uint8", "shape": [2, 2]}
    values = np.arange(256, dtype=np.uint8).reshape(-1, 2, 2)
    labels, starts = np.zeros(64, np.int64), np.arange(65)
    found = []
    for dtype, bounds in (("uint8", {}), ("int64", {"minimum": 0, "maximum": 255})):
        feature = {**whole, "dtype": dtype, **bounds}
        sums = make_sums(features={"image": feature})
        sums.add_many("train", {"image": values.astype(dtype)}, labels, starts)
        found.append(sums.sums["train"])

    assert found[0]["image.histogram"].tolist() == found[1]["image.histogram"].tolist()
    assert found[0]["image.histogram"].tolist() == np.histogram(values, 10, (0, 255))[0].tolist()
    assert found[0]["image.mean"] == pytest.approx(found[1]["image.mean"], abs=64)
    assert found[0]["image.mean"] == pytest.approx([0], abs=64)  # symmetric


# Any numbers at all, as if the check against the schema had failed: the bound must still hold.
ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True)
ANY_INTEGER = st.integers(-(2**63), 2**63 - 1)


@st.composite
def any_client(draw: st.DrawFn) -> ClientData:
    rows = draw(st.integers(1, 9))

    def numbers(one: st.SearchStrategy[Any], count: int) -> list[Any]:
        constant = st.builds(lambda value: [value] * count, one)  # reaches the bounds
        return draw(st.lists(one, min_size=count, max_size=count) | constant)

    return make_client(
        "any",
        numbers(st.integers(0, 2) | ANY_INTEGER, rows),
        numbers(st.sampled_from([-1.0, 3.0]) | ANY_FLOAT, 2 * rows),
        numbers(st.sampled_from([0, 255]) | st.integers(0, 255), 4 * rows),
        numbers(st.sampled_from([0, 100]) | ANY_INTEGER, rows),
        numbers(st.integers(0, 3) | ANY_INTEGER, 3 * rows),
    )


@given(
    others=st.lists(any_client(), max_size=3),
    client=any_client(),
    place=st.integers(0, 3),
    limit=st.integers(1, 6),
    split=st.sampled_from(["train", "eval"]),
)
def test_one_client_changes_one_split_by_at_most_the_sensitivity(
    others: list[ClientData], client: ClientData, place: int, limit: int, split: str
) -> None:
    without = make_sums(limit)
    if others:
        without.add_many("train", *columns_of(others))
    with_client = make_sums(limit)
    if split == "train":
        with_client.add_many("train", *columns_of([*others[:place], client, *others[place:]]))
    else:
        with_client.merge(without).add("eval", client)
    for name, sums in with_client.sums.items():
        for one in with_client.statistics:
            change = (sums[one.name] - without.sums[name][one.name]).tolist()
            most = one.sensitivity if name == split else 0
            assert sum(value * value for value in change) <= most**2, one.name


def test_every_sensitivity_is_reached() -> None:
    rows = 5
    client = make_client(
        "worst", [1] * rows, [3] * 2 * rows, [255] * 4 * rows, [100] * rows, [2] * 3 * rows
    )
    sums = make_sums(limit=3)
    sums.add("train", client)

    norms = {name: math.hypot(*values.tolist()) for name, values in sums.sums["train"].items()}
    assert norms == {one.name: one.sensitivity for one in sums.statistics}
    assert norms["labels"] == 3
    assert norms["image.histogram"] == 3 * 4


def test_schema_decides_the_statistics_not_the_data() -> None:
    schema = Schema.from_mapping(
        {"client_id": "c", "features": {"free": {"columns": "f"}}, "label": {"column": "y"}}
    )
    assert [one.name for one in statistics_of(schema, 4)] == [
        "clients",
        "examples",
        "examples_per_client",
    ]
