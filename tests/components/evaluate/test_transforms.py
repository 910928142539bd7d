"""Evaluation end to end: a real store and real models on the in-process Beam runner."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from privet.components.compress.export import export_servable
from privet.components.evaluate.transforms import Models, evaluate
from privet.components.shared import files


def saved(folder: Path, schema: Any, slope: float) -> str:
    """y = slope * x, as training and compression leave it."""
    inputs = tf.keras.Input((1,), name="x")
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, use_bias=False)(inputs))
    model.set_weights([np.array([[slope]], np.float32)])
    model.save(folder / "trained", include_optimizer=False, save_format="tf")
    export_servable(model, schema, "float32", str(folder / "servable"))
    return str(folder)


@pytest.fixture(scope="module")
def output(
    write_store: Any,
    schema_of: Any,
    client: Any,
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
    right, wrong = saved(place / "2", schema, 2.0), saved(place / "3", schema, 3.0)
    models = Models(
        f"{right}/trained", {"compressed": f"{right}/servable", "blessed": f"{wrong}/servable"}
    )
    with beam.Pipeline(options=PipelineOptions(beam_options)) as pipeline:
        evaluate(pipeline, examples, "eval", models, str(place / "evaluation"))
    return str(place / "evaluation")


def test_figures_by_hand(output: str) -> None:
    written = files.read_json(f"{output}/evaluation.json")
    models = written["models"]

    assert (written["task"], written["clients"], written["examples"]) == ("regression", 2, 4)
    assert set(models) == {"float", "compressed", "blessed"}
    for name in ("float", "compressed"):
        assert models[name]["overall"] == pytest.approx({"mae": 0.5, "loss": 1.0}, abs=1e-5)
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
        for metric in ("mae", "loss")
    }
