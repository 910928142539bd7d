"""The Beam pipeline of compression: every variant is built and measured, independently."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam

from privet.components.compress.sources import Sources
from privet.components.compress.variant_config import VariantConfig
from privet.components.shared import files
from privet.components.shared.errors import ModelError, PrivetError


def build_variants(
    pipeline: beam.Pipeline,
    configs: Sequence[VariantConfig],
    sources: Sources,
    directory: str,
    report: str,
) -> None:
    """Adds the building of variants to a pipeline.

    Args:
      pipeline: the Beam pipeline.
      configs: of the variants.
      sources: what they are made of.
      directory: folder that gets a version directory <name>/ for each.
      report: folder that gets variants/<name>.json for each: what was measured, or why it could
        not be built. A training must not be lost since one of several variants does not work.
    """
    _ = (
        pipeline
        | "Variants" >> beam.Create([config.to_json() for config in configs])
        | "SpreadVariants" >> beam.Reshuffle()
        | "BuildVariant" >> beam.Map(_build_variant, sources, directory, report)
    )


def measurements_path(report: str, name: str) -> str:
    """Where a variant's measurements are."""
    return files.join(report, "variants", f"{name}.json")


def _build_variant(config_json: str, sources: Sources, directory: str, report: str) -> None:
    from privet.components.compress import variants  # imports TensorFlow, in the worker

    config = VariantConfig.from_json(config_json)
    with tempfile.TemporaryDirectory() as folder:
        try:
            measured = variants.build_variant(config, sources, folder)
        except Exception as error:  # the converter, its interpreter and tfmot raise many kinds
            if isinstance(error, PrivetError) and not isinstance(error, ModelError):
                raise  # of data that all variants share
            kind = "" if isinstance(error, ModelError) else f"{type(error).__name__}: "
            measured = {"name": config.label, "failed": f"{kind}{error}"}
            folder = f"{folder}/nothing"
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            files.write_bytes(files.join(directory, config.label, name), path.read_bytes())
    files.write_json(measurements_path(report, config.label), measured)
