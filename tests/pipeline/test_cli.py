"""The command line as a process: exit codes, one paragraph per error, nothing slow up front."""

import json
import subprocess
import sys

import pytest

from privet.pipeline import cli


def privet(*arguments, **options):
    """Runs the command line in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "privet.pipeline.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    "command",
    ["run", "plan", "sweep", "report", "serve", "workers", "export-clients", "import-clients"],
)
def test_help_needs_no_heavy_import(command):
    code = (
        "import sys\n"
        "from privet.pipeline import cli\n"
        "try:\n"
        f"    cli.main(['{command}', '--help'])\n"
        "finally:\n"
        "    heavy = {'tensorflow', 'apache_beam', 'tfx', 'grpc'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout


def test_wrong_configuration_is_one_line_and_exit_code_2(project):
    done = privet("run", project.config, "--set", "train.privacy.epsilon=0")
    assert done.returncode == cli.EXIT_USAGE
    assert done.stderr.count("\n") == 1
    assert "epsilon=0.0 must be > 0" in done.stderr


def test_debug_shows_the_traceback(project):
    done = privet("--debug", "run", project.config, "--set", "train.privacy.epsilon=0")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_missing_data_is_exit_code_1_and_names_the_node(project):
    project.rows.unlink()
    done = privet("run", project.config, "--workdir", project.workdir.root)
    assert done.returncode == cli.EXIT_FAILED
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("privet run: ClientExampleGen failed: no file matches")
    assert "Traceback" not in done.stderr
    assert json.loads(project.workdir.run_json.read_text())["status"] == "failed"


def test_rejected_model_is_exit_code_3_and_says_why(project):
    done = privet(
        *("run", project.config, "--workdir", project.workdir.root),
        *("--set", "gate.rules=[{metric: compressed.accuracy, lower_bound: 1.1}]"),
    )
    assert done.returncode == cli.EXIT_REJECTED, done.stderr
    assert "nothing was pushed: compressed.accuracy lower_bound=1.1" in done.stdout
    assert not (project.workdir.root / "serving").exists()


@pytest.mark.parametrize(
    "arguments", [["w", "--json"], ["w", "--compare", "a", "b"], ["--compare", "a"], []]
)
def test_report_takes_one_work_directory_or_two_to_compare(arguments):
    assert privet("report", *arguments).returncode == cli.EXIT_USAGE


def test_plan_prints_what_a_run_will_spend(project):
    done = privet("plan", project.config, "--json", "--traffic")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["train_clients"] == 6
    assert 7.9 < plan["epsilon"] <= 8
    assert plan["noise_multiplier"] > 0
    parameters = 2 * 3 + 3
    assert plan["bytes_up_per_client_round"] == 12 + 4 * parameters
    assert plan["bytes_up_total"] == (12 + 4 * parameters) * 6 * 2
    assert not project.workdir.root.exists()


def test_plan_counts_clients_as_ingestion_does(project):
    text = project.rows.read_text()
    project.rows.write_text(text + ",train,1,1,0\nbroken,train,oops,1,0\n")
    plan = json.loads(privet("plan", project.config, "--json").stdout)
    assert plan["train_clients"] == 6


def test_plan_for_another_epsilon_needs_more_noise(project):
    plans = [
        json.loads(privet("plan", project.config, "--json", "--target-epsilon", epsilon).stdout)
        for epsilon in (1, 8)
    ]
    assert plans[0]["epsilon"] <= 1
    assert plans[0]["noise_multiplier"] > 2 * plans[1]["noise_multiplier"]
