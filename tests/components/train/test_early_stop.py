"""When early stopping ends training."""

import pytest

from privet.components.train.early_stop import has_stalled
from privet.components.train.early_stop_config import EarlyStopConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "stalled"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.5], False),
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.4, 0.6, 0.5], False),
        ([0.5, 0.4, 0.6, 0.5, 0.6], True),
        ([NAN, NAN], True),
        ([0.5, NAN, 0.6], False),
    ],
)
def test_accuracy_stalls_after_two_evaluations_without_a_better_one(
    values: list[float], stalled: bool
) -> None:
    assert has_stalled(EarlyStopConfig(metric="accuracy", patience=2), values) == stalled


@pytest.mark.parametrize("metric", ["loss", "mae"])
def test_lower_errors_are_improvements(metric: str) -> None:
    settings = EarlyStopConfig(metric=metric, patience=1)  # type: ignore[arg-type]
    assert not has_stalled(settings, [3.0, 2.0, 1.0])
    assert has_stalled(settings, [1.0, 2.0])


def test_small_improvements_do_not_count() -> None:
    settings = EarlyStopConfig(metric="accuracy", patience=2, min_improvement=0.1)
    assert not has_stalled(settings, [0.50, 0.58, 0.65])
    assert has_stalled(settings, [0.50, 0.58, 0.59])


def test_without_settings_training_goes_on() -> None:
    assert not has_stalled(None, [1.0] * 100)
