"""Evaluation end to end: a real store and real models on the in-process Beam runner."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from privet.components.evaluate.config import EvaluateConfig, PersonalizationConfig
from privet.components.evaluate.job import Job
from privet.components.evaluate.personalization import divide
from privet.components.evaluate.run import evaluate_to
from privet.components.evaluate.transforms import evaluate
from privet.components.shared import files
from privet.components.shared.errors import ConfigError


def saved(folder: Path, slope: float) -> str:
    """Folder of y = slope * x, as training leaves it."""
    inputs = tf.keras.Input((1,), name="x")
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, use_bias=False)(inputs))
    model.set_weights([np.array([[slope]], np.float32)])
    model.save(folder, include_optimizer=False, save_format="tf")
    return str(folder)


@pytest.fixture(scope="module")
def output(
    write_store: Any,
    schema_of: Any,
    client: Any,
    export_keras: Any,
    beam_options: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Three models of y = 2 x on ann (3 examples, all right) and bob (1 example, 2 off)."""
    place, schema = tmp_path_factory.mktemp("evaluate"), schema_of({"x": 1}, None)
    clients = [
        client("ann", [2, 4, 6], dtype="float32", x=[[1], [2], [3]]),
        client("bob", [6], dtype="float32", x=[[4]]),
    ]
    examples = write_store(place / "examples", schema, {"eval": clients, "train": []}, shards=3)
    right, wrong = saved(place / "right", 2.0), saved(place / "wrong", 3.0)
    servables = {
        name: str(export_keras(trained, schema, "float32", place / name))
        for name, trained in (("compressed", right), ("blessed", wrong))
    }
    job = Job(examples, "eval", right, servables)
    with beam.Pipeline(options=PipelineOptions(beam_options)) as pipeline:
        evaluate(pipeline, job, str(place / "evaluation"))
    return str(place / "evaluation")


@pytest.fixture(scope="module")
def personalize(
    write_store: Any,
    schema_of: Any,
    client: Any,
    beam_options: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Runs y = 2 x with personalization; gives evaluation.json and the rows of per_client/."""
    models = tmp_path_factory.mktemp("models")
    trained = saved(models / "trained", 2.0)

    def run(splits: Any, config: PersonalizationConfig) -> tuple[Any, dict[str, Any]]:
        place = tmp_path_factory.mktemp("personalize")
        clients = {
            split: [client(name, y, dtype="float32", x=x) for name, (x, y) in members.items()]
            for split, members in splits.items()
        }
        examples = write_store(place / "examples", schema_of({"x": 1}, None), clients, shards=3)
        output = str(place / "evaluation")
        settings = EvaluateConfig(personalization=config, bootstrap=50)
        with beam.Pipeline(options=PipelineOptions(beam_options)) as pipeline:
            evaluate(pipeline, Job(examples, "eval", trained, {}, settings, 5), output)
        rows = pyarrow.parquet.read_table(f"{output}/per_client").to_pylist()
        return files.read_json(f"{output}/evaluation.json"), {
            row.pop("client_id"): row for row in rows
        }

    return run


ANN = ([[1], [1], [1], [1]], [4, 4, 4, 4])
"""One step from y = 2 x at (1, 4) with a learning rate of 0.25: the gradient -4 makes it 3 x."""


def test_clients_before_and_after_by_hand(personalize: Any) -> None:
    eval_clients = {"ann": ANN, "bob": ([[4]], [6]), "eve": ([[1], [1]], [2, 2])}
    config = PersonalizationConfig(learning_rate=0.25, share=0.5)
    written, rows = personalize({"eval": eval_clients}, config)
    found = written["personalization"]

    assert found["settings"]["share"] == 0.5
    assert (found["clients"], found["too_few_examples"], found["diverged"]) == (2, 1, 0)
    assert (found["examples"], found["adaptation_examples"]) == (3, 3)
    # Errors of ann fall from 2 to 1 on two examples; eve, of one example, is right and stays so.
    before, after = (found["models"][name] for name in ("baseline", "personalized"))
    assert before["overall"] == pytest.approx({"mae": 4 / 3, "loss": 8 / 3, "rmse": (8 / 3) ** 0.5})
    assert after["overall"] == pytest.approx({"mae": 2 / 3, "loss": 2 / 3, "rmse": (2 / 3) ** 0.5})
    assert after["clients"]["mae"]["mean"] == pytest.approx(0.5)
    gain = found["gain"]
    gained = {name: gain["overall"][name] for name in ("mae", "loss")}
    assert gained == pytest.approx({"mae": 2 / 3, "loss": 2.0})
    assert gain["clients"]["mae"]["mean"] == pytest.approx(0.5)
    assert (gain["clients"]["mae"]["improved"], gain["clients"]["mae"]["worsened"]) == (0.5, 0.0)
    # The other models are measured as ever: on all examples of all clients.
    assert written["models"]["float"]["overall"]["mae"] == pytest.approx((4 * 2 + 2) / 7)

    ann = {name: rows["ann"][name] for name in ("adaptation_examples", "measured_examples")}
    assert ann == {"adaptation_examples": 2, "measured_examples": 2}
    assert rows["ann"]["baseline.mae"] == pytest.approx(2.0)
    assert rows["ann"]["personalized.loss"] == pytest.approx(1.0)
    assert (rows["ann"]["diverged"], rows["bob"]["diverged"]) == (False, None)
    assert rows["bob"]["personalized.mae"] is None
    assert rows["bob"]["float.mae"] == pytest.approx(2.0)


def test_the_example_that_a_client_adapts_to_is_not_measured(personalize: Any, client: Any) -> None:
    ann = ([[1], [1], [1], [1]], [4, 6, 8, 10])
    config = PersonalizationConfig(learning_rate=0.25, share=0.3)
    _, rows = personalize({"eval": {"ann": ann}}, config)
    parts = divide(client("ann", ann[1], x=ann[0]), 0.3, 5)

    assert parts is not None
    (adapting,), measured = (part.labels.tolist() for part in parts)
    slope = 2 + 0.25 * 2 * (adapting - 2)
    assert rows["ann"]["baseline.mae"] == pytest.approx(np.mean([y - 2 for y in measured]))
    errors = [abs(y - slope) for y in measured]
    assert rows["ann"]["personalized.mae"] == pytest.approx(np.mean(errors))


def test_examples_that_ingestion_set_apart_adapt_and_all_others_measure(personalize: Any) -> None:
    splits = {
        "eval": {"ann": ([[1], [1]], [4, 8]), "bob": ([[1], [2]], [3, 4])},
        "eval_adapt": {"ann": ([[1]], [4])},
    }
    written, rows = personalize(splits, PersonalizationConfig(learning_rate=0.25))
    found = written["personalization"]

    assert (found["clients"], found["too_few_examples"]) == (1, 1)  # bob has none set apart
    assert (found["examples"], found["adaptation_examples"]) == (2, 1)
    assert rows["ann"]["baseline.mae"] == rows["ann"]["float.mae"] == pytest.approx(4.0)
    assert rows["ann"]["personalized.mae"] == pytest.approx(3.0)


def test_a_share_of_the_settings_goes_before_what_ingestion_set_apart(personalize: Any) -> None:
    splits = {"eval": {"ann": ANN}, "eval_adapt": {"ann": ([[1]], [-100])}}
    config = PersonalizationConfig(learning_rate=0.25, share=0.5)
    _, rows = personalize(splits, config)

    assert rows["ann"]["measured_examples"] == 2
    assert rows["ann"]["personalized.mae"] == pytest.approx(1.0)


def test_client_that_diverges_keeps_the_global_model_and_is_counted(personalize: Any) -> None:
    config = PersonalizationConfig(learning_rate=1e30, epochs=9, share=0.5)
    written, rows = personalize({"eval": {"ann": ANN}}, config)

    assert written["personalization"]["diverged"] == 1
    assert rows["ann"]["diverged"] is True
    assert rows["ann"]["personalized.mae"] == rows["ann"]["baseline.mae"] == pytest.approx(2.0)


def test_split_in_which_nobody_can_be_personalized_is_evaluated(personalize: Any) -> None:
    written, _ = personalize({"eval": {"bob": ([[4]], [6])}}, PersonalizationConfig())
    found = written["personalization"]

    assert (found["clients"], found["too_few_examples"], found["gain"]) == (0, 1, None)
    assert written["clients"] == 1


def test_without_personalization_its_part_is_empty_and_has_no_columns(output: str) -> None:
    assert files.read_json(f"{output}/evaluation.json")["personalization"] is None
    names = pyarrow.parquet.read_table(f"{output}/per_client").column_names
    assert not {"diverged", "personalized.mae", "adaptation_examples"} & set(names)


def test_figures_by_hand(output: str) -> None:
    written = files.read_json(f"{output}/evaluation.json")
    models = written["models"]

    assert (written["task"], written["clients"], written["examples"]) == ("regression", 2, 4)
    assert set(models) == {"float", "compressed", "blessed"}
    for name in ("float", "compressed"):
        assert models[name]["overall"] == pytest.approx(
            {"mae": 0.5, "loss": 1.0, "rmse": 1.0}, abs=1e-5
        )
        assert models[name]["clients"]["mae"]["mean"] == pytest.approx(1.0, abs=1e-5)
        assert models[name]["clients"]["mae"]["worst"] == pytest.approx(2.0, abs=1e-5)
    # Errors of 3 x: 1, 2, 3 for ann and 6 for bob.
    assert models["blessed"]["overall"]["mae"] == pytest.approx(3.0, abs=1e-5)
    assert models["blessed"]["overall"]["loss"] == pytest.approx((1 + 4 + 9 + 36) / 4, abs=1e-4)
    assert models["blessed"]["clients"]["mae"]["mean"] == pytest.approx(4.0, abs=1e-5)


def test_rows_of_clients_are_beside_it(output: str) -> None:
    table = pyarrow.parquet.read_table(f"{output}/per_client").to_pylist()
    rows = {row.pop("client_id"): row for row in table}

    assert rows.keys() == {"ann", "bob"}
    assert (rows["ann"]["examples"], rows["bob"]["examples"]) == (3, 1)
    assert rows["bob"]["float.mae"] == pytest.approx(2.0, abs=1e-5)
    assert rows["bob"]["blessed.loss"] == pytest.approx(36.0, abs=1e-4)
    assert set(rows["ann"]) == {"examples"} | {
        f"{model}.{metric}"
        for model in ("float", "compressed", "blessed")
        for metric in ("mae", "loss", "rmse")
    }


OWN = """
def off_by_more_than_one(labels, scores):
    return abs(scores[:, 0] - labels) > 1
"""


def test_slices_own_metrics_and_release_end_to_end(
    write_store: Any, schema_of: Any, client: Any, beam_options: list[str], tmp_path: Path
) -> None:
    tmp_path.joinpath("own.py").write_text(OWN, encoding="utf-8")
    tmp_path.joinpath("regions.csv").write_text("client,region\nann,north\n", encoding="utf-8")
    own = {"module_file": str(tmp_path / "own.py"), "function": "off_by_more_than_one"}
    region = {"by": "attribute", "file": str(tmp_path / "regions.csv"), "column": "region"}
    config = EvaluateConfig.from_mapping(
        {
            "bootstrap": 50,
            "metrics": [{"name": "far_off", "higher_is_better": False, **own}],
            "slices": [
                {"name": "size", "by": "examples", "edges": [2]},
                {"name": "x", "by": "feature", "feature": "x", "edges": [2.5]},
                {"name": "region", **region},
            ],
            "release": {"epsilon": 5, "delta": 1e-6, "bounds": [0, 4]},
        }
    )
    clients = [
        client("ann", [2, 4, 6], dtype="float32", x=[[1], [2], [3]]),
        client("bob", [6], dtype="float32", x=[[4]]),
    ]
    schema = schema_of({"x": 1}, None)
    examples = write_store(tmp_path / "examples", schema, {"eval": clients}, shards=3)
    files.write_json(f"{examples}/statistics.json", {"private": False})
    output = str(tmp_path / "evaluation")
    job = Job(examples, "eval", saved(tmp_path / "model", 2.0), {}, config)
    evaluate_to(job, output, lambda: beam.Pipeline(options=PipelineOptions(beam_options)))

    written = files.read_json(f"{output}/evaluation.json")
    model = written["models"]["float"]
    assert written["metrics"]["far_off"] == {"higher_is_better": False}
    assert model["overall"]["far_off"] == 0.25
    slices = {
        name: {part: (one["clients"], one["examples"]) for part, one in parts.items()}
        for name, parts in model["slices"].items()
    }
    assert slices == {
        "size": {"below 2": (1, 1), "2 and above": (1, 3)},
        "x": {"below 2.5": (1, 2), "2.5 and above": (2, 2)},
        "region": {"north": (1, 3), "unknown": (1, 1)},
    }
    assert model["slices"]["x"]["2.5 and above"]["overall"]["mae"] == pytest.approx(1.0)
    assert written["release"] == files.read_json(f"{output}/release.json")
    assert written["release"]["bounds"] == [0, 4]
    assert not Path(output, "release_sums.json").exists()
    rows = pyarrow.parquet.read_table(f"{output}/per_client").to_pylist()
    assert {row["client_id"]: row["float.far_off"] for row in rows} == {"ann": 0.0, "bob": 1.0}


def test_settings_that_do_not_fit_stop_before_anything_is_loaded(
    write_store: Any, schema_of: Any, client: Any, tmp_path: Path
) -> None:
    one = client("ann", [2], dtype="float32", x=[[1]])
    examples = write_store(tmp_path / "examples", schema_of({"x": 1}, None), {"eval": [one]})
    config = EvaluateConfig.from_mapping({"release": {"epsilon": 1, "delta": 1e-6}})
    with pytest.raises(ConfigError, match="mae has no bounds of its own"):
        evaluate_to(Job(examples, "eval", "nowhere", {}, config), "nowhere", lambda: None)
