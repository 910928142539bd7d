"""Robust aggregates, by hand: what a few arbitrary updates can do."""

import numpy as np
import pytest

from privet.components.train.robust import robust_mean
from privet.components.train.robust_config import RobustConfig

HONEST = np.array([[1.0, -1], [2, -2], [3, -3], [4, -4], [5, -5]], np.float32)
MEDIAN = RobustConfig(kind="median")
TRIMMED = RobustConfig(kind="trimmed_mean", trim=0.2)
FILTER = RobustConfig(kind="norm_filter", largest_norm=2.0)


def test_of_honest_clients() -> None:
    np.testing.assert_array_equal(robust_mean(MEDIAN, HONEST), [3, -3])
    np.testing.assert_array_equal(robust_mean(MEDIAN, HONEST[:4]), [2.5, -2.5])
    np.testing.assert_array_equal(robust_mean(TRIMMED, HONEST), [3, -3])
    np.testing.assert_array_equal(robust_mean(FILTER, HONEST), [3, -3])


@pytest.mark.parametrize("config", [MEDIAN, TRIMMED, FILTER], ids=lambda config: config.kind)
@pytest.mark.parametrize("value", [1e30, -1e30, np.inf, np.nan])
def test_one_arbitrary_client_moves_them_little(config: RobustConfig, value: float) -> None:
    attacked = np.concatenate([HONEST, np.full((1, 2), value, np.float32)])
    moved = robust_mean(config, attacked)

    assert moved is not None
    assert np.abs(moved - [3, -3]).max() <= 0.5


@pytest.mark.parametrize("config", [MEDIAN, TRIMMED, FILTER], ids=lambda config: config.kind)
def test_of_nobody_there_is_none_and_of_one_client_its_update(config: RobustConfig) -> None:
    assert robust_mean(config, HONEST[:0]) is None
    assert robust_mean(config, np.full((2, 2), np.nan, np.float32)) is None
    np.testing.assert_array_equal(robust_mean(config, HONEST[:1]), [1, -1])


def test_many_columns_are_those_of_all_at_once() -> None:
    updates = np.random.default_rng(0).normal(size=(7, 70_000)).astype(np.float32)
    np.testing.assert_allclose(robust_mean(MEDIAN, updates), np.median(updates, axis=0))
