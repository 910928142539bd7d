"""What a plan says is what the run then spends, and it costs neither TensorFlow nor data to say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privet.components.shared import files, layout
from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import epsilon_of, gaussians
from privet.pipeline import cli, ledgers, summary
from privet.pipeline.config import load_config
from privet.pipeline.plan import Questions, make_plan

TUTORIAL = Path(__file__).resolve().parents[2] / "examples" / "tff_tutorial" / "config.yaml"

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
    assert epsilon_of(gaussians(plan["noise_multiplier"], 2), 1e-5) < 8
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


@pytest.mark.slow
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
    spent = ledgers.read_ledger(str(root))
    together = make_plan(shared_project.load(STATISTICS), Questions(other_runs=[spent]))["together"]
    assert [one["epsilon"] for one in together["runs"]] == [ledger["epsilon"]] * 2
    assert 8 < together["epsilon"] < 16
    report = (root / "report.html").read_text(encoding="utf-8")
    assert "covers all parts together" in report


def test_tutorials_plan_needs_no_data() -> None:
    plan = make_plan(load_config(TUTORIAL))

    rounded = [float(f"{row['epsilon']:.3g}") for row in plan["assumptions"]]
    assert rounded == [1.71, 1.99, 3.56, 14.1, 73.0, 69.5]
    assert [row["earned"] for row in plan["assumptions"]] == [True, True, False, False, True, True]
    assert plan["epsilon"] == plan["assumptions"][0]["epsilon"]
    assert plan["train_clients"] == 3383
    assert plan["client_rounds"] == 12_000
    assert plan["bytes_up_total"] is None
    lines = "\n".join(summary.plan_lines(plan))
    assert "12,000 client-rounds" in lines
    assert "--traffic" in lines
    assert lines.count("NOT EARNED") == 2


def test_traffic_and_suggestions_need_no_data_either() -> None:
    config = load_config(TUTORIAL, ["train.rounds=2", "train.privacy.noise_multiplier=20"])
    asked = Questions(target_epsilon=4.0, traffic=True, suggest=True, client_rounds=68)
    plan = make_plan(config, asked)

    weights = 784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10
    assert plan["bytes_up_per_client_round"] == 12 + 4 * weights
    assert plan["bytes_down_total"] == (12 + 4 * weights) * 120 * 2
    assert 3.9 < plan["epsilon"] <= 4
    settings = [(row["rounds"], row["sampling"], row["cohort_size"]) for row in plan["suggestions"]]
    assert settings == [(1, "poisson", 68), (2, "poisson", 34)]
    lines = "\n".join(summary.plan_lines(plan))
    assert "Noise is a proxy, not accuracy" in lines
    assert "norm a step" in lines


def test_traffic_of_a_training_that_prunes_is_the_mean_over_its_rounds() -> None:
    pruning = ["sparsity=0.5", "schedule=constant", "begin_round=1"]
    config = load_config(TUTORIAL, ["train.rounds=2", *(f"train.pruning.{one}" for one in pruning)])
    plan = make_plan(config, Questions(traffic=True))

    header = 12  # of a message
    kernels, biases = 784 * 200 + 200 * 200 + 200 * 10, 410
    whole, pruned = (header + 4 * (part + biases) for part in (kernels, kernels // 2))
    assert plan["bytes_up_per_client_round"] == (whole + pruned) / 2
    assert plan["bytes_up_total"] == (whole + pruned) * 120
    assert plan["bytes_down_total"] == (whole + pruned + kernels // 8) * 120


def test_noised_statistics_of_a_stated_population_need_the_schema_only(
    shared_project: Any, plan: dict[str, Any]
) -> None:
    stated = shared_project.load(STATISTICS, "train.sampling.population=6", "data.files=none.csv")

    assert make_plan(stated) == plan


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target_epsilon": 0.0}, "must be > 0"),
        ({"client_rounds": float("nan"), "suggest": True}, "must be > 0 and finite"),
        ({"client_rounds": 5.0}, "is the budget of --suggest"),
        ({"delta": 1e-5}, "for several runs together"),
    ],
)
def test_questions_that_make_no_sense_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Questions(**asked)


@pytest.mark.parametrize("asked", [{"target_epsilon": 4.0}, {"suggest": True}])
def test_a_run_without_privacy_has_no_target(shared_project: Any, asked: dict[str, Any]) -> None:
    config = shared_project.load("train.privacy={mechanism: none}")
    with pytest.raises(ConfigError, match=r"needs train\.privacy\.mechanism: gaussian"):
        make_plan(config, Questions(**asked))


def test_plan_imports_neither_tensorflow_nor_beam(shared_project: Any) -> None:
    # In a process of its own: other tests have imported them here.
    script = (
        "import sys; from privet.pipeline import cli\n"
        "code = cli.main(['plan', sys.argv[1], '--json'])\n"
        "heavy = {'tensorflow', 'apache_beam', 'tfx'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(shared_project.config)], capture_output=True, text=True
    )
    assert done.returncode == cli.EXIT_DONE, done.stderr
    assert json.loads(done.stdout)["train_clients"] == 6


def test_plan_tells_where_the_population_budget_stands(shared_project: Any, tmp_path: Path) -> None:
    file = tmp_path / "population.json"
    budget = f"train.privacy.population_budget={{file: {file}, epsilon: 10, delta: 1.0e-5}}"
    plan = make_plan(shared_project.load(budget))

    assert plan["population_budget"] == {
        "file": "population.json",
        "runs": 0,
        "epsilon_spent": 0,
        "epsilon_with_run": pytest.approx(plan["epsilon"]),
        "epsilon": 10,
        "delta": 1e-5,
    }
    assert "0 spent by 0 runs on these clients" in "\n".join(summary.plan_lines(plan))
    assert not file.exists()
    plan["population_budget"]["epsilon_with_run"] = 10.1
    assert "IT WOULD NOT START" in "\n".join(summary.plan_lines(plan))
