"""Every variant built and measured on the real in-process Beam runner."""

import gzip
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.compress import run, variants
from privet.components.compress.config import CompressConfig
from privet.components.compress.latency import BATCHES
from privet.components.compress.sources import Sources
from privet.components.compress.variant_config import VariantConfig
from privet.components.compress.variants import build_variant
from privet.components.shared import files, layout
from privet.components.shared.errors import DataError, ModelError, PrivacyError
from privet.components.shared.fake_quant import initial_ranges
from privet.components.shared.sparsity import share_of_zeros
from privet.components.shared.synthetic import synthetic_features
from privet.components.validate.config import InfraConfig
from privet.components.validate.infra import check_servable

VARIANTS: list[dict[str, Any]] = [
    {"quantization": "float16"},
    {"quantization": "int8_weights"},
    {"quantization": "int8", "ranges": "synthetic"},
    {"quantization": "int8", "ranges": "public", "name": "int8_public"},
    {"quantization": "int16", "ranges": "synthetic"},
    {"quantization": "dynamic_range"},
    {"sparsity": 0.5},
    {"clusters": 4},
    {"sparsity": 0.5, "clusters": 4, "quantization": "int8_weights"},
    {
        "name": "tuned",
        "sparsity": 0.5,
        "quantization": "int8",
        "fine_tuning": {"epochs": 1, "batch_size": 8},
    },
]
NAMES = [
    "float32",
    "float16",
    "int8_weights",
    "int8",
    "int8_public",
    "int16",
    "dynamic_range",
    "sparse50",
    "k4",
    "sparse50_k4_int8_weights",
    "tuned",
]
SERVABLE = sorted(set(NAMES) - {"int16", "dynamic_range"})


@pytest.fixture(scope="module")
def compress(
    kinds: Any,
    trained: Any,
    client: Any,
    write_store: Any,
    beam_options: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Compresses the convolutional model; returns the place with variants/ and report/."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    schema = kinds["convolutional"].schema
    features = synthetic_features(schema, 40, seed=5)
    labels = np.arange(40) % 3
    clients = [
        client(f"c{number}", labels[part], **{name: v[part] for name, v in features.items()})
        for number, part in enumerate(np.array_split(np.arange(40), 4))
    ]

    def build(
        variants: list[dict[str, Any]],
        *,
        private: bool = True,
        public: bool | str = True,
        ranges: dict[str, list[float]] | None = None,
    ) -> Path:
        place = tmp_path_factory.mktemp("compressed")
        stored = write_store(place / "store", schema, {"train": clients})
        if public is True:
            public = write_store(place / "public", schema, {"train": clients})
        model = trained("convolutional")
        if ranges is not None:
            model = shutil.copytree(model, str(place / "model"))
            files.write_json(files.join(model, layout.RANGES), ranges)
        files.write_json(str(place / "ledger" / "privacy_ledger.json"), {"private": private})
        run.compress(
            CompressConfig.from_mapping({"variants": variants}),
            model=model,
            ledger=str(place / "ledger"),
            examples=stored,
            public=stored if public == "clients" else public or None,
            seed=0,
            directory=str(place / "variants"),
            report=str(place / "report"),
            make_pipeline=lambda: beam.Pipeline(options=PipelineOptions(beam_options)),
        )
        return place

    return build


@pytest.fixture(scope="module")
def built(compress: Any) -> Path:
    return compress(VARIANTS)


@pytest.fixture(scope="module")
def entries(built: Path) -> dict[str, Any]:
    report = files.read_json(str(built / "report" / "compression_report.json"))
    return {entry["name"]: entry for entry in report["variants"]}


def kernels(folder: Path) -> list[np.ndarray]:
    """Kernels as the SavedModel holds them."""
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    values = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map()]
    return [value for value in values if getattr(value, "ndim", 0) >= 2]


def test_every_variant_is_measured_on_its_own_file(built: Path, entries: Any) -> None:
    assert list(entries) == NAMES
    for name, entry in entries.items():
        content = (built / "variants" / name / "model.tflite").read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["bytes_gzip"] == len(gzip.compress(content, 9))
        assert entry["ratio_gzip"] == round(
            entries["float32"]["bytes_gzip"] / entry["bytes_gzip"], 4
        )
        assert set(entry["latency_us"]) == {str(batch) for batch in BATCHES}
        assert all(value > 0 for value in entry["latency_us"].values())


def test_fewer_bits_give_smaller_files_and_larger_errors(entries: Any) -> None:
    for more, fewer in itertools.pairwise(("float32", "float16", "int8_weights")):
        assert entries[fewer]["bytes"] < entries[more]["bytes"]
        assert entries[fewer]["bytes_gzip"] < entries[more]["bytes_gzip"]
        assert entries[fewer]["max_weight_error"] > entries[more]["max_weight_error"]
    assert entries["float32"]["max_weight_error"] == 0
    assert entries["int8"]["max_weight_error"] is None


def test_zeros_and_clusters_are_in_the_files(built: Path, entries: Any) -> None:
    assert entries["float32"]["sparsity"] == 0
    assert entries["sparse50"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    for name in ("sparse50_k4_int8_weights", "tuned"):
        assert entries[name]["sparsity"] == pytest.approx(0.5, abs=0.01)
    clustered = kernels(built / "variants" / "k4")
    assert len(clustered) >= 3
    assert all(len(np.unique(kernel)) <= 4 for kernel in clustered)
    both = kernels(built / "variants" / "sparse50_k4_int8_weights")
    assert share_of_zeros(both) == pytest.approx(0.5, abs=0.01)


def test_report_tells_the_data_that_each_was_made_with(built: Path, entries: Any) -> None:
    used = {name: entry["data_used"] for name, entry in entries.items()}
    assert used == {
        **dict.fromkeys(NAMES, "none"),
        "int8": "synthetic",
        "int8_public": "public",
        "int16": "synthetic",
        "tuned": "public",
    }
    report = files.read_json(str(built / "report" / "compression_report.json"))
    assert report["data_used"] == "public"
    assert entries["tuned"]["does"] == {
        "sparsity": 0.5,
        "fine_tuning": {"data": "public", "epochs": 1, "batch_size": 8, "learning_rate": 1e-4},
        "quantization": "int8",
    }


def test_what_no_savedmodel_can_repeat_is_measured_only(built: Path, entries: Any) -> None:
    for name, entry in entries.items():
        written = {path.name for path in (built / "variants" / name).iterdir()}
        if name in SERVABLE:
            assert entry["not_servable_because"] is None
            assert {"saved_model.pb", "model.tflite", "variables", "assets.extra"} <= written
        else:
            assert "no SavedModel can repeat" in entry["not_servable_because"]
            assert written == {"model.tflite"}
            assert entry["saved_model"] is None


@pytest.mark.parametrize("name", ["int8_public", "tuned", "sparse50_k4_int8_weights"])
def test_a_real_server_answers_alike_in_both_forms(built: Path, kinds: Any, name: str) -> None:
    servable = str(built / "variants" / name)
    result = check_servable(servable, kinds["convolutional"].schema, InfraConfig(requests=4))
    assert result["blessed"], result


def test_int16_that_would_abort_the_process_is_an_error(schema_of: Any, tmp_path: Path) -> None:
    x = tf.keras.Input((8,), name="x")
    series = tf.keras.layers.Reshape((2, 4))(x)
    hidden = tf.keras.layers.Flatten()(tf.keras.layers.Dense(8, activation="relu")(series))
    model = tf.keras.Model(x, tf.keras.layers.Dense(3)(hidden))
    model.save(tmp_path / "model", include_optimizer=False, save_format="tf")
    config = VariantConfig(quantization="int16", ranges="synthetic")
    sources = Sources(str(tmp_path / "model"), schema_of({"x": 8}, 3))
    with pytest.raises(ModelError, match="cannot run the model with int16 activations"):
        build_variant(config, sources, str(tmp_path / "out"))


def test_data_of_private_clients_are_refused_by_the_component_too(compress: Any) -> None:
    for variant in (
        {"quantization": "int8", "ranges": "clients"},
        {"quantization": "int8", "fine_tuning": {"data": "clients"}},
    ):
        with pytest.raises(PrivacyError, match="after training, which no epsilon covers"):
            compress([variant])


def test_clients_without_privacy_may_calibrate(compress: Any) -> None:
    place = compress([{"quantization": "int8", "ranges": "clients"}], private=False)
    report = files.read_json(str(place / "report" / "compression_report.json"))
    assert report["data_used"] == "clients"


def test_public_data_that_are_not_connected_are_an_error(compress: Any) -> None:
    with pytest.raises(DataError, match="none are connected to the compressor"):
        compress([{"quantization": "int8", "ranges": "public"}], public=False)


def test_examples_of_private_clients_are_not_public_by_being_connected_as_such(
    compress: Any,
) -> None:
    with pytest.raises(PrivacyError, match="are the clients' own examples"):
        compress([{"quantization": "float16"}], public="clients")


def test_public_data_of_another_form_are_an_error(
    compress: Any, kinds: Any, write_store: Any, tmp_path: Path
) -> None:
    other = write_store(tmp_path / "other", kinds["binary"].schema, {})
    with pytest.raises(DataError, match="other values than the clients' in label, x:"):
        compress([{"quantization": "float16"}], public=other)


def test_ranges_that_clients_have_trained_are_read_as_training_writes_them(
    compress: Any, kinds: Any, trained: Any
) -> None:
    model = tf.keras.models.load_model(trained("convolutional"), compile=False)
    ranges = initial_ranges(model, kinds["convolutional"].schema, seed=0)
    place = compress([{"quantization": "int8", "ranges": "trained"}], ranges=ranges)
    report = files.read_json(str(place / "report" / "compression_report.json"))
    assert report["failed"] == []
    assert [entry["name"] for entry in report["variants"]] == ["float32", "int8"]
    assert report["variants"][1]["data_used"] == "none"


@pytest.mark.parametrize(
    ("part", "because"),
    [("clustered", "ValueError: not clustered"), ("_converted", "ValueError: Model provided")],
)
def test_a_variant_that_fails_in_whatever_way_costs_no_other(
    compress: Any, monkeypatch: pytest.MonkeyPatch, part: str, because: str
) -> None:
    real = getattr(variants, part)

    def instead(model: Any, config: Any, *rest: Any) -> Any:
        if part == "clustered":
            raise ValueError("not clustered")
        return b"what TFLite cannot run" if config.clusters else real(model, config, *rest)

    monkeypatch.setattr(variants, part, instead)
    place = compress([{"clusters": 4}, {"quantization": "float16"}])
    report = files.read_json(str(place / "report" / "compression_report.json"))
    assert [entry["name"] for entry in report["variants"]] == ["float32", "float16"]
    (failed,) = report["failed"]
    assert failed["name"] == "k4"
    assert because in failed["because"]
    assert not (place / "variants" / "k4").exists()
