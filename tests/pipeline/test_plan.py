"""What a plan says of noised statistics is what the run's ledger then holds."""

from typing import Any

import dp_accounting
import pytest

from privet.components.shared import files, layout
from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of, gaussians
from privet.components.train.accounting import rounds_event
from privet.components.train.mechanism import gaussian
from privet.components.train.sampling import AllClients, Sampler
from privet.pipeline import summary
from privet.pipeline.plan import make_plan


def epsilon_after(
    sampler: Sampler, noise: float, rounds: int, before: dp_accounting.DpEvent = NOTHING
) -> float:
    return epsilon_of(rounds_event(gaussian(sampler.draws, noise), rounds, before), 1e-5)


STATISTICS = "data.dp_statistics={epsilon: 2, delta: 1.0e-6, max_examples_per_client: 4}"
RELEASED = 6  # clients, examples, their histogram, labels, mean and histogram of x


@pytest.fixture(scope="module")
def plan(shared_project: Any) -> dict[str, Any]:
    return make_plan(shared_project.load(STATISTICS))


def test_plan_counts_noised_statistics_into_the_budget(
    shared_project: Any, plan: dict[str, Any]
) -> None:
    plain = make_plan(shared_project.load())

    assert plan["train_clients"] == plain["train_clients"] == 6
    assert 7.99 < plan["epsilon"] <= 8
    assert 1.99 < plan["statistics"]["epsilon"] <= 2
    assert plan["statistics"]["delta"] == 1e-6
    assert plain["statistics"] is None
    assert plan["noise_multiplier"] > plain["noise_multiplier"]
    assert epsilon_after(AllClients(6), plan["noise_multiplier"], 2) < 8
    assert "statistics" in "\n".join(summary.plan_lines(plan))
    assert "statistics" not in "\n".join(summary.plan_lines(plain))


def test_plan_of_a_run_without_privacy_still_tells_the_statistics(shared_project: Any) -> None:
    plan = make_plan(shared_project.load(STATISTICS, "train.privacy={mechanism: none}"))

    assert plan["epsilon"] is None
    assert plan["statistics"]["delta"] == 1e-6


def test_statistics_above_the_whole_budget_cannot_be_planned(shared_project: Any) -> None:
    config = shared_project.load(STATISTICS, "train.privacy.epsilon=1")
    with pytest.raises(ConfigError, match=r"epsilon=1\.0 covers the noised statistics"):
        make_plan(config)


def test_run_spends_what_was_planned_and_tells_no_exact_number(
    shared_project: Any, plan: dict[str, Any]
) -> None:
    run = shared_project.run(STATISTICS)
    root = shared_project.workdir.root
    ledger = files.read_json(str(root / run["artifacts"]["ledger"] / layout.LEDGER))
    statistics = files.read_json(str(root / run["artifacts"]["examples"] / layout.STATISTICS))

    assert ledger["epsilon"] == plan["epsilon"]
    assert ledger["mechanism"]["noise_multiplier"] == plan["noise_multiplier"]
    assert [part["what"] for part in ledger["parts"]] == ["statistics", "training"]
    mechanism = statistics["mechanism"]
    assert mechanism["compositions"] == RELEASED
    released = gaussians(mechanism["noise_multiplier"], RELEASED)
    assert epsilon_of(released, 1e-6) == plan["statistics"]["epsilon"]
    assert statistics.keys() == {"schema", "private", "mechanism", "splits", "withheld"}
    assert statistics["private"] is True
    report = (root / "report.html").read_text(encoding="utf-8")
    assert "covers all parts together" in report
