"""What the component tests share: small real inputs, small real models, the real Beam runner."""

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from privet.components.shared import storage
from privet.components.shared.schema import Schema

# How long an example takes depends on what else the machine does.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BEAM_OPTIONS = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=none-in-process",
)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A CSV file whose columns are the keys of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_store(
    directory: Path,
    schema: Schema,
    splits: Mapping[str, Iterable[storage.ClientData]],
    *,
    shards: int = 2,
) -> str:
    """A client store as ingestion leaves it, without the statistics."""
    storage.write_schema(str(directory), schema)
    for split, clients in splits.items():
        by_shard: dict[int, list[Any]] = defaultdict(list)
        for client in clients:
            record = (client.client_id, len(client), storage.encode_client(client))
            by_shard[storage.shard_of(client.client_id, shards)].append(record)
        for shard in range(shards):
            folder = storage.split_directory(str(directory), split)
            with storage.ShardWriter(folder, shard, shards) as writer:
                for record in by_shard[shard]:
                    writer.write(*record)
    return str(directory)


def make_client(
    client_id: str, labels: Sequence[float], *, dtype: str = "int64", **features: Any
) -> storage.ClientData:
    """A client; features are float32 unless they are arrays already."""
    return storage.ClientData(
        client_id,
        {
            name: values if isinstance(values, np.ndarray) else np.array(values, np.float32)
            for name, values in features.items()
        },
        np.array(labels, dtype),
    )


def make_schema(features: Mapping[str, Any], classes: int | None, **label: Any) -> Schema:
    """A schema: feature name -> number of columns, or the whole FeatureConfig as a mapping."""
    return Schema.from_mapping(
        {
            "client_id": "client",
            "features": {
                name: {"columns": [f"{name}_{i}" for i in range(one)]}
                if isinstance(one, int)
                else one
                for name, one in features.items()
            },
            "label": {"column": "target", "classes": classes, **label},
        }
    )


@pytest.fixture(scope="session")
def beam_options() -> list[str]:
    return list(BEAM_OPTIONS)


@pytest.fixture(scope="session", name="write_csv")
def _write_csv() -> Callable[..., Path]:
    return write_csv


@pytest.fixture(scope="session", name="write_store")
def _write_store() -> Callable[..., str]:
    return write_store


@pytest.fixture(scope="session", name="client")
def _client() -> Callable[..., storage.ClientData]:
    return make_client


@pytest.fixture(scope="session", name="schema_of")
def _schema_of() -> Callable[..., Schema]:
    return make_schema


def convolutional() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((64,), name="x")
    value = layers.Reshape((8, 8, 1))(inputs)
    value = layers.Conv2D(8, 3, activation="relu", name="conv")(value)
    value = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(value)
    value = layers.Flatten()(value)
    value = layers.Dense(24, activation="relu", name="hidden")(value)
    return tf.keras.Model(inputs, layers.Dense(3, name="logits")(value))


def embedding() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    words = tf.keras.Input((4,), name="words", dtype=tf.int64)
    size = tf.keras.Input((2,), name="size")
    value = layers.Flatten()(layers.Embedding(50, 8, name="embedding")(words))
    value = layers.Dense(16, activation="relu")(layers.concatenate([value, size]))
    return tf.keras.Model([words, size], layers.Dense(3)(value))


def dense(units: int) -> Callable[[], Any]:
    def build() -> Any:
        import tensorflow as tf

        inputs = tf.keras.Input((6,), name="x")
        value = tf.keras.layers.Dense(32, activation="tanh")(inputs)
        return tf.keras.Model(inputs, tf.keras.layers.Dense(units)(value))

    return build


def image() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((28, 28), name="image", dtype="uint8")
    value = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 255)(inputs))
    value = layers.Conv2D(8, 3, strides=2, activation="relu")(value)
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(value)))


def text() -> Any:
    """Four words of a vocabulary of 5 (0 is padding, 6 an unknown word) and a number alone."""
    import tensorflow as tf

    layers = tf.keras.layers
    words = tf.keras.Input((4,), name="words", dtype="int64")
    age = tf.keras.Input((), name="age", dtype="uint8")
    value = layers.Flatten()(layers.Embedding(7, 16)(words))
    scaled = layers.Reshape((1,))(layers.Rescaling(1 / 100)(age))
    return tf.keras.Model([words, age], layers.Dense(3)(layers.concatenate([value, scaled])))


@pytest.fixture(scope="session")
def kinds(schema_of: Any) -> dict[str, SimpleNamespace]:
    """name -> how to build a model, and its schema."""
    words = {"columns": "word_{0..3}", "dtype": "int64", "minimum": 0, "maximum": 49}
    pixels = {"columns": "image", "dtype": "uint8", "shape": [28, 28], "encoding": "image"}
    texts = {
        "columns": "text",
        "dtype": "int64",
        "shape": [4],
        "vocabulary": ["a", "b", "c", "d", "e"],
        "tokens": "words",
        "unknown": "index",
    }
    age = {"columns": "age", "dtype": "uint8", "shape": [], "maximum": 99}
    return {
        name: SimpleNamespace(build=build, schema=schema)
        for name, build, schema in [
            ("convolutional", convolutional, schema_of({"x": 64}, 3, names=["cat", "dog", "cow"])),
            ("embedding", embedding, schema_of({"words": words, "size": 2}, 3)),
            ("binary", dense(1), schema_of({"x": 6}, 2, names=["no", "yes"])),
            ("other_binary", dense(1), schema_of({"x": 6}, 2, names=["no", "yes"])),
            ("regression", dense(1), schema_of({"x": 6}, None)),
            ("image", image, schema_of({"image": pixels}, 3)),
            ("text", text, schema_of({"words": texts, "age": age}, 3)),
        ]
    }


@pytest.fixture(scope="session")
def trained(
    kinds: dict[str, SimpleNamespace], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Folder of a saved model of a kind, with seeded weights and biases that are not zero."""
    folders: dict[str, str] = {}

    def save(kind: str) -> str:
        import tensorflow as tf

        if kind not in folders:
            seed = list(kinds).index(kind)
            tf.keras.utils.set_random_seed(seed)
            model = kinds[kind].build()
            generator = np.random.default_rng(seed)
            for variable in model.trainable_variables:
                noise = generator.normal(size=variable.shape, scale=0.1)
                variable.assign_add(noise.astype(np.float32))
            folders[kind] = str(tmp_path_factory.mktemp("trained") / kind)
            model.save(folders[kind], include_optimizer=False, save_format="tf")
        return folders[kind]

    return save


def export_keras(model: str, schema: Schema, scheme: Any, folder: Path) -> Path:
    """Exports a saved Keras model into a version directory."""
    import tensorflow as tf

    from privet.components.compress.convert import convert_float
    from privet.components.compress.export import KerasPredictor, export_servable
    from privet.components.compress.quantize import rounded

    small = rounded(tf.keras.models.load_model(model, compile=False), scheme)
    tflite = convert_float(small, schema, scheme)
    export_servable(KerasPredictor(small, schema), tflite, schema, str(folder))
    return folder


@pytest.fixture(scope="session", name="export_keras")
def _export_keras() -> Callable[..., Path]:
    return export_keras


@pytest.fixture(scope="session")
def servable(
    kinds: dict[str, SimpleNamespace],
    trained: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Any], Path]:
    """Version directory of a kind under a scheme."""
    folders: dict[tuple[str, str], Path] = {}

    def export(kind: str, scheme: Any) -> Path:
        if (kind, scheme) not in folders:
            folder = tmp_path_factory.mktemp("servable") / f"{kind}-{scheme}"
            folders[kind, scheme] = export_keras(trained(kind), kinds[kind].schema, scheme, folder)
        return folders[kind, scheme]

    return export
