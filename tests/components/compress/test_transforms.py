"""Every variant built and measured on the real in-process Beam runner."""

import gzip
import itertools
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from privet.components.compress.config import SCHEMES
from privet.components.compress.transforms import build_variants, variant_path
from privet.components.shared import files


@pytest.fixture(scope="module")
def output(
    trained: Any,
    kinds: Any,
    beam_options: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    folder = str(tmp_path_factory.mktemp("variants"))
    with beam.Pipeline(options=PipelineOptions(beam_options)) as pipeline:
        build_variants(pipeline, trained("convolutional"), kinds["convolutional"].schema, folder)
    return folder


def test_every_scheme_is_measured_on_its_own_file(output: str) -> None:
    for scheme in SCHEMES:
        content = files.read_bytes(variant_path(output, scheme, "tflite"))
        measured = files.read_json(variant_path(output, scheme, "json"))
        assert measured["name"] == scheme
        assert measured["bytes"] == len(content)
        assert measured["bytes_gzip"] == len(gzip.compress(content, 9))
        assert "serving_default" in tf.lite.Interpreter(model_content=content).get_signature_list()
        assert measured["saved_model"]["bytes"] > 0


def test_fewer_bits_give_smaller_files_and_larger_errors(output: str) -> None:
    measured = {s: files.read_json(variant_path(output, s, "json")) for s in SCHEMES}
    order = ("float32", "float16", "int8_weights")

    for more, fewer in itertools.pairwise(order):
        assert measured[fewer]["bytes"] < measured[more]["bytes"]
        assert measured[fewer]["bytes_gzip"] < measured[more]["bytes_gzip"]
        assert measured[fewer]["max_weight_error"] > measured[more]["max_weight_error"]
    assert measured["float32"]["max_weight_error"] == 0
