"""docs/artifacts.md and docs/pipeline.md: the JSON shown has the keys of the JSON written."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.audit.canaries import Canaries as AuditedCanaries
from privet.components.audit.config import AuditConfig
from privet.components.audit.findings import audit
from privet.components.audit.membership import ClientLosses
from privet.components.compress.report import compression_report
from privet.components.compress.sizes import directory_sizes, file_sizes
from privet.components.evaluate import release
from privet.components.evaluate.batches import Batch
from privet.components.evaluate.config import EvaluateConfig, PersonalizationConfig, ReleaseConfig
from privet.components.evaluate.measure import Plan, measure
from privet.components.evaluate.measures import Measures
from privet.components.evaluate.personalization import compare, report, summarize
from privet.components.evaluate.release import Released
from privet.components.evaluate.slices import Parts
from privet.components.evaluate.summary import evaluation
from privet.components.ingest import run, transforms
from privet.components.ingest.config import IngestConfig
from privet.components.select.choice import choose
from privet.components.select.config import SelectConfig
from privet.components.shared import artifacts, files, layout, storage
from privet.components.shared.served import served_view
from privet.components.train import accounting
from privet.components.train.canaries import Canaries, canary_report
from privet.components.train.canaries_config import CanariesConfig
from privet.components.train.config import TrainConfig
from privet.components.train.history import Round, training_history
from privet.components.train.ledger import write_ledger
from privet.components.train.mechanism import gaussian
from privet.components.train.participation import Cohorts, build_participation
from privet.components.train.participation_config import SimulationConfig
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import AllClients
from privet.components.validate import rules
from privet.components.validate.config import GateConfig
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
ARTIFACTS = (DOCS / "artifacts.md").read_text(encoding="utf-8")
PIPELINE = (DOCS / "pipeline.md").read_text(encoding="utf-8")

_BLOCK = re.compile(r"^#{2,3} (?P<title>[^\n]+)$|^```json\n(?P<json>.*?)^```$", re.M | re.S)

# Names inside these are the data's own: classes, splits, reasons, models, metrics, features.
_FREE = {"labels", "splits", "reasons", "models", "overall", "clients", "eval", "features"}
_FREE |= {"intervals", "metrics", "slices"}


def examples(text: str) -> dict[str, Any]:
    """Heading (without backticks) -> the JSON example under it."""
    found: dict[str, Any] = {}
    title = ""
    for match in _BLOCK.finditer(text):
        if match["title"]:
            title = match["title"].replace("`", "")
        else:
            assert title not in found, f"two examples under {title}"
            found[title] = json.loads(match["json"])
    return found


def keys(value: Any, path: str = "", *, free: bool = False) -> Iterator[str]:
    """The key paths of a JSON value; the first item stands for a list, `*` for any free name."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            place = f"{path}.{'*' if free else name}"
            yield place
            yield from keys(inner, place, free=not free and name in _FREE)
    elif isinstance(value, list) and value:
        yield from keys(value[0], f"{path}[]")


def assert_same_keys(documented: Any, written: Any) -> None:
    assert set(keys(documented)) == set(keys(json.loads(json.dumps(written))))


@pytest.fixture(scope="module")
def client_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ClientExamples artifact with a refused row, written by the real pipeline."""
    folder = tmp_path_factory.mktemp("ingest")
    rows = ["client,x,digit", "ada,1,0", "ada,2,1", "bob,3,0", "bob,99,0"]
    folder.joinpath("rows.csv").write_text("\n".join(rows), encoding="utf-8")
    config = IngestConfig.from_mapping(
        {
            "files": str(folder / "rows.csv"),
            "client_id": "client",
            "features": {"x": {"columns": "x", "minimum": 0, "maximum": 16}},
            "label": {"column": "digit", "classes": 2},
            "client_ids": "exact",
            "split": {"eval": 0.5, "seed": 1},  # puts one client on each side
            "max_reject_fraction": 0.5,
            "shards": 2,
        }
    )
    output = folder / "examples"
    arguments = beam_arguments(BeamConfig())
    run.ingest_to(
        config, str(output), str(folder / "state"), lambda: transforms.pipeline_of(arguments)
    )
    return output


def test_schema(client_examples: Path) -> None:
    written = files.read_json(str(client_examples / layout.SCHEMA))
    assert_same_keys(examples(ARTIFACTS)["schema.json"], written)


def test_statistics_and_rejects(client_examples: Path) -> None:
    shown = examples(ARTIFACTS)
    written = files.read_json(str(client_examples / layout.STATISTICS))
    assert_same_keys(shown["statistics.json"], written)
    summary = files.read_json(str(client_examples / layout.REJECTS))
    assert_same_keys(shown["rejects/summary.json"], summary)
    (reject,) = [
        json.loads(line)
        for path in client_examples.glob("rejects/*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert_same_keys(shown["rejects/*.jsonl"], reject)


def test_client_store_is_laid_out_as_described(client_examples: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", ARTIFACTS, re.M | re.S)
    dtype = np.dtype(eval(code.replace("S<longest id in bytes>", "S3")))
    store = [
        storage.ClientStore(str(client_examples), split)
        for split in ("train", "eval")
        if any(client_examples.glob(f"Split-{split}/*.index"))
    ]
    found = {reference.client_id: reference for split in store for reference in split.references()}
    assert set(found) == {"ada", "bob"}
    for client, reference in found.items():
        shard = storage.stable_hash("shard", client) % 2
        assert Path(reference.shard).name == f"clients-{shard:05d}-of-00002.tfrecord"
        index = np.load(reference.shard.removesuffix(".tfrecord") + ".index", allow_pickle=False)
        assert index.dtype == dtype
    for name in ("client_id", "num_examples", "column/label"):
        assert f"`{name}`" in ARTIFACTS
        assert name.encode() in Path(found["ada"].shard).read_bytes()


def ledger(mechanism: str) -> dict[str, Any]:
    config = PrivacyConfig(mechanism="none")
    account = None
    sampler = AllClients(200)
    spent: list[float] = []
    if mechanism == "gaussian":
        config = PrivacyConfig(mechanism="gaussian", epsilon=2, delta=1e-5, clip_norm=0.5)
        account = accounting.Accountant(gaussian(sampler.draws, 3.0), 1e-5)
        for _ in range(2):
            account.count_round()
            spent.append(account.epsilon())
    return write_ledger(
        config,
        Cohorts(sampler, SimulationConfig(), seed=None),
        account,
        rounds=2,
        rounds_allowed=2 if account else 0,
        rounds_planned=5 if account else 2,
        ended_by="budget" if account else "rounds",
        public_eval=False,
        epsilon_by_round=spent,
    )


def test_ledger_is_the_one_that_these_settings_give() -> None:
    shown, written = examples(ARTIFACTS)["privacy_ledger.json"], ledger("gaussian")
    assert_same_keys(shown, written)
    for name in shown.keys() - {"assumptions", "not_covered"}:  # shortened in the document
        if isinstance(written[name], float) or name == "epsilon_by_round":
            assert shown[name] == pytest.approx(written[name], rel=1e-6)
        else:
            assert shown[name] == written[name], name
    assert set(shown["assumptions"]) <= set(written["assumptions"])
    assert set(shown["not_covered"]) <= set(written["not_covered"])


def test_ledger_without_privacy() -> None:
    assert examples(ARTIFACTS)["privacy_ledger.json without privacy"] == ledger("none")


def test_history() -> None:
    config = TrainConfig(privacy=PrivacyConfig(mechanism="none"))
    rounds = [Round(1, 200, 1.0, None, {"accuracy": 0.5, "loss": 1.0})]
    sampler = AllClients(200)
    participation = build_participation(config, sampler, seed=0)
    written = training_history(
        rounds, config, sampler, participation, metric="accuracy", shapes=[(64, 10), (10,)]
    )
    assert_same_keys(examples(ARTIFACTS)["training_history.json"], written)


def test_canaries() -> None:
    draws = AllClients(200).draws
    canaries = Canaries(CanariesConfig(count=3), draws, [(64, 10), (10,)])
    nothing = [np.zeros((64, 10), np.float32), np.zeros(10, np.float32)]
    scores = canaries.scores(canaries.initial(), nothing, ())
    written = canary_report(
        scores, private=True, norm=0.5, dimension=650, draws=draws, round_seconds=[1.0]
    )
    assert_same_keys(examples(ARTIFACTS)["canaries.json"], written)


def test_compression_report(tmp_path: Path) -> None:
    shown = examples(ARTIFACTS)
    variant = shown["variants/<name>.json"]
    latency = {name: {"1": 0.7, "32": 2.4} for name in ("float32", variant["name"])}
    failed = [{"name": "int16", "failed": "the converter does not know it"}]
    written = compression_report([{**variant, "name": "float32"}, variant], latency, failed)
    report = shown["compression_report.json"]
    assert set(keys(report["variants"][1])) == set(keys(written["variants"][1]))
    assert report.keys() == written.keys()
    assert report["failed"][0].keys() == written["failed"][0].keys()
    assert variant["saved_model"].keys() == directory_sizes(str(tmp_path)).keys()
    assert file_sizes(b"").keys() < variant.keys()


def test_selection() -> None:
    shown = examples(ARTIFACTS)
    report = shown["compression_report.json"]
    models = {variant["name"]: {"overall": {"accuracy": 0.9}} for variant in report["variants"]}
    evaluation = {"metric": "accuracy", "higher_is_better": True, "models": {}}
    evaluation["models"] = {"float": {"overall": {"accuracy": 0.9}}, **models}
    written = choose(SelectConfig(), evaluation, {**report, "failed": []})
    assert_same_keys(shown["selection.json"], written)


def test_compression_report_adds_up() -> None:
    report = examples(ARTIFACTS)["compression_report.json"]
    first = report["variants"][0]["bytes_gzip"]
    for variant in report["variants"]:
        assert variant["ratio_gzip"] == round(first / variant["bytes_gzip"], 4)


MEASURES = Measures("multiclass", 3, EvaluateConfig().metric_directions("multiclass"))
LABELS = np.array([0, 1, 2, 0])
SCORES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.5, 0.2], [0.6, 0.3, 0.1]], np.float32)


def size(batch: Batch) -> Parts:
    """The slice that the document shows, of clients all in one part."""
    return Parts(["below 5"], np.zeros(len(batch.labels), np.int64))


PLAN = Plan(MEASURES, 50, slicers={"size": size}, released=Released("accuracy", 0.0, 1.0))


def test_personalization() -> None:
    client = storage.ClientData("ada", {}, LABELS)
    summary, _ = summarize(PLAN, [compare(client, client, SCORES, SCORES)])
    written = report(summary, PersonalizationConfig(), MEASURES, clients=3)
    assert_same_keys(examples(ARTIFACTS)["personalization in evaluation.json"], written)


def evaluated() -> dict[str, Any]:
    batch = Batch(["ada", "bob"], np.array([3, 1]), {}, LABELS)
    summary, _ = measure(PLAN, batch, {"int8_weights": SCORES})
    return evaluation(summary, MEASURES, "eval", ["cat", "cow", "dog"])


def test_release() -> None:
    batch = Batch([f"c{number}" for number in range(4)], np.ones(4, np.int64), {}, LABELS)
    summary, _ = measure(PLAN, batch, {"int8_weights": SCORES})
    sums = summary.models["int8_weights"].released
    assert sums is not None
    assert PLAN.released is not None
    written = release.release(
        {"int8_weights": sums}, ReleaseConfig(epsilon=1, delta=1e-5), PLAN.released, "eval", {}
    )
    shown = examples(ARTIFACTS)["release.json"]
    assert_same_keys(shown, written)
    spent = {name: shown["mechanism"][name] for name in ("noise_multiplier", "compositions")}
    assert spent == {name: written["mechanism"][name] for name in spent}


def test_evaluation() -> None:
    assert_same_keys(examples(ARTIFACTS)["evaluation.json"], evaluated())


def test_audit() -> None:
    losses = ClientLosses([0.1, 0.2], [0.15, 0.3])
    coins = np.array([True, True, False, False])
    found = AuditedCanaries(
        coins, np.array([0.4, 0.3, 0.2, 0.35]), np.array([0.1, 0.2, 0.3, 0.4]), 0.01
    )
    claimed = {"private": True, "epsilon": 4.0, "delta": 1e-5}
    written = audit(losses, found, claimed, AuditConfig(), 0)
    shown = examples(ARTIFACTS)["audit.json"]

    assert_same_keys(shown, written)
    assert (shown["note"], shown["canaries"]["lower_bound"]["source"]) == (
        written["note"],
        written["canaries"]["lower_bound"]["source"],
    )


def test_blessing() -> None:
    gate = GateConfig.from_mapping(
        {
            "rules": [
                {"metric": "compressed.accuracy", "lower_bound": 0.99},
                {"metric": "compressed.accuracy", "max_worsening": 0.05},
            ]
        }
    )
    shown = examples(ARTIFACTS)["blessing.json"]
    seen = served_view(evaluated(), {"variant": "int8_weights"})
    written = rules.judge(gate, seen, {"epsilon": None, "delta": None})
    assert_same_keys(shown, written)
    assert [rule["detail"] for rule in shown["rules"]] == [r["detail"] for r in written["rules"]]


def test_run_json(tmp_path: Path) -> None:
    from privet.pipeline import build, outcome
    from privet.pipeline.config import PipelineConfig
    from privet.pipeline.workdir import Workdir

    config = PipelineConfig.from_mapping(
        {
            "name": "digits",
            "data": {
                "files": "rows.csv",
                "client_id": "client",
                "features": {"x": {"columns": "x"}},
                "label": {"column": "digit", "classes": 2},
            },
            "model": {"module_file": "model.py"},
            "train": {"privacy": {"mechanism": "none"}},
            "gate": {"rules": [{"metric": "compressed.accuracy", "lower_bound": 0.5}]},
        }
    )
    nodes = dict.fromkeys(build.NODES, outcome.Node())
    written = outcome.summarize(config, Workdir.at(tmp_path), nodes, outcome.Attempt("now"))
    shown = examples(PIPELINE)["run.json"]
    assert shown.keys() == written.keys()
    assert_same_keys(shown["nodes"], written["nodes"])
    assert_same_keys(shown["headline"], written["headline"])
    assert shown["versions"].keys() == written["versions"].keys()
    assert shown["graph"].keys() == {*build.NODES, build.RESOLVER}
    assert shown["artifacts"].keys() == build.ARTIFACTS.keys()
    rows = set(re.findall(r"^\| `([^`]+)` \|.*\|$", PIPELINE.partition("## `run.json`")[2], re.M))
    headline = {f"headline.{name}" for name in written["headline"]}
    states = {f"nodes.<node>.{name}" for name in ("state", "seconds", "cached")}
    plain = written.keys() - {"nodes", "artifacts", "headline"}
    assert rows == plain | headline | states | {"artifacts.<name>"}
    for state in [*outcome.STATES.values(), outcome.Node().state]:
        assert f"`{state}`" in PIPELINE, state
    for node in (*build.NODES, *build.ARTIFACTS):
        assert f"`{node}`" in PIPELINE, node


def test_every_artifact_type_and_file_is_described() -> None:
    types = [name for name, value in vars(artifacts).items() if hasattr(value, "TYPE_NAME")]
    for name in set(types) - {"Artifact"}:
        assert f"\n## {name}\n" in ARTIFACTS, name
        assert f"| `{name}` |" in ARTIFACTS, name
    for name, file in vars(layout).items():
        if name.isupper():
            assert f"`{file}`" in ARTIFACTS, file


def test_only_known_examples_are_shown() -> None:
    """An example that no test above looks at would go stale unnoticed."""
    parsed_only = {"infra_blessing.json", "pushed.json"}
    assert set(examples(ARTIFACTS)) == parsed_only | {
        "schema.json",
        "statistics.json",
        "rejects/summary.json",
        "rejects/*.jsonl",
        "privacy_ledger.json",
        "privacy_ledger.json without privacy",
        "training_history.json",
        "canaries.json",
        "compression_report.json",
        "variants/<name>.json",
        "selection.json",
        "evaluation.json",
        "audit.json",
        "release.json",
        "personalization in evaluation.json",
        "blessing.json",
    }
