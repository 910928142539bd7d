"""The components as TFX runs them: artifacts, properties, cache, with real ML Metadata."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import DataError

MODEL = """
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=(2,), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3, kernel_initializer="zeros")(inputs))
"""
ALL = (
    "ClientExampleGen",
    "FederatedTrainer",
    "ModelCompressor",
    "FederatedEvaluator",
    "VariantSelector",
    "ModelValidator",
    "InfraValidator",
    "Pusher",
)


def rows() -> list[dict[str, Any]]:
    """Four training and two held-out clients; three separable classes."""
    generator = np.random.default_rng(0)
    centres = [(4, 0), (0, 4), (-4, -4)]
    return [
        {
            "client": client,
            "split": "eval" if client.startswith("e") else "train",
            "x_0": round(centres[label][0] + generator.normal(), 3),
            "x_1": round(centres[label][1] + generator.normal(), 3),
            "label": label,
        }
        for client in ("t0", "t1", "t2", "t3", "e0", "e1")
        for label in (0, 1, 2)
    ]


@pytest.fixture(scope="module")
def place(write_csv: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tfx")
    write_csv(place / "rows.csv", rows())
    (place / "model.py").write_text(MODEL)
    return place


@pytest.fixture(scope="module")
def run(place: Path, beam_options: list[str]) -> Iterator[Callable[..., SimpleNamespace]]:
    """Runs the first nodes of a pipeline; gives the state and the outputs of each."""
    from tfx.orchestration import metadata, pipeline
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    connection = metadata.sqlite_metadata_connection_config(str(place / "metadata.sqlite"))

    def run_nodes(nodes: tuple[str, ...] = ALL, *, accuracy: float = 0.0) -> Any:
        built = pipeline.Pipeline(
            pipeline_name="tiny",
            pipeline_root=str(place / "artifacts"),
            components=[node for node in build(place, accuracy) if node.id in nodes],
            enable_cache=True,
            metadata_connection_config=connection,
            beam_pipeline_args=beam_options,
        )
        LocalDagRunner().run(built)
        return latest(connection, nodes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])  # TFX hands our arguments on to Beam
        yield run_nodes


def build(place: Path, accuracy: float) -> list[Any]:
    from privet.components.compress.component import ModelCompressor
    from privet.components.compress.config import CompressConfig
    from privet.components.evaluate.component import FederatedEvaluator
    from privet.components.evaluate.config import EvaluateConfig, PersonalizationConfig
    from privet.components.ingest.component import ClientExampleGen
    from privet.components.ingest.config import IngestConfig
    from privet.components.push.component import Pusher
    from privet.components.select.component import VariantSelector
    from privet.components.select.config import SelectConfig
    from privet.components.train.component import FederatedTrainer
    from privet.components.train.config import (
        TrainConfig,
    )
    from privet.components.validate.component import InfraValidator, ModelValidator
    from privet.components.validate.config import GateConfig, InfraConfig

    data = IngestConfig.from_mapping(
        {
            "files": str(place / "rows.csv"),
            "client_id": "client",
            "features": {"x": {"columns": ["x_0", "x_1"]}},
            "label": {"column": "label", "classes": 3},
            "split": {"column": "split"},
            "shards": 2,
        }
    )
    training = TrainConfig.from_mapping(
        {
            "rounds": 2,
            "quantization_aware": {},
            "canaries": {"count": 4},
            "privacy": {
                "mechanism": "gaussian",
                "noise_multiplier": 2.0,
                "delta": 1e-5,
                "clip_norm": 5.0,
            },
        }
    )
    gate = GateConfig.from_mapping(
        {"rules": [{"metric": "compressed.accuracy", "lower_bound": accuracy}]}
    )
    ingest = ClientExampleGen(data, str(place / "state"))
    examples = ingest.outputs["examples"]
    train = FederatedTrainer(
        examples, str(place / "model.py"), "build_model", training, state=str(place / "training")
    )
    ledger = train.outputs["ledger"]
    compress = ModelCompressor(train.outputs["model"], ledger, examples, CompressConfig())
    variants = compress.outputs["variants"]
    fine_tuned = EvaluateConfig(personalization=PersonalizationConfig(epochs=2))
    evaluate = FederatedEvaluator(examples, train.outputs["model"], variants, config=fine_tuned)
    evaluation = evaluate.outputs["evaluation"]
    select = VariantSelector(
        variants,
        compress.outputs["report"],
        evaluation,
        ledger,
        examples,
        "tiny",
        SelectConfig(variant="int8_weights"),
    )
    servable = select.outputs["servable"]
    validate = ModelValidator(servable, evaluation, select.outputs["selection"], ledger, gate)
    trial = InfraValidator(servable, examples, InfraConfig(requests=2))
    push = Pusher(
        servable,
        validate.outputs["blessing"],
        trial.outputs["blessing"],
        str(place / "serving" / "tiny"),
    )
    return [ingest, train, compress, evaluate, select, validate, trial, push]


def latest(connection: Any, nodes: tuple[str, ...]) -> SimpleNamespace:
    """The last execution of each node: its state, and artifacts by name of the output."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as proto

    store = metadata_store.MetadataStore(connection)
    states, outputs, executions = {}, {}, {}
    for node in nodes:
        context = store.get_context_by_type_and_name("node", f"tiny.{node}")
        execution = max(store.get_executions_by_context(context.id), key=lambda one: one.id)
        states[node] = proto.Execution.State.Name(execution.last_known_state)
        executions[node] = execution
        for event in store.get_events_by_execution_ids([execution.id]):
            if event.type == proto.Event.OUTPUT:
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                outputs[event.path.steps[0].key, node] = artifact
    return SimpleNamespace(states=states, outputs=outputs, executions=executions)


@pytest.fixture(scope="module")
def first(run: Any) -> SimpleNamespace:
    return run()


def content(artifact: Any, name: str) -> Any:
    return json.loads(Path(artifact.uri, name).read_text())


def test_every_component_completes(first: SimpleNamespace) -> None:
    assert first.states == dict.fromkeys(ALL, "COMPLETE")


def test_every_artifact_has_its_type_and_its_file(first: SimpleNamespace) -> None:
    found = {
        (name, node): (artifact.type, Path(artifact.uri))
        for (name, node), artifact in first.outputs.items()
    }
    wanted = {
        ("examples", "ClientExampleGen"): ("PrivetClientExamples", "statistics.json"),
        ("model", "FederatedTrainer"): ("PrivetFederatedModel", "keras_metadata.pb"),
        ("ledger", "FederatedTrainer"): ("PrivetPrivacyLedger", "privacy_ledger.json"),
        ("history", "FederatedTrainer"): ("PrivetTrainingHistory", "training_history.json"),
        ("variants", "ModelCompressor"): ("PrivetModelVariants", "float32/model.tflite"),
        ("report", "ModelCompressor"): ("PrivetCompressionReport", "compression_report.json"),
        ("evaluation", "FederatedEvaluator"): ("PrivetFederatedEvaluation", "evaluation.json"),
        ("servable", "VariantSelector"): ("PrivetServableModel", "model_card.md"),
        ("selection", "VariantSelector"): ("PrivetVariantSelection", "selection.json"),
        ("blessing", "ModelValidator"): ("PrivetModelBlessing", "blessing.json"),
        ("blessing", "InfraValidator"): ("PrivetInfraBlessing", "infra_blessing.json"),
        ("pushed", "Pusher"): ("PrivetPushedModel", "pushed.json"),
    }
    assert (found["model", "FederatedTrainer"][1] / "activation_ranges.json").is_file()
    history = found["history", "FederatedTrainer"][1]
    assert {path.name for path in history.iterdir()} == {
        "training_history.json",
        "history.parquet",
        "tensorboard",
        "canaries.json",
    }
    assert found.keys() == wanted.keys()
    for key, (type_name, file) in wanted.items():
        assert found[key][0] == type_name
        assert (found[key][1] / file).is_file()


def test_verdicts_are_properties_of_the_artifacts(first: SimpleNamespace) -> None:
    ledger = first.outputs["ledger", "FederatedTrainer"]
    blessing = first.outputs["blessing", "ModelValidator"]
    pushed = first.outputs["pushed", "Pusher"]

    assert ledger.properties["private"].int_value == 1
    assert blessing.properties["blessed"].int_value == 1
    assert blessing.custom_properties["servable_id"].int_value == (
        first.outputs["servable", "VariantSelector"].id
    )
    assert first.outputs["blessing", "InfraValidator"].properties["blessed"].int_value == 1
    assert pushed.properties["pushed"].int_value == 1
    assert pushed.properties["version"].int_value == 1


def test_files_agree_with_each_other(first: SimpleNamespace, place: Path) -> None:
    ledger = content(first.outputs["ledger", "FederatedTrainer"], "privacy_ledger.json")
    history = content(first.outputs["history", "FederatedTrainer"], "training_history.json")
    report = content(first.outputs["report", "ModelCompressor"], "compression_report.json")
    evaluation = content(first.outputs["evaluation", "FederatedEvaluator"], "evaluation.json")
    pushed = content(first.outputs["pushed", "Pusher"], "pushed.json")

    assert ledger["rounds"] == len(history["rounds"]) == 2
    assert ledger["sampling"]["clients"] == 4
    canaries = content(first.outputs["history", "FederatedTrainer"], "canaries.json")
    assert (canaries["count"], canaries["rounds"], canaries["private"]) == (4, 2, True)
    assert [one["epsilon"] for one in history["rounds"]] == ledger["epsilon_by_round"]
    selection = content(first.outputs["selection", "VariantSelector"], "selection.json")
    names = {"float32", "float16", "dynamic_range", "int8", "int8_weights"}
    assert {one["name"] for one in report["variants"]} == names
    assert {one["name"] for one in selection["variants"]} == names
    assert selection["variant"] == "int8_weights"
    assert (evaluation["clients"], evaluation["examples"]) == (2, 6)
    assert set(evaluation["models"]) == {"float", *names}
    personalization = evaluation["personalization"]
    assert personalization["settings"]["epochs"] == 2
    assert (personalization["clients"], personalization["examples"]) == (2, 4)
    assert pushed["path"] == str(place / "serving" / "tiny" / "1")


def test_pushed_version_is_the_servable(first: SimpleNamespace, place: Path) -> None:
    servable = Path(first.outputs["servable", "VariantSelector"].uri)
    version = place / "serving" / "tiny" / "1"

    assert (version / "model.tflite").read_bytes() == (servable / "model.tflite").read_bytes()
    assert (version / "saved_model.pb").is_file()


def test_second_run_is_cached_and_a_refused_model_is_not_pushed(
    first: SimpleNamespace, run: Any, place: Path
) -> None:
    again = run()
    assert again.states == dict.fromkeys(ALL, "CACHED")
    stricter = run(accuracy=1.5)

    assert stricter.states == {
        **dict.fromkeys(ALL, "CACHED"),
        "ModelValidator": "COMPLETE",
        "Pusher": "COMPLETE",
    }
    pushed = stricter.outputs["pushed", "Pusher"]
    assert stricter.outputs["blessing", "ModelValidator"].properties["blessed"].int_value == 0
    assert pushed.properties["pushed"].int_value == 0
    assert "version" not in pushed.properties
    assert content(pushed, "pushed.json") == {
        "schema": 1,
        "pushed": False,
        "version": None,
        "path": None,
        "detail": "blessing: refused",
    }
    assert [path.name for path in (place / "serving" / "tiny").iterdir()] == ["1"]


def test_version_that_is_gone_is_pushed_again(
    first: SimpleNamespace, run: Any, place: Path
) -> None:
    serving = place / "serving" / "tiny"
    shutil.rmtree(serving / "1")
    again = run()

    assert again.states == {**dict.fromkeys(ALL, "CACHED"), "Pusher": "COMPLETE"}
    assert again.outputs["pushed", "Pusher"].properties["version"].int_value == 1
    assert (serving / "1" / "model.tflite").is_file()
    assert run().states == dict.fromkeys(ALL, "CACHED")


def test_one_byte_of_an_input_file_runs_ingestion_again(
    first: SimpleNamespace, run: Any, place: Path
) -> None:
    only = ("ClientExampleGen",)
    assert run(only).states == {"ClientExampleGen": "CACHED"}
    path = place / "rows.csv"
    before, stat = path.read_bytes(), path.stat()
    path.write_bytes(before.replace(b"e1,eval,-", b"e1,eval,+", 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    changed = run(only)
    path.write_bytes(before)

    assert changed.states == {"ClientExampleGen": "COMPLETE"}
    fingerprints = {
        found.executions["ClientExampleGen"].custom_properties["input_fingerprint"].string_value
        for found in (first, changed)
    }
    assert len(fingerprints) == 2
    assert run(only).states == {"ClientExampleGen": "CACHED"}


def test_bad_data_stop_the_run_with_our_error_and_nothing_is_cached(
    first: SimpleNamespace, run: Any, place: Path
) -> None:
    path, only = place / "rows.csv", ("ClientExampleGen",)
    before = path.read_bytes()
    path.write_bytes(before.replace(b"t3,train", b"t3,trane", 1))
    try:
        for _ in range(2):
            with pytest.raises(DataError, match="row 10: column split must be one of train, eval"):
                run(only)
    finally:
        path.write_bytes(before)
