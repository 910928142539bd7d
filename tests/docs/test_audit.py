"""docs/audit.md: its settings are the defaults, and its tables are what the code computes."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from privet.components.audit.config import AuditConfig
from privet.components.audit.gaussian_fit import epsilon_between, estimate_epsilon
from privet.components.audit.lower_bound import (
    ceiling,
    correct_guesses,
    epsilon_lower_bound,
    number_of_guesses,
)
from privet.components.audit.membership import advantage_by_chance

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[float, list[float]]:
    """First cell -> the other cells of a table of numbers."""
    lines = TEXT.partition(f"| {heading} |")[2].splitlines()[2:]
    rows = [re.findall(r"[\d.]+", line) for line in lines[: lines.index("")]]
    assert rows
    return {float(first): [float(cell) for cell in rest] for first, *rest in rows}


def test_settings_shown_are_the_defaults() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.M | re.S)
    assert AuditConfig.from_mapping(yaml.safe_load(shown)["audit"]) == AuditConfig()


def test_advantage_by_chance() -> None:
    for clients, (shown,) in table("Clients on each side").items():
        assert shown == round(advantage_by_chance(int(clients), int(clients)), 3)


def test_ceilings() -> None:
    shares = (0.1, 0.3, 0.5, 1.0)
    columns = " | ".join(f"`guesses: {share}`" for share in shares)
    for canaries, shown in table(f"Canaries | {columns}").items():
        assert shown == [round(ceiling(int(canaries), one, 1e-5, 0.95), 2) for one in shares]


def test_bounds_that_canaries_give_on_average() -> None:
    """The mean of 150 runs has a deviation of 0.04 or less."""
    bound = functools.cache(epsilon_lower_bound)
    generator = np.random.default_rng(1)
    for shift, (epsilon, *shown) in table("Shift").items():
        assert epsilon == round(epsilon_between(shift, 1.0, 1e-5), 2)
        for count, mean in zip((200, 1000), shown, strict=True):
            guesses = number_of_guesses(count, 0.5)
            found = []
            for _ in range(150):
                included = generator.random(count) < 0.5
                statistic = generator.normal(size=count) + shift * included
                correct = correct_guesses(statistic, included, guesses)
                found.append(bound(count, guesses, correct, 1e-5, 0.95))
            assert np.mean(found) == pytest.approx(mean, abs=0.2)


def test_estimates_lie_where_the_page_says() -> None:
    generator = np.random.default_rng(1)
    for shift, (epsilon, *shown) in table("Shift, estimated").items():
        assert epsilon == round(epsilon_between(shift, 1.0, 1e-5), 2)
        for count, ends in zip((200, 1000), (shown[:2], shown[2:]), strict=True):
            found = []
            for _ in range(150):
                included = generator.random(count) < 0.5
                statistic = generator.normal(size=count) + shift * included
                estimate = estimate_epsilon(statistic[included], statistic[~included], 1e-5)
                found.append(estimate or 0.0)
            low, high = ends
            # 135 of them on average; outside of this once in 10,000 times.
            assert 118 <= sum(low <= one <= high for one in found) <= 147
