"""One variant, from the trained model to its version directory and its measurements.

    prune -> cluster -> fine-tune -> quantize -> TFLite, and a SavedModel of the same

What both serving engines answer with is made once: weights are rounded before either file is
written, and where TFLite rounds activations too, the SavedModel is written from the TFLite file.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf

from privet.components.compress import latency
from privet.components.compress.clustering import clustered
from privet.components.compress.convert import (
    convert_fake_quantized,
    convert_float,
    convert_integer,
)
from privet.components.compress.export import KerasPredictor, export_servable
from privet.components.compress.integer_model import IntegerModel, agreement
from privet.components.compress.quantization_aware import fine_tuned
from privet.components.compress.quantize import rounded
from privet.components.compress.sizes import directory_sizes, file_sizes
from privet.components.compress.sources import Examples, Sources, read_examples
from privet.components.compress.variant_config import MEASURED_ONLY, NEEDS_RANGES, VariantConfig
from privet.components.shared import files, layout, signatures
from privet.components.shared.errors import DataError, ModelError
from privet.components.shared.fake_quant import with_fake_quant
from privet.components.shared.keras_models import with_weights
from privet.components.shared.sparsity import (
    is_prunable,
    magnitude_masks,
    masked,
    share_of_zeros,
)
from privet.components.shared.synthetic import synthetic_features

CALIBRATION_EXAMPLES = 256
"""Examples that ranges of activations are measured on."""

FINE_TUNING_EXAMPLES = 50_000
"""Public examples that fine-tuning takes at most: they are held in memory."""

TOLERANCE = 1e-5
"""By how much answers of the two engines may differ: what InfraValidator allows by default."""


def build_variant(config: VariantConfig, sources: Sources, directory: str) -> dict[str, Any]:
    """Builds a variant.

    Args:
      config: what is done to the trained model.
      sources: what it is made of.
      directory: is created; gets a version directory, or model.tflite alone where no SavedModel can
        answer alike.

    Returns:
      Its entry in compression_report.json, but for what is measured beside other variants.

    Raises:
      ModelError: the model cannot be made small in this way.
    """
    trained = tf.keras.models.load_model(sources.model, compile=False)
    model = _pruned(trained, config)
    if config.clusters is not None:
        model = clustered(model, config.clusters)
    model = rounded(model, config.quantization)
    tflite = _converted(model, config, sources)
    if config.quantization == "int16":
        _check_in_own_process(tflite)
    # TFLite converts to operators for which it then has no kernel: better told here than later.
    latency.prepared(tflite, synthetic_features(sources.schema, 1, sources.seed))()
    predict, problem = _predictor(model, tflite, config, sources)
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    if predict is None:
        path.joinpath(signatures.TFLITE_FILE).write_bytes(tflite)
    else:
        export_servable(predict, tflite, sources.schema, directory)
    return {
        "name": config.label,
        "does": _what_it_does(config),
        "data_used": _data_used(config),
        "not_servable_because": problem,
        **file_sizes(tflite),
        "saved_model": predict and directory_sizes(directory, without=(signatures.TFLITE_FILE,)),
        "sparsity": round(share_of_zeros([v.numpy() for v in model.trainable_variables]), 6),
        "max_weight_error": _largest_change(trained, model)
        if config.quantization not in (*MEASURED_ONLY, *NEEDS_RANGES)
        else None,
    }


def _what_it_does(config: VariantConfig) -> dict[str, Any]:
    """The settings that differ from doing nothing."""
    nothing = VariantConfig()
    values = msgspec.to_builtins(config)
    return {
        key: value
        for key, value in values.items()
        if key != "name" and value != msgspec.to_builtins(nothing)[key]
    }


def _pruned(model: tf.keras.Model, config: VariantConfig) -> tf.keras.Model:
    if not config.sparsity:
        return model
    weights = [variable.numpy() for variable in model.trainable_variables]
    masks = magnitude_masks(
        weights,
        config.sparsity,
        scope=config.scope,
        pattern=config.pattern,
        block=config.block,
    )
    return with_weights(model, masked(weights, masks))


def _converted(model: tf.keras.Model, config: VariantConfig, sources: Sources) -> bytes:
    schema = sources.schema
    if config.fine_tuning is not None:
        examples = _examples(config.fine_tuning.data, sources, FINE_TUNING_EXAMPLES)
        aware = fine_tuned(
            model,
            examples.features,
            examples.labels,
            schema,
            config.fine_tuning,
            sparse=any(not weight.all() for weight in _kernels(model)),
            clustered=config.clusters is not None,
            seed=sources.seed,
        )
        return convert_fake_quantized(aware, schema)
    if config.ranges == "trained":
        return convert_fake_quantized(with_fake_quant(model, _trained_ranges(sources)), schema)
    quantization = config.quantization
    if quantization == "int8" or quantization == "int16":
        return convert_integer(model, schema, quantization, _calibration(config, sources))
    return convert_float(model, schema, quantization)


def _calibration(config: VariantConfig, sources: Sources) -> Mapping[str, np.ndarray]:
    if config.ranges == "synthetic":
        return synthetic_features(sources.schema, CALIBRATION_EXAMPLES, sources.seed)
    assert config.ranges is not None
    return _examples(config.ranges, sources, CALIBRATION_EXAMPLES).features


def _examples(whose: str, sources: Sources, limit: int) -> Examples:
    if whose == "clients":
        assert sources.clients is not None  # run.compress has refused it otherwise
        return read_examples(sources.clients, limit, ["train"])
    if sources.public is None:
        raise DataError(
            "a variant is made with public data, but none are connected to the compressor. Give "
            "public_data, or set ranges: synthetic."
        )
    return read_examples(sources.public, limit)


def _trained_ranges(sources: Sources) -> Mapping[str, tuple[float, float]]:
    path = files.join(sources.model, layout.RANGES)
    if not files.exists(path):
        raise ModelError(
            "a variant has ranges=trained, but the model was trained without them. Set "
            "train.quantization_aware, or ranges: synthetic or public."
        )
    return files.read_json(path)


def _predictor(
    model: tf.keras.Model, tflite: bytes, config: VariantConfig, sources: Sources
) -> tuple[Any, str | None]:
    """What the SavedModel is written from; or nothing, and why."""
    if config.quantization in MEASURED_ONLY:
        return None, "TFLite rounds activations in a way that no SavedModel can repeat"
    if config.quantization not in NEEDS_RANGES:
        return KerasPredictor(model, sources.schema), None
    try:
        predict = IntegerModel(tflite)
    except ModelError as error:
        return None, str(error)
    features = synthetic_features(sources.schema, CALIBRATION_EXAMPLES, sources.seed + 1)
    difference = agreement(predict, tflite, features)
    if not difference <= TOLERANCE:
        return None, (
            f"the SavedModel's answers differ from TFLite's by {difference:.3g}, {TOLERANCE:g} is "
            "allowed"
        )
    return predict, None


_TRIAL = """
import sys
import numpy as np
from tensorflow import lite
interpreter = lite.Interpreter(model_path=sys.argv[1], num_threads=1)
for examples in (1, 2):
    for entry in interpreter.get_input_details():
        interpreter.resize_tensor_input(entry["index"], (examples, *entry["shape"][1:]))
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    interpreter.invoke()
"""


def _check_in_own_process(tflite: bytes) -> None:
    """Runs a file where it can do no harm.

    The int16 kernels of TensorFlow 2.14 abort the process on operators that they cannot run, such
    as a Dense layer on sequences: the whole run would end without a word.

    Raises:
      ModelError: the process ended in an error.
    """
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(tflite)
        file.flush()
        ran = subprocess.run([sys.executable, "-c", _TRIAL, file.name], capture_output=True)
    if ran.returncode:
        raise ModelError(
            "TFLite cannot run the model with int16 activations: a trial ended with exit code "
            f"{ran.returncode}. Leave the variant out, or set quantization: int8."
        )


def _data_used(config: VariantConfig) -> str:
    """What the variant was made with beside the trained weights."""
    if config.fine_tuning is not None:
        return config.fine_tuning.data
    return config.ranges if config.ranges in ("public", "synthetic", "clients") else "none"


def _kernels(model: tf.keras.Model) -> list[np.ndarray]:
    weights = [variable.numpy() for variable in model.trainable_variables]
    return [weight for weight in weights if is_prunable(weight.shape)]


def _largest_change(trained: tf.keras.Model, model: tf.keras.Model) -> float:
    pairs = zip(trained.trainable_variables, model.trainable_variables, strict=True)
    return max(float(np.abs(a.numpy() - b.numpy()).max()) for a, b in pairs)
