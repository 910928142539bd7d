"""Sweeps: checked before they start, resumed after they end, and honest about what they spent."""

import json
import re
import shutil
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from privet.components.shared.errors import ConfigError, DataError, ModelError, StoreError
from privet.pipeline import cli, ledgers, outcome
from privet.pipeline.grid import GridConfig
from privet.pipeline.point import Order
from privet.pipeline.point_processes import run_in_processes
from privet.pipeline.spending import spent_together
from privet.pipeline.sweep import run_sweep
from privet.pipeline.sweep_plan import plan_sweep
from privet.pipeline.workdir import Workdir

DOCS = Path(__file__).resolve().parents[2] / "docs"
SWEEPS = (DOCS / "pipeline.md").read_text().partition("## Sweeps")[2].partition("\n## ")[0]

MODEL = '''
"""A linear model on two inputs, or one with a hidden layer."""
import tensorflow as tf

def build_model(units: int = 0):
    x = tf.keras.Input((2,), name="x")
    hidden = tf.keras.layers.Dense(units)(x) if units else x
    return tf.keras.Model(x, tf.keras.layers.Dense(3)(hidden))
'''

_ANY = "gate.rules=[{metric: compressed.accuracy, lower_bound: 0}]"
TOO_MANY = {"kind": "poisson", "cohort_size": 100}  # of six: found out when the clients are counted


GRID = {"grid": {"train.sampling": [{"kind": "all"}, TOO_MANY]}, "seeds": [3]}


@pytest.fixture(scope="module")
def place(shared_project):
    """A project with a grid."""
    project = with_units(shared_project)
    (project.folder / "grid.yaml").write_text(yaml.safe_dump(GRID))
    return project


def with_units(project):
    project.model.write_text(MODEL)
    return project


def evaluation_of(workdir):
    folder = outcome.read_run_json(workdir)["artifacts"]["evaluation"]
    return json.loads((workdir.root / folder / "evaluation.json").read_text())


def plan(project, *overrides, **grid):
    return plan_sweep(project.config, GridConfig.from_mapping(grid), overrides)


class StoppedError(Exception):
    """Instead of a run."""


class TestSweeps:
    """One sweep through its life; the tests run in this order and build on each other."""

    def sweep(self, place, capsys, *arguments):
        """The exit code, sweep.json and what was printed."""
        root = place.folder / "sweep"
        code = cli.main(
            [
                *("sweep", str(place.config), "--grid", str(place.folder / "grid.yaml")),
                *("--workdir", str(root), "--set", "model.arguments.units=2", "--workers", "1"),
                *arguments,
            ]
        )
        return code, json.loads((root / "sweep.json").read_text()), capsys.readouterr()

    def test_points_run_and_a_failed_one_does_not_stop_the_sweep(self, place, capsys):
        code, sweep, shown = self.sweep(place, capsys)
        assert code == cli.EXIT_FAILED
        assert {key: sweep[key] for key in GRID} == GRID
        done, failed = sweep["points"]
        assert (done["status"], failed["status"]) == ("succeeded", "failed")
        assert done["settings"] == {"train.sampling": {"kind": "all"}}
        assert done["seed"] == failed["seed"] == 3
        assert "cohort_size=100" in failed["error"]
        assert failed["headline"]["train_clients"] == 6
        assert failed["headline"]["epsilon"] is None
        assert done["weights"] == {"total": 2 * 2 + 2 + 2 * 3 + 3, "nonzero": 15}
        assert (done["dense_small"], done["dense_small_of"]) == (False, [])

        assert (done["levers"], done["configuration"]) == (done["settings"], done["name"][:-7])

        fields = {key for key in sweep if key != "points"}
        fields |= {f"points[].{key}" for key in done}
        fields |= {f"privacy.{key}" for key in sweep["privacy"]}
        fields |= {f"frontier.{key}" for key in sweep["frontier"]}
        table = SWEEPS.partition("The fields of `sweep.json`")[2].partition("\n### ")[0]
        cells = re.findall(r"^\| (`[^|]+) \| [^|]+ \|$", table, re.MULTILINE)
        assert fields == {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}

        workdir = Workdir.at(place.folder / "sweep" / done["workdir"])
        summary = outcome.read_run_json(workdir)
        assert done["headline"] == summary["headline"]
        history = workdir.root / summary["artifacts"]["history"] / "training_history.json"
        assert json.loads(history.read_text())["parameters"] == 15

        lines = shown.out.splitlines()
        assert any(line.split()[:2] == [done["name"], "succeeded"] for line in lines)
        assert f"[1/2] {done['name']}: succeeded, " in shown.err
        assert "1 training on the same clients" in shown.out
        assert "is NOT CHARGED" in shown.out
        assert f"failed     {failed['name']}: FederatedTrainer failed: " in shown.out
        assert f"[2/2] {failed['name']}\n" in shown.err

    def test_data_are_ingested_once_and_points_import_them(self, place):
        root = place.folder / "sweep"
        (shared,) = (root / "shared").iterdir()
        (store,) = (shared / "artifacts" / "ClientExampleGen" / "examples").iterdir()
        for point in (root / "points").iterdir():
            summary = outcome.read_run_json(Workdir.at(point))
            assert summary["artifacts"]["examples"] == str(store)
            assert not (point / "artifacts" / "ClientExampleGen").exists()
            assert not (point / "ingest").exists()

    def test_point_ends_with_the_gate_and_has_a_report(self, place):
        root = place.folder / "sweep"
        done = json.loads((root / "sweep.json").read_text())["points"][0]
        workdir = Workdir.at(root / done["workdir"])
        summary = outcome.read_run_json(workdir)
        assert list(summary["nodes"])[-1] == "ModelValidator"
        assert summary["pushed"] is None
        assert "<html" in workdir.report.read_text()

    def test_frontier_is_of_the_finished_points(self, place):
        root = place.folder / "sweep"
        sweep = json.loads((root / "sweep.json").read_text())
        (row,) = sweep["frontier"]["configurations"]
        done = sweep["points"][0]
        assert row["configuration"] == done["configuration"]
        assert (row["repeats"], row["accepted"], row["failed"]) == (1, 1, 0)
        assert row["quality"] == done["headline"]["compressed"]
        assert row["epsilon"] == done["headline"]["epsilon"]
        assert row["model_bytes"] == done["headline"]["bytes_compressed_gzip"]
        # Six clients in two rounds of one epoch; 15 weights of float32 and a header each way.
        assert row["client_rounds"] == 12
        assert row["examples"] == 12 * 5
        assert row["bytes_total"] == row["bytes_down"] + row["bytes_up"]
        assert row["bytes_down"] == 12 * row["bytes_down_per_client_round"]
        assert row["bytes_down_per_client_round"] >= 15 * 4
        assert pq.read_table(root / "frontier.parquet").num_rows == 1
        assert "1 training on the same clients" in (root / "frontier.html").read_text()

    def test_finished_point_is_not_run_again_and_a_failed_one_is(self, place, capsys):
        root = place.folder / "sweep"
        before = json.loads((root / "sweep.json").read_text())
        runs = [root / point["workdir"] / "run.json" for point in before["points"]]
        times = [run.stat().st_mtime_ns for run in runs]
        code, sweep, shown = self.sweep(place, capsys, "--json")
        assert code == cli.EXIT_FAILED
        assert json.loads(shown.out) == sweep
        for one in (sweep, before):
            assert one["points"][1].pop("seconds") > 0
        assert sweep == before
        assert f"[1/2] {before['points'][0]['name']}: as before\n" in shown.err
        after = [run.stat().st_mtime_ns for run in runs]
        assert after[0] == times[0]
        assert after[1] > times[1]

    def test_epsilon_of_all_trainings_is_composed(self, place):
        """Also of those that are no points any more."""
        root = place.folder / "sweep"
        once = spent_together(root)
        assert (once["runs"], once["charged"]) == (1, False)
        (ledger,) = root.glob("points/*/artifacts/FederatedTrainer/ledger/*")
        (run,) = once["together"]["runs"]
        assert run["source"] == str((ledger / "privacy_ledger.json").relative_to(root))
        assert once["together"]["epsilon"] == pytest.approx(run["epsilon"], rel=1e-3)

        copy = Path(str(ledger).replace("points/", "points/earlier-"))
        shutil.copytree(ledger, copy)
        twice = spent_together(root)
        spent = ledgers.read_ledger(str(ledger))
        event = ledgers.compose([spent, ledgers.read_ledger(str(copy))])
        assert twice["runs"] == 2
        assert twice["together"]["epsilon"] == event["epsilon"] > spent.epsilon

        content = json.loads((copy / "privacy_ledger.json").read_text())
        (copy / "privacy_ledger.json").write_text(json.dumps(content | {"private": False}))
        without = spent_together(root)
        assert without["runs"] == 2
        assert without["together"] is None
        assert without["private_runs"] == 1
        assert without["together_private"]["epsilon"] == once["together"]["epsilon"]
        assert without["no_total"].startswith("points/earlier-sampling-kind-all")
        assert "has no guarantee" in without["no_total"]
        shutil.rmtree(root / copy.relative_to(root).parts[0] / copy.relative_to(root).parts[1])

    def test_rounds_of_a_training_that_has_not_finished_are_told(self, place):
        root = place.folder / "sweep"
        assert "have not finished" not in spent_together(root)["note"]
        journal = root / "points" / "stopped" / "train" / ("0" * 32) / "journal"
        journal.mkdir(parents=True)
        for name in ("name", "0000000001", "0000000002"):
            (journal / name).touch()
        assert spent_together(root)["note"].endswith("have not finished (2 of stopped).")
        shutil.rmtree(root / "points" / "stopped")

    def test_what_decides_the_result_decides_what_is_finished(self, place):
        root = place.folder / "sweep"
        grid = GridConfig.from_mapping(GRID)
        units = "model.arguments.units=2"

        def finished(*overrides):
            """Of the first point, without running it."""
            planned = plan_sweep(place.config, grid, [units, *overrides])[:1]
            said = []

            def say(line):
                said.append(line)
                if not line.endswith(": as before"):
                    raise StoppedError

            try:
                run_sweep("tiny", grid, planned, root, say)
            except StoppedError:
                return False
            return True

        assert finished()
        assert not finished("train.rounds=3")
        rows = place.rows.read_text()
        place.rows.write_text(rows.replace("client-7,train", "client-6,train", 1))
        assert not finished()
        place.rows.write_text(rows)
        place.model.write_text(MODEL + "# edited\n")
        assert not finished()
        place.model.write_text(MODEL)
        assert finished()

        (point,) = {path.parent for path in root.glob("points/*all*/run.json")}
        summary = json.loads((point / "run.json").read_text())
        summary["headline"]["float"] += 1  # of a run by hand with other settings
        (point / "run.json").write_text(json.dumps(summary))
        assert not finished()

    def test_damaged_sweep_json_is_refused(self, place, capsys):
        (place.folder / "sweep" / "sweep.json").write_text("{}")
        with pytest.raises(StoreError, match=r"sweep\.json is damaged: KeyError 'points'"):
            run_sweep("tiny", GridConfig(seeds=(0,)), [], place.folder / "sweep", print)


@pytest.mark.parametrize(
    ("grid", "error", "wanted"),
    [
        ({"train.rounds": [1, 0]}, ConfigError, "point rounds-0: `train`: rounds=0 must be >= 1"),
        ({"train.round": [1]}, ConfigError, "point round-1: unknown configuration key"),
        ({"model.arguments.unit": [1]}, ConfigError, "build_model(units: int = 0) cannot be"),
        ({"model.arguments.units": [0, -1]}, ModelError, "point units--1: build_model of"),
        ({"data.label.classes": [4]}, ModelError, "point classes-4: the model"),
        ({"data.files": ["none.csv"]}, DataError, "point files-none.csv: no file matches"),
        (
            {"train.privacy.epsilon": [2, 2.0]},
            ConfigError,
            "points epsilon-2 and epsilon-2.0 are the same run",
        ),
        ({"push.directory": ["/srv/models"]}, ConfigError, "would publish every point there"),
        ({"push.directory": ["../models"]}, ConfigError, "would publish every point there"),
    ],
)
def test_every_point_is_checked_before_the_first_one_runs(project, grid, error, wanted):
    with pytest.raises(error) as raised:
        plan(with_units(project), grid=grid)
    assert wanted in str(raised.value)


def test_all_points_that_are_wrong_are_named(project):
    with pytest.raises(ConfigError) as raised:
        plan(with_units(project), grid={"train.rounds": [1, 0], "train.batch_size": [0, 1]})
    assert str(raised.value).splitlines() == [
        "3 of 4 points are wrong:",
        "  point rounds-1_batch_size-0: `train`: batch_size=0 must be >= 1",
        "  point rounds-0_batch_size-0 and 1 more: `train`: rounds=0 must be >= 1",
    ]


class TestSideBySide:
    """Points in processes of their own."""

    KILLED = MODEL.replace(
        "    x =",
        """    if units == 7 and "point_worker" in sys.argv[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    x =""",
    ).replace("import tensorflow as tf", "import os, signal, sys\nimport tensorflow as tf")

    @pytest.mark.slow
    def test_dead_process_fails_its_point_and_others_are_as_in_this_process(self, project):
        project.model.write_text(self.KILLED)
        grid = {"model.arguments.units": [7, 2]}
        plain = ("train.privacy={mechanism: none}", "train.xla='off'", _ANY)

        def run(grid, workers, root):
            planned = plan(project, *plain, grid=grid)
            return run_sweep("tiny", GridConfig(grid=grid), planned, root, print, workers)["points"]

        dead, done = run(grid, 2, project.folder / "sweep")
        assert (dead["status"], done["status"]) == ("failed", "succeeded")
        assert "the process that ran it was killed by SIGKILL" in dead["error"]
        (alone,) = run({"model.arguments.units": [2]}, 1, project.folder / "alone")
        for name in ("float", "compressed", "variant", "epsilon"):
            assert done["headline"][name] == alone["headline"][name]
        left, right = (
            evaluation_of(Workdir.at(project.folder / root / alone["workdir"]))
            for root in ("sweep", "alone")
        )
        for each, other in zip(left["models"].values(), right["models"].values(), strict=True):
            assert each["overall"] == pytest.approx(other["overall"], abs=1e-5)

    def test_end_of_the_iteration_ends_the_processes(self, project, tmp_path):
        orders = [Order("one", project.load(), project.workdir, {})]
        events = run_in_processes(orders, 2, tmp_path / "log")
        assert next(events) == (0, None)
        started = [
            one
            for one in psutil.Process().children()
            if "privet.pipeline.point_worker" in one.cmdline()
        ]
        assert started
        events.close()
        assert not [one for one in started if one.is_running()]


def test_small_dense_model_needs_a_pruned_one_beside_it(project):
    with pytest.raises(ConfigError, match="dense_small: no point prunes"):
        plan(with_units(project), seeds=[0], dense_small={"argument": "units"})


def test_weights_of_a_point_are_those_that_its_training_moves(project):
    aware = {"train.quantization_aware": [None, {}]}
    plain, rounding = plan(with_units(project), "model.arguments.units=2", grid=aware)
    assert plain.weights == 2 * 2 + 2 + 2 * 3 + 3
    assert rounding.weights > plain.weights  # by the ends of ranges


def test_other_public_data_are_another_point(project):
    public = project.config.with_name("public.csv")
    (rows,) = project.load().data.files
    public.write_bytes(Path(rows).read_bytes())

    def inputs():
        (one,) = plan(with_units(project), f"public_data.files={public}", seeds=[0])
        return one.inputs

    before = inputs()
    assert inputs() == before
    public.write_text(public.read_text() + public.read_text().splitlines()[-1] + "\n")
    assert inputs() != before


def test_wrong_grid_is_exit_code_2_and_starts_nothing(project, capsys):
    (project.folder / "grid.yaml").write_text("grid: {train.rounds: [1, 0]}")
    grid = str(project.folder / "grid.yaml")
    root = project.folder / "sweep"
    code = cli.main(["sweep", str(project.config), "--grid", grid, "--workdir", str(root)])
    assert code == cli.EXIT_USAGE
    assert (
        capsys.readouterr().err == "privet sweep: point rounds-0: `train`: rounds=0 must be >= 1\n"
    )
    assert not root.exists()
