"""The Beam pipeline of compression: every scheme is built and measured, independently."""

import tempfile
from typing import Any

import apache_beam as beam
import numpy as np

from privet.components.compress.config import SCHEMES, Scheme
from privet.components.compress.sizes import directory_sizes, file_sizes
from privet.components.shared import files
from privet.components.shared.schema import Schema


def build_variants(pipeline: beam.Pipeline, model: str, schema: Schema, output: str) -> None:
    """Adds the building of all variants to a pipeline.

    Args:
      pipeline: the Beam pipeline.
      model: folder of the FederatedModel.
      schema: of one example.
      output: folder that gets variants/<scheme>.tflite and variants/<scheme>.json.
    """
    _ = (
        pipeline
        | "Schemes" >> beam.Create(list(SCHEMES))
        | "SpreadSchemes" >> beam.Reshuffle()
        | "BuildVariant" >> beam.Map(_build_variant, model, schema.to_json(), output)
    )


def variant_path(output: str, scheme: str, ending: str) -> str:
    """Where a variant's model (`tflite`) or measurements (`json`) are."""
    return files.join(output, "variants", f"{scheme}.{ending}")


def _build_variant(scheme: Scheme, model: str, schema: str, output: str) -> None:
    from privet.components.compress import export  # imports TensorFlow, in the worker

    original = export.load_model(model, "float32")
    rounded = export.load_model(model, scheme)
    with tempfile.TemporaryDirectory() as directory:
        example = Schema.from_json(schema)
        predict = export.KerasPredictor(rounded, example)
        export.export_saved_model(predict, example, directory)
        tflite = export.convert_tflite(directory, scheme)
        saved_model = directory_sizes(directory)
    measured: dict[str, Any] = {
        "name": scheme,
        **file_sizes(tflite),
        "max_weight_error": max(
            float(np.abs(a.numpy() - b.numpy()).max())
            for a, b in zip(original.trainable_variables, rounded.trainable_variables, strict=True)
        ),
        "saved_model": saved_model,
    }
    files.write_bytes(variant_path(output, scheme, "tflite"), tflite)
    files.write_json(variant_path(output, scheme, "json"), measured)
