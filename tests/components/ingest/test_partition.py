"""Simulated clients: whole partitions, their skew, and the limits at which others hang or fail."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privet.components.ingest.config import PartitionConfig
from privet.components.ingest.partition import assign_clients, client_name, label_classes
from privet.components.shared.errors import ConfigError, DataError

SKEWED = ("dirichlet", "quantity")
ASSIGNING = ("iid", *SKEWED, "shards")


def partition(kind: Any, clients: int, **settings: Any) -> PartitionConfig:
    return PartitionConfig(kind=kind, clients=clients, **settings)


def label_counts(labels: np.ndarray, owners: np.ndarray, clients: int) -> np.ndarray:
    """int64 [clients, labels]: the examples of each label that each client has."""
    counts = np.zeros((clients, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (owners, labels), 1)
    return counts


def mean_label_entropy(counts: np.ndarray) -> float:
    """In nats, of the labels of a client, averaged over clients."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(axis=1).mean())


INTEGERS = arrays.arrays(np.int64, st.integers(0, 60), elements=st.integers(-1, 4))
FLOATS = arrays.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32))


@given(
    labels=st.one_of(INTEGERS, FLOATS),
    kind=st.sampled_from(ASSIGNING),
    clients=st.integers(1, 12),
    alpha=st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**64),
)
def test_every_row_has_a_client_and_every_client_a_row_or_the_table_is_refused(
    labels: np.ndarray, kind: str, clients: int, alpha: float, seed: int
) -> None:
    config = partition(kind, clients, alpha=alpha, seed=seed)
    before = labels.copy()
    if len(labels) < clients * (config.shards_per_client if kind == "shards" else 1):
        with pytest.raises(DataError, match=f"but the data have {len(labels)}"):
            assign_clients(labels, config)
        return
    owners = assign_clients(labels, config)
    assert owners.dtype == np.int64
    assert owners.shape == labels.shape
    sizes = np.bincount(owners, minlength=clients)
    assert len(sizes) == clients
    assert sizes.min() >= 1
    if kind in ("iid", "shards"):
        assert sizes.max() - sizes.min() <= (1 if kind == "iid" else config.shards_per_client)
    np.testing.assert_array_equal(assign_clients(labels, config), owners)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("kind", ASSIGNING)
def test_another_seed_gives_another_partition(kind: str) -> None:
    labels = np.arange(1000) % 10
    owners = [assign_clients(labels, partition(kind, 20, seed=seed)) for seed in (0, 1)]
    assert not np.array_equal(*owners)


@pytest.mark.parametrize("kind", SKEWED)
@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e-6, 0.999, 1.0, 1e6, 1e300, 1.7e308])
def test_any_alpha_ends_without_a_share_that_is_no_number(kind: str, alpha: float) -> None:
    labels = np.repeat(np.arange(3), 100)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        owners = assign_clients(labels, partition(kind, 20, alpha=alpha))
    assert np.bincount(owners, minlength=20).min() >= 1


def test_huge_alpha_gives_every_client_an_equal_part_of_every_class() -> None:
    labels = np.repeat(np.arange(10), 1000)
    owners = assign_clients(labels, partition("dirichlet", 20, alpha=1e6))
    counts = label_counts(labels, owners, 20)
    assert np.abs(counts - 50).max() <= 1  # a share's relative deviation is 1/1000


def test_tiny_alpha_gives_a_class_to_one_client_but_for_what_fills_the_others() -> None:
    labels = np.repeat(np.arange(10), 1000)
    owners = assign_clients(labels, partition("dirichlet", 20, alpha=1e-6))
    counts = label_counts(labels, owners, 20)
    assert (counts.max(axis=0) >= 1000 - 19).all()
    filled = counts.sum(axis=1) == 1
    assert 10 <= filled.sum() <= 19
    assert mean_label_entropy(counts[filled]) == 0.0


def test_larger_alpha_gives_more_even_labels() -> None:
    labels = np.arange(20_000) % 10
    entropies = [
        mean_label_entropy(
            label_counts(labels, assign_clients(labels, partition("dirichlet", 50, alpha=a)), 50)
        )
        for a in (0.01, 0.1, 1.0, 10.0, 1000.0)
    ]
    assert entropies == sorted(entropies)
    assert min(np.diff(entropies)) > 0.01
    assert np.log(10) - 0.01 < entropies[-1] <= np.log(10)


@pytest.mark.parametrize("alpha", [0.1, 0.9, 1.0, 10.0])
def test_shares_of_classes_have_the_moments_of_the_dirichlet_distribution(alpha: float) -> None:
    classes, rows, clients = 10_000, 200, 5
    labels = np.repeat(np.arange(classes), rows)
    owners = assign_clients(labels, partition("dirichlet", clients, alpha=alpha))
    shares = label_counts(labels, owners, clients) / rows
    mean = 1 / clients
    variance = mean * (1 - mean) / (clients * alpha + 1)
    # Six standard errors of a mean of 10,000 shares; the variance is known to about 1 percent.
    np.testing.assert_allclose(shares.mean(axis=1), mean, atol=6 * np.sqrt(variance / classes))
    assert shares.var() == pytest.approx(variance, rel=0.05)


def test_shares_are_rounded_to_what_they_are_on_average() -> None:
    # A class of two rows goes to one of two clients as a whole with probability |2 * share - 1|,
    # on average 2 * 2^-2a / (a * B(a, a)) = 0.176 for a = 10. Nearest rounding: 0.02.
    labels = np.repeat(np.arange(5000), 2)
    owners = assign_clients(labels, partition("dirichlet", 2, alpha=10.0)).reshape(5000, 2)
    whole = np.mean(owners[:, 0] == owners[:, 1])
    assert whole == pytest.approx(0.1762, abs=6 * np.sqrt(0.176 * 0.824 / 5000))


def test_clients_outnumbering_the_rows_of_a_class_are_served_evenly_and_apart() -> None:
    # A client's expected part of a class is 0.1 rows. Rounding each class alike would give some
    # clients a row of every class and the others none, or the same classes to every tenth client.
    labels = np.repeat(np.arange(1000), 20)
    owners = assign_clients(labels, partition("dirichlet", 200, alpha=1e6))
    held = label_counts(labels, owners, 200)
    assert np.abs(held.sum(axis=1) - 100).max() < 6 * np.sqrt(1000 * 0.1 * 0.9)
    in_common = held @ held.T - np.diag(held.sum(axis=1))
    assert in_common.max() < 10 + 9 * np.sqrt(10)


@pytest.mark.parametrize("kind", ["iid", *SKEWED])
def test_neighbouring_rows_are_scattered(kind: str) -> None:
    owners = assign_clients(np.zeros(1000, np.int64), partition(kind, 2, alpha=1e6))
    changes = np.count_nonzero(np.diff(owners))
    assert abs(changes - 500) < 6 * np.sqrt(1000 / 4)


def test_iid_clients_have_the_labels_of_all() -> None:
    labels = np.repeat(np.arange(10), 1000)
    counts = label_counts(labels, assign_clients(labels, partition("iid", 10)), 10)
    assert (counts.sum(axis=1) == 1000).all()
    assert np.abs(counts - 100).max() < 6 * np.sqrt(1000 * 0.1 * 0.9)


def test_quantity_skews_sizes_and_not_labels() -> None:
    labels = np.repeat(np.arange(4), 25_000)
    counts = label_counts(labels, assign_clients(labels, partition("quantity", 10, alpha=0.5)), 10)
    sizes = counts.sum(axis=1)
    assert sizes.max() > 3 * np.median(sizes)
    deviation = np.abs(counts - sizes[:, None] / 4)
    assert (deviation < 6 * np.sqrt(sizes[:, None] * 0.25 * 0.75) + 1).all()


def test_sizes_of_quantity_have_the_moments_of_the_dirichlet_distribution() -> None:
    labels = np.zeros(1000, np.int64)
    shares = np.stack(
        [
            np.bincount(assign_clients(labels, partition("quantity", 5, alpha=1.0, seed=seed)))
            for seed in range(2000)
        ]
    )
    # The variance of a share is 0.2 * 0.8 / (5 * 1 + 1).
    assert (shares / 1000).var() == pytest.approx(0.16 / 6, rel=0.15)


def test_empty_clients_are_filled_from_the_largest() -> None:
    labels = np.zeros(100, np.int64)
    owners = assign_clients(labels, partition("quantity", 10, alpha=1e-6))
    assert sorted(np.bincount(owners)) == [1] * 9 + [91]
    # Two classes, two winners: both are lowered to the same level.
    labels = np.repeat([0, 1], [100, 103])
    shapes = {
        tuple(sorted(np.bincount(assign_clients(labels, config))))
        for config in (partition("dirichlet", 12, alpha=1e-6, seed=seed) for seed in range(20))
    }
    assert shapes <= {(1,) * 10 + (96, 97), (1,) * 11 + (192,)}
    assert (1,) * 10 + (96, 97) in shapes


def test_as_many_clients_as_rows_get_one_each() -> None:
    for kind in ("iid", *SKEWED):
        owners = assign_clients(np.arange(7) % 2, partition(kind, 7, alpha=1e-6))
        assert sorted(owners) == list(range(7))


def test_rows_given_up_are_not_the_first_or_last_of_the_table() -> None:
    owners = assign_clients(np.zeros(10_000, np.int64), partition("quantity", 101, alpha=1e-6))
    largest = np.bincount(owners).argmax()
    (given,) = np.nonzero(owners != largest)
    assert len(given) == 100
    assert abs(given.mean() - 5000) < 6 * 10_000 / np.sqrt(12 * 100)


def test_shards_are_whole_runs_of_sorted_labels() -> None:
    #                  row: 0  1  2  3  4  5  6  7
    labels = np.array([1, 0, 1, 0, 2, 2, 3, 3])
    runs = ({1, 3}, {0, 2}, {4, 5}, {6, 7})
    seen = set()
    for seed in range(20):
        owners = assign_clients(labels, partition("shards", 2, seed=seed))
        rows_of_first = set(np.flatnonzero(owners == 0).tolist())
        held = tuple(index for index, run in enumerate(runs) if run <= rows_of_first)
        assert len(held) == 2
        assert len(rows_of_first) == 4
        seen.add(held)
    assert len(seen) > 3  # dealt out at random


def test_shards_bound_the_labels_of_a_client() -> None:
    labels = np.random.default_rng(0).permutation(np.arange(60_000) % 10)
    owners = assign_clients(labels, partition("shards", 100, shards_per_client=2))
    counts = label_counts(labels, owners, 100)
    assert (counts.sum(axis=1) == 600).all()
    assert (np.count_nonzero(counts, axis=1) <= 2).all()  # 6000 rows a label: 20 whole shards


def test_shards_of_a_regression_are_ranges_of_the_value() -> None:
    labels = np.array([0.3, -5.0, np.nan, 7.0, 0.2, 6.0], np.float32)
    owners = assign_clients(labels, partition("shards", 3, shards_per_client=1))
    assert owners[1] == owners[4]
    assert owners[0] == owners[5]
    assert owners[3] == owners[2]  # missing ones come last
    assert len(set(owners.tolist())) == 3


@pytest.mark.parametrize("kind", ["dirichlet", "shards"])
def test_missing_labels_are_a_class_of_their_own(kind: str) -> None:
    labels = np.repeat([-1, 0, 1], 1000)
    owners = assign_clients(labels, partition(kind, 3, alpha=1e-6, shards_per_client=1))
    largest = [np.bincount(owners[labels == label]).max() for label in (-1, 0, 1)]
    assert min(largest) >= 998


def test_dirichlet_of_a_regression_skews_the_deciles() -> None:
    labels = np.random.default_rng(0).normal(size=10_000)
    owners = assign_clients(labels, partition("dirichlet", 10, alpha=1e-6))
    counts = label_counts(label_classes(labels), owners, 10)
    assert (counts.sum(axis=0) == 1000).all()
    assert (counts.max(axis=0) >= 1000 - 9).all()


def test_equal_values_share_a_decile_and_infinite_ones_have_one() -> None:
    labels = np.array([0.0] * 15 + [1.0] * 3 + [np.inf, -np.inf, np.nan])
    classes = label_classes(labels)
    assert len(set(classes[:15].tolist())) == 1
    assert classes[18] == 9
    assert classes[19] < classes[0]
    assert classes[20] == -1
    assert label_classes(np.full(3, np.nan)).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("iid", "data.partition.clients=5 needs at least 5 rows, one for each client, but"),
        ("shards", "clients=5 with shards_per_client=2 needs at least 10 rows, one for each shard"),
    ],
)
def test_too_few_rows_are_refused(kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        assign_clients(np.zeros(4, np.int64), partition(kind, 5))


def test_clients_of_a_column_are_not_assigned() -> None:
    config = PartitionConfig(kind="by_feature", column="hospital")
    with pytest.raises(ConfigError, match="its column 'hospital' already holds them"):
        assign_clients(np.zeros(4, np.int64), config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"alpha": float("inf")}, "alpha=inf must be > 0 and finite"), ({"seed": -1}, "seed=-1 must")],
)
def test_settings_without_a_draw_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PartitionConfig.from_mapping({"kind": "dirichlet", "clients": 2, **settings})


def test_names_sort_as_numbers() -> None:
    for clients in (3, 10_000, 10_001):
        numbers = sorted({0, 1, 2, clients - 1})
        names = [client_name(number, clients) for number in numbers]
        assert names == sorted(names)
        assert len({len(name) for name in names}) == 1
