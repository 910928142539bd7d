"""Running the pipeline for real: results, caching after edits, rejection, failure."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from privet.components.compress.config import CompressConfig
from privet.components.report.worst_clients import hidden_id
from privet.components.shared import artifacts, files
from privet.components.shared.errors import ConfigError, DataError, PipelineError, StoreError
from privet.pipeline import cli, outcome, run
from privet.pipeline.build import ARTIFACTS, NODES, RESOLVER
from privet.pipeline.config import load_config
from privet.pipeline.last_blessed import LastBlessedStrategy
from privet.pipeline.lineage import BASELINE, WHAT
from privet.pipeline.run_facts import gather_facts
from privet.pipeline.workdir import Workdir

VARIANTS = {variant.label for variant in CompressConfig().all}


def cached(summary):
    """The nodes that were taken from the cache."""
    return {name for name, node in summary["nodes"].items() if node["cached"]}


def facts_of(workdir):
    """What the report of the last run shows."""
    return gather_facts(workdir, outcome.read_last_run(workdir))


def ran(summary):
    """The nodes that did their work again."""
    return set(NODES) - cached(summary)


class TestRuns:
    """One project through its life; the tests run in this order and build on each other."""

    def test_first_run_pushes_version_1(self, shared_project):
        summary = shared_project.run()
        assert summary["status"] == "succeeded"
        assert summary["pushed"] == "serving/tiny/1"
        assert ran(summary) == set(NODES)
        version = shared_project.workdir.root / summary["pushed"]
        assert {path.name for path in version.iterdir()} >= {
            "saved_model.pb",
            "variables",
            "model.tflite",
            "assets.extra",
        }

    def test_run_json_keeps_its_contract(self, shared_project):
        workdir = shared_project.workdir
        summary = json.loads(workdir.run_json.read_text())
        assert summary["schema"] == 1
        assert summary["error"] is None
        assert summary["graph"].keys() == {*NODES, RESOLVER}
        for node in summary["nodes"].values():
            assert node["state"] == "complete"
            assert node["seconds"] >= 0
        assert summary["artifacts"].keys() == ARTIFACTS.keys()
        for path in summary["artifacts"].values():
            assert (workdir.root / path).is_dir()
        head = summary["headline"]
        assert 0 < head["epsilon"] <= 8
        assert head["delta"] == 1e-5
        assert head["metric"] == "accuracy"
        assert (head["train_clients"], head["eval_clients"]) == (6, 2)
        for name in ("float", "compressed"):
            assert 0 <= head[name] <= 1
        assert head["bytes_float_gzip"] > 0
        assert head["bytes_compressed_gzip"] > 0

    def test_report_is_on_the_work_directory_and_can_be_rebuilt(self, shared_project):
        first = shared_project.workdir.report.read_text()
        assert "tiny" in first
        shared_project.workdir.report.unlink()
        assert run.rebuild_report(shared_project.workdir).read_text() == first

    def test_report_says_what_ran_and_of_what_the_model_was_made(self, shared_project):
        facts = facts_of(shared_project.workdir)
        ran_in_order = [node["name"] for node in facts.run["nodes"]]
        inputs = {node["name"]: node["inputs"] for node in facts.run["nodes"]}
        for name, sources in inputs.items():
            assert all(ran_in_order.index(one) < ran_in_order.index(name) for one in sources)
        assert set(inputs) == {*NODES, RESOLVER}
        assert inputs["FederatedTrainer"] == ["ClientExampleGen"]
        assert set(inputs["Pusher"]) == {"VariantSelector", "ModelValidator", "InfraValidator"}
        lineage = facts.run["lineage"]
        assert [row["type"] for row in (lineage[0], lineage[-1])] == [
            "PrivetPushedModel",
            "PrivetClientExamples",
        ]
        assert {"FederatedTrainer", "FederatedEvaluator"} < {row["node"] for row in lineage}
        for row in lineage:
            assert (shared_project.workdir.root / row["path"]).is_dir()
            assert f"/{row['node']}/" in row["path"]

    def test_report_says_how_to_repeat_and_serve(self, shared_project):
        workdir, run_facts = shared_project.workdir, facts_of(shared_project.workdir).run
        assert load_config(workdir.config) == shared_project.load()
        assert run_facts["config"] == workdir.config.read_text()
        commands = {name: shlex.split(line) for name, line in run_facts["commands"].items()}
        assert commands["run"][-4:] == ["run", str(workdir.config), "--workdir", str(workdir.root)]
        assert commands["serve"][-1] == f"--model_base_path={workdir.root / 'serving/tiny'}"
        events = Path(commands["tensorboard"][-1])
        assert [path.name for path in events.iterdir() if "tfevents" in path.name]
        assert run_facts["versions"]["tensorflow"] == metadata.version("tensorflow")

    def test_worst_clients_have_the_ids_that_ingestion_has_hidden(self, shared_project):
        rows = facts_of(shared_project.workdir).worst_clients
        assert len(rows) == 2
        assert rows[0]["compressed"] <= rows[1]["compressed"]
        assert all(re.fullmatch("[0-9a-f]{32}", row["client_id"]) for row in rows)
        assert not shared_project.workdir.report_key.exists()

    def test_exact_ids_are_hidden_with_a_key_of_the_work_directory(self, shared_project, edit):
        workdir = shared_project.workdir
        before = {row["client_id"] for row in facts_of(workdir).worst_clients}
        edit(workdir.config, "client_ids: hashed", "client_ids: exact")  # as if they were
        after = {row["client_id"] for row in facts_of(workdir).worst_clients}
        edit(workdir.config, "client_ids: exact", "client_ids: hashed")
        key = workdir.report_key.read_bytes()
        assert after == {hidden_id(one, key) for one in before}
        assert workdir.report_key.stat().st_mode & 0o077 == 0

    def test_terminal_stays_quiet_and_the_log_is_kept(self, shared_project):
        log = shared_project.workdir.log.read_text()
        assert "Component FederatedTrainer is finished." in log

    def test_no_worker_process_is_left(self):
        names = {process.name() for process in psutil.Process().children(recursive=True)}
        assert not {name for name in names if "worker_binary" in name}

    def test_second_run_does_nothing(self, shared_project):
        summary = shared_project.run()
        assert cached(summary) == set(NODES)
        assert summary["pushed"] == "serving/tiny/1"
        assert [p.name for p in (shared_project.workdir.root / "serving/tiny").iterdir()] == ["1"]

    def test_edited_gate_runs_from_the_gate_on(self, shared_project):
        summary = shared_project.run("gate.rules=[{metric: compressed.accuracy, lower_bound: -1}]")
        assert ran(summary) == {"ModelValidator", "Pusher", "RunReporter"}
        assert summary["pushed"] == "serving/tiny/1"  # the same model: it is there already

    def test_edited_source_runs_the_step_and_what_follows(self, shared_project, monkeypatch):
        digest = files.source_digest

        def edited(*places):
            touched = any(place.name == "evaluate" for place in places)
            return digest(*places) + ("edited" if touched else "")

        monkeypatch.setattr(files, "source_digest", edited)
        summary = shared_project.run()
        before = {"ClientExampleGen", "FederatedTrainer", "ModelCompressor", "PrivacyAuditor"}
        assert ran(summary) == set(NODES) - before

    def test_edited_input_of_the_same_size_runs_everything(self, shared_project, edit):
        edit(shared_project.rows, "client-7,train", "client-6,train")
        summary = shared_project.run()
        assert ran(summary) == set(NODES)
        assert summary["headline"]["train_clients"] == 6  # one row moved, no client vanished

    def test_candidate_was_compared_with_the_last_blessed_model(self, shared_project):
        workdir = shared_project.workdir
        folder = workdir.root / outcome.read_run_json(workdir)["artifacts"]["evaluation"]
        evaluation = json.loads((folder / "evaluation.json").read_text())
        assert evaluation["models"].keys() == {"float", *VARIANTS, "blessed"}

    def test_lineage_names_the_baseline_but_not_what_it_was_made_of(self, shared_project):
        lineage = facts_of(shared_project.workdir).run["lineage"]
        kinds = Counter(row["type"] for row in lineage)
        assert kinds.pop("PrivetServableModel") == 2
        assert set(kinds.values()) == {1}
        assert [row["what"] for row in lineage if "compared" in row["what"]] == [BASELINE]

    @pytest.mark.slow
    def test_blessed_model_of_other_features_is_no_baseline(self, shared_project, edit):
        edit(shared_project.model, "(2,)", "(1,)")
        summary = shared_project.run("data.features={x: {columns: x_0}}")
        folder = shared_project.workdir.root / summary["artifacts"]["evaluation"]
        evaluation = json.loads((folder / "evaluation.json").read_text())
        assert evaluation["models"].keys() == {"float", *VARIANTS}
        edit(shared_project.model, "(1,)", "(2,)")
        shared_project.run()

    def test_run_after_a_comparison_is_cached_too(self, shared_project):
        assert cached(shared_project.run()) == set(NODES)

    def test_edited_model_file_runs_from_training_on(self, shared_project, edit):
        edit(shared_project.model, "Dense(2 + 1)", "Dense(3)")
        summary = shared_project.run()
        assert ran(summary) == set(NODES) - {"ClientExampleGen"}

    def test_model_that_fails_the_gate_is_not_pushed(self, shared_project):
        before = sorted((shared_project.workdir.root / "serving/tiny").iterdir())
        rules = "gate.rules=[{metric: compressed.accuracy, lower_bound: 1.1}]"
        summary = shared_project.run(rules)
        assert summary["status"] == "rejected"
        assert summary["pushed"] is None
        assert sorted((shared_project.workdir.root / "serving/tiny").iterdir()) == before
        again = shared_project.run(rules)
        assert again["status"] == "rejected"
        assert cached(again) == set(NODES)

    def test_failing_node_is_named_and_leaves_nothing(self, shared_project, edit):
        edit(shared_project.rows, "client-3,train,", "client-3,train,oops")
        examples = shared_project.workdir.artifacts / "ClientExampleGen" / "examples"
        before = sorted(examples.iterdir())
        with pytest.raises(DataError, match="ClientExampleGen failed: 1 of 40 rows") as error:
            shared_project.run()
        assert "oops" not in str(error.value)
        assert sorted(examples.iterdir()) == before
        summary = outcome.read_run_json(shared_project.workdir)
        assert summary["status"] == "failed"
        assert summary["nodes"]["ClientExampleGen"]["state"] == "failed"
        assert summary["nodes"]["FederatedTrainer"]["state"] == "missing"
        assert summary["artifacts"] == {}
        facts = facts_of(shared_project.workdir)
        states = {node["name"]: node["state"] for node in facts.run["nodes"]}
        assert states["ClientExampleGen"] == "failed"
        assert states["RunReporter"] == "missing"
        assert facts.run["lineage"] == []
        assert "serve" not in facts.run["commands"]
        page = shared_project.workdir.report.read_text()
        assert "ClientExampleGen failed: 1 of 40 rows" in page
        assert "oops" not in page.partition("<script")[0]
        edit(shared_project.rows, "client-3,train,oops", "client-3,train,")

    def test_node_whose_inputs_fail_is_named_although_the_runner_returns(
        self, shared_project, monkeypatch
    ):
        def broken(self, store, input_dict):
            raise RuntimeError("the store is on fire")

        monkeypatch.setattr(LastBlessedStrategy, "resolve_artifacts", broken)
        with pytest.raises(PipelineError, match="LastBlessedModel failed") as error:
            shared_project.run()
        assert "Input resolution error" in str(error.value)
        assert "on fire" in shared_project.workdir.log.read_text()
        assert outcome.read_run_json(shared_project.workdir)["status"] == "failed"

    def test_words_of_a_library_stay_out_of_what_is_shared(self, shared_project, monkeypatch):
        def broken(*_):
            raise RuntimeError("cannot parse the row 'Ada, 36'")

        monkeypatch.setattr(run.LocalDagRunner, "run_with_ir", broken)
        with pytest.raises(PipelineError, match="Ada, 36"):  # on the terminal
            shared_project.run()
        summary = outcome.read_run_json(shared_project.workdir)
        assert summary["error"] == "the pipeline failed: RuntimeError (see run.log)"
        assert "Ada" not in shared_project.workdir.report.read_text().partition("<script")[0]
        assert "Ada" in shared_project.workdir.log.read_text()

    def test_deleted_push_is_pushed_again(self, shared_project):
        pushed = shared_project.workdir.root / shared_project.run()["pushed"]
        shutil.rmtree(pushed)
        summary = shared_project.run()
        assert ran(summary) == {"Pusher", "RunReporter"}
        assert (shared_project.workdir.root / summary["pushed"]).is_dir()

    def test_return_to_an_earlier_configuration_pushes_its_model_again(self, shared_project):
        first = shared_project.run("select.variant=float32")
        other = shared_project.run("select.variant=float16")
        assert other["pushed"] != first["pushed"]
        again = shared_project.run("select.variant=float32")
        assert again["artifacts"]["servable"] == first["artifacts"]["servable"]
        assert again["pushed"] not in (first["pushed"], other["pushed"])
        third = shared_project.run("select.variant=float16")
        assert third["pushed"] not in (other["pushed"], again["pushed"])

    def test_two_runs_are_compared(self, shared_project, capsys):
        workdir = shared_project.workdir
        before = Workdir.at(shared_project.folder / "before")
        shutil.copytree(workdir.root, before.root)
        shared_project.run("select.variant=float32")
        page = shared_project.folder / "comparison.html"
        paths = [str(one.root) for one in (before, workdir)]
        code = cli.main(["report", "--compare", *paths, "--output", str(page), "--json"])
        found = json.loads(capsys.readouterr().out)
        assert code == cli.EXIT_DONE
        assert page.read_text().startswith("<!doctype html>")
        assert [run["variant"] for run in found["runs"]] == ["float16", "float32"]
        changed = [{"key": "select.variant", "values": ["float16", "float32"]}]
        assert found["config"] == changed
        assert found["privacy"]["because"] == "Both give the same guarantee."
        assert found["quality"]["same_examples"] is True
        assert (found["clients"]["by"], found["clients"]["pairs"]) == ("id", 2)
        sizes = {row["name"]: row["ratio"] for row in found["numbers"]}
        assert sizes["served model, gzipped"] > 1
        assert cli.main(["report", "--compare", paths[0], paths[0]]) == cli.EXIT_USAGE


@pytest.mark.slow
def test_public_data_are_ingested_and_calibrated_on(project):
    rows = project.rows.read_text().replace("client-", "volunteer-")
    project.folder.joinpath("public.csv").write_text(rows)
    summary = project.run(
        "public_data.files=public.csv",
        "compress.variants=[{quantization: int8, ranges: public}]",
        "select.variant=int8",
    )
    assert summary["nodes"]["PublicExampleGen"]["state"] == "complete"
    assert summary["headline"]["variant"] == "int8"
    folder = project.workdir.root / summary["artifacts"]["compression"]
    report = json.loads((folder / "compression_report.json").read_text())
    assert report["data_used"] == "public"
    assert summary["pushed"] == "serving/tiny/1"
    card = (project.workdir.root / "serving/tiny/1/model_card.md").read_text()
    assert "Made small with public data." in card


def test_two_runs_in_one_directory_are_refused(project):
    code = (
        "import sys; from privet.pipeline.workdir import Workdir\n"
        "with Workdir.at(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, project.workdir.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(PipelineError, match="another run is using"):
            project.run()
    finally:
        other.communicate()  # closes its input, which ends it


def test_interrupted_run_says_so(project, monkeypatch):
    def interrupted(self, pipeline):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.LocalDagRunner, "run_with_ir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.run()
    summary = outcome.read_run_json(project.workdir)
    assert (summary["status"], summary["error"]) == ("failed", "interrupted")
    assert "interrupted" in project.workdir.report.read_text()


def test_work_directory_that_cannot_be_written_is_refused(project):
    with pytest.raises(ConfigError, match="cannot write to the work directory /proc/privet"):
        run.run_pipeline(project.load(), Workdir.at("/proc/privet"), lambda line: None)


def test_lineage_has_words_for_every_artifact_that_a_model_can_come_from():
    kinds = {one for one in vars(artifacts).values() if hasattr(one, "TYPE_NAME")}
    assert WHAT.keys() == kinds - {artifacts.Artifact, artifacts.RunReport}


def test_report_without_a_run_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"holds no run\.json"):
        run.rebuild_report(Workdir.at(tmp_path))
