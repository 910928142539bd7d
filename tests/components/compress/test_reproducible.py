"""The same model, exported in two processes, byte by byte."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.compress.export import KerasPredictor
from privet.components.compress.quantize import rounded
from privet.components.validate.infra import sample_inputs
from privet.serving.engine_saved_model import SavedModelEngine

WORDS = {"columns": "word_{0..3}", "dtype": "int64", "minimum": 0, "maximum": 49}

EXPORT = '''
import json, sys
from pathlib import Path
import tensorflow as tf
from privet.components.compress import export
from privet.components.compress.convert import convert_float
from privet.components.compress.quantize import rounded
from privet.components.shared.keras_models import input_specs
from privet.components.shared.schema import Schema

class Constants(tf.Module):
    """Integers as constants, outside of any graph."""
    def __init__(self):
        super().__init__()
        self.kernel = tf.constant([[i % 7 - 3, i % 5] for i in range(64)], tf.int8)

    def __call__(self, features):
        return tf.nn.softmax(features["x"] @ (0.1 * tf.cast(self.kernel, tf.float32)))

jobs, output, busy = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "busy"
if busy:  # other models first, and these in another order
    tf.keras.models.load_model(jobs["text"][0]).save(output.parent / "other")
    jobs = dict(reversed(jobs.items()))
for name, (model, schema) in jobs.items():
    schema, scheme = Schema.from_json(schema), "int8_weights"
    if name == "constants":
        export.export_servable(Constants(), b"", schema, str(output / name))
        continue
    model = rounded(tf.keras.models.load_model(model, compile=False), scheme)
    predict = export.KerasPredictor(model, schema)
    if busy:  # traced before, by somebody else
        predict({key: tf.zeros(spec.shape[1:], spec.dtype)[None] for key, spec in
                 input_specs(schema).items()})
    # (The converter knows no recurrent layer with any number of examples.)
    tflite = b"" if name == "recurrent" else convert_float(model, schema, scheme)
    export.export_servable(predict, tflite, schema, str(output / name))
'''


def recurrent() -> tf.keras.Model:
    """A model of words as phones have them, whose layers have random ids and inner functions."""
    layers = tf.keras.layers
    words = tf.keras.Input((4,), name="words", dtype="int64")
    value = layers.LSTM(4)(layers.Embedding(50, 8)(words))
    value = layers.BatchNormalization()(value - tf.reduce_mean(value, axis=-1, keepdims=True))
    return tf.keras.Model(words, layers.Dense(3)(value))


@pytest.fixture(scope="module")
def twice(
    kinds: Any, trained: Any, schema_of: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The same models exported by two processes, of which one has done much else before."""
    place = tmp_path_factory.mktemp("twice")
    tf.keras.utils.set_random_seed(7)
    recurrent().save(place / "recurrent", include_optimizer=False, save_format="tf")
    jobs = {kind: (trained(kind), kinds[kind].schema) for kind in ("convolutional", "text")}
    jobs["recurrent"] = (str(place / "recurrent"), schema_of({"words": WORDS}, 3))
    jobs["constants"] = ("", schema_of({"x": 64}, 2))
    arguments = json.dumps(
        {name: (model, schema.to_json()) for name, (model, schema) in jobs.items()}
    )
    outputs = place / "a" / "quiet", place / "b" / "busy"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, arguments, str(output), output.name],
            env=os.environ | {"PYTHONHASHSEED": seed, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for output, seed in zip(outputs, ("1", "2"), strict=True)
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
    return outputs


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["convolutional", "text", "recurrent", "constants"])
def test_two_processes_write_the_same_bytes(twice: tuple[Path, Path], name: str) -> None:
    one, other = (digests(output / name) for output in twice)

    assert one == other
    assert len(one) == 5


@pytest.mark.parametrize("name", ["convolutional", "text", "recurrent"])
def test_rewritten_model_answers_in_both_loaders(
    twice: tuple[Path, Path], kinds: Any, trained: Any, schema_of: Any, name: str
) -> None:
    folder = twice[0] / name
    trained_model = twice[0].parents[1] / name if name == "recurrent" else trained(name)
    schema = schema_of({"words": WORDS}, 3) if name == "recurrent" else kinds[name].schema
    inputs = sample_inputs(schema, 4)
    loaded = tf.keras.models.load_model(str(trained_model), compile=False)
    predict = KerasPredictor(rounded(loaded, "int8_weights"), schema)
    wanted = predict({key: tf.constant(value) for key, value in inputs.items()})

    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    answer = loaded(**{key: tf.constant(value) for key, value in inputs.items()})["scores"]
    np.testing.assert_allclose(answer, wanted, atol=1e-6)
    engine = SavedModelEngine(folder)
    served = engine.run("serving_default", inputs)["scores"]
    engine.close()
    np.testing.assert_allclose(served, wanted, atol=1e-6)


def test_constants_are_saved_as_they_are(twice: tuple[Path, Path]) -> None:
    """x = (1, 1, 1, 0, ...) times 0.1 * [[-3, 0], [-2, 1], [-1, 2], ...] is (-0.6, 0.3)."""
    x = np.zeros((1, 64), np.float32)
    x[0, :3] = 1
    wanted = tf.nn.softmax([[-0.6, 0.3]])
    engine = SavedModelEngine(twice[0] / "constants")
    served = engine.run("serving_default", {"x": x})["scores"]
    engine.close()
    loaded = tf.saved_model.load(str(twice[0] / "constants")).signatures["serving_default"]

    np.testing.assert_allclose(served, wanted, atol=1e-6)
    np.testing.assert_allclose(loaded(x=tf.constant(x))["scores"], wanted, atol=1e-6)
