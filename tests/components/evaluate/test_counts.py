"""Values in bounded memory: exact while few, close when many, and the same in any order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.evaluate.counts import ValueCounts, distribution, share_above, share_below


def counts_of(values: Any, limit: int = 1 << 16) -> ValueCounts:
    return ValueCounts(limit).add(np.asarray(values, np.float64))


def test_percentiles_and_worst_decile_by_hand() -> None:
    found = distribution(counts_of([i / 10 for i in range(11)]), higher_is_better=True)

    shown = [found[name] for name in ("p10", "p25", "p50", "p75", "p90")]
    assert shown == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9])
    assert found["worst_decile"] == pytest.approx(0.05)  # of 11 clients two: 0 and 0.1
    assert (found["worst"], found["clients"]) == (0.0, 11)


def test_worst_of_an_error_is_its_maximum() -> None:
    found = distribution(counts_of([*range(1, 20), 40]), higher_is_better=False)

    assert (found["worst"], found["worst_decile"]) == (40.0, (40 + 19) / 2)


@given(st.lists(st.integers(-4, 4).map(lambda n: n / 4), min_size=1, max_size=40))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    found = distribution(counts_of(values), higher_is_better=True)

    shown = [found[name] for name in ("p10", "p25", "p50", "p75", "p90")]
    assert shown == pytest.approx(np.percentile(values, [10, 25, 50, 75, 90]).tolist())
    tenth = -(-len(values) // 10)
    assert found["worst_decile"] == pytest.approx(np.mean(sorted(values)[:tenth]))


def test_histogram_counts_every_client_once() -> None:
    found = distribution(counts_of([0.0, 0.01, 0.5, 1.0, 1.0]), higher_is_better=True)["histogram"]

    assert (found["edges"][0], found["edges"][-1], sum(found["counts"])) == (0, 1, 5)
    assert (found["counts"][0], found["counts"][10], found["counts"][-1]) == (2, 1, 2)
    errors = distribution(counts_of([0.0, 0.0]), higher_is_better=False)["histogram"]
    assert sum(errors["counts"]) == 2


def test_clients_without_the_value_do_not_count() -> None:
    found = distribution(counts_of([np.nan, 0.5, np.nan]), higher_is_better=True)
    assert (found["clients"], found["p50"]) == (1, 0.5)
    none = distribution(counts_of([np.nan]), higher_is_better=True)
    assert (none["clients"], none["p50"], none["worst_decile"]) == (0, None, None)


def test_signs_survive_a_low_limit() -> None:
    values = np.concatenate([np.linspace(-1, -1e-9, 300), np.zeros(300), np.linspace(1e-9, 1, 400)])
    counts = counts_of(values, limit=50)

    assert (share_below(counts, 0.0), share_above(counts, 0.0)) == (0.3, 0.4)


@given(st.lists(st.floats(-1e6, 1e6), max_size=60), st.integers(1, 9), st.randoms())
def test_order_and_grouping_do_not_show(values: list[float], parts: int, random: Any) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    whole, merged = counts_of(values, limit=7), ValueCounts(7)
    for part in range(parts):
        merged.merge(counts_of(shuffled[part::parts], limit=7))

    for one, other in zip(whole.table(), merged.table(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(whole.table()[0]) <= 7


def test_beyond_the_limit_values_are_close_and_round_ones_exact() -> None:
    values = np.random.default_rng(0).uniform(0.01, 1, 300_000)
    values[:30_000] = 1.0
    counts = ValueCounts()
    for part in np.array_split(values, 30):
        counts.add(part)
    table, weights = counts.table()

    assert len(table) <= 1 << 16
    assert weights.sum() == 300_000
    assert (table[-1], weights[-1]) == (1.0, 30_000)
    found = distribution(counts, higher_is_better=True)
    for name, share in (("p10", 10), ("p50", 50)):
        assert found[name] == pytest.approx(np.percentile(values, share), rel=2**-13)
