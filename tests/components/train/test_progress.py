"""The bar over rounds: what it shows, and what it keeps to itself."""

import dataclasses

import pytest

from privet.components.train.component import progress_bar
from privet.components.train.history import Round

FOURTH = Round(4, 8, 2.0, 1.25, {"accuracy": 0.5, "loss": 1.5}, 3000)


def shown(capsys: pytest.CaptureFixture[str], *finished: Round) -> str:
    """The last state of a bar over ten rounds."""
    with progress_bar(10) as progress:
        for one in finished:
            progress(one)
    return capsys.readouterr().err.rpartition("\r")[2]


def test_bar_begins_where_a_checkpoint_left_off(capsys: pytest.CaptureFixture[str]) -> None:
    line = shown(capsys, FOURTH)
    assert "4/10" in line
    assert all(text in line for text in ("accuracy=0.500", "epsilon=1.250", "examples/s=1,500"))


def test_speed_is_that_of_the_rounds_after_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    quick = dataclasses.replace(FOURTH, seconds=0.5, epsilon=None, evaluation=None)
    line = shown(capsys, FOURTH, quick, dataclasses.replace(quick, seconds=1.5))
    assert "6/10" in line
    assert "examples/s=3,000" in line
    assert "accuracy=0.500" in line  # of the last evaluation


def test_number_of_examples_is_not_shown_of_a_secret_cohort(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = shown(capsys, dataclasses.replace(FOURTH, examples=None))
    assert "4/10" in line
    assert "examples" not in line


def test_run_that_cannot_start_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == ""
