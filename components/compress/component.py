"""ModelCompressor: a trained model -> a small servable, and the size of every variant."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.compress import transforms
from privet.components.compress.config import SCHEMES, CompressConfig
from privet.components.compress.report import compression_report
from privet.components.shared import artifacts, files, layout, storage


class ModelCompressorSpec(ComponentSpec):
    """Takes the examples for their schema only: compression never reads client data."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "model": ChannelParameter(type=artifacts.FederatedModel),
        "examples": ChannelParameter(type=artifacts.ClientExamples),
    }
    OUTPUTS = {  # noqa: RUF012
        "servable": ChannelParameter(type=artifacts.ServableModel),
        "report": ChannelParameter(type=artifacts.CompressionReport),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Builds all variants on Beam, then exports the one that is served."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the Keras model and the schema; writes the servable and the report."""
        from privet.components.compress import export

        config = CompressConfig.from_json(exec_properties["config"])
        model = artifact_utils.get_single_uri(input_dict["model"])
        schema = storage.read_schema(artifact_utils.get_single_uri(input_dict["examples"]))
        report = artifact_utils.get_single_uri(output_dict["report"])
        with self._make_beam_pipeline() as pipeline:
            transforms.build_variants(pipeline, model, schema, report)
        variants = [
            files.read_json(transforms.variant_path(report, scheme, "json")) for scheme in SCHEMES
        ]
        files.write_json(
            files.join(report, layout.COMPRESSION),
            compression_report(variants, config.quantization),
        )
        export.export_servable(
            export.KerasPredictor(export.load_model(model, config.quantization), schema),
            files.read_bytes(transforms.variant_path(report, config.quantization, "tflite")),
            schema,
            artifact_utils.get_single_uri(output_dict["servable"]),
        )


class ModelCompressor(base_beam_component.BaseBeamComponent):
    """Quantizes and exports the model without looking at client data.

    Args:
      model: FederatedModel.
      examples: ClientExamples, for the schema.
      config: see CompressConfig.
    """

    SPEC_CLASS = ModelCompressorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, model: Channel, examples: Channel, config: CompressConfig):
        folder = Path(__file__).parent
        spec = ModelCompressorSpec(
            model=model,
            examples=examples,
            config=config.to_json(),
            source_version=files.source_digest(folder, folder.parent / "shared"),
            servable=Channel(type=artifacts.ServableModel),
            report=Channel(type=artifacts.CompressionReport),
        )
        super().__init__(spec=spec)
