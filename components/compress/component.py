"""ModelCompressor: a trained model -> variants of it, with the size and speed of each."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.compress.config import CompressConfig
from privet.components.shared import artifacts, files


class ModelCompressorSpec(ComponentSpec):
    """Takes the examples for their schema; their content only in a run without privacy."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "model": ChannelParameter(type=artifacts.FederatedModel),
        "ledger": ChannelParameter(type=artifacts.PrivacyLedger),
        "examples": ChannelParameter(type=artifacts.ClientExamples),
        "public": ChannelParameter(type=artifacts.ClientExamples, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "variants": ChannelParameter(type=artifacts.ModelVariants),
        "report": ChannelParameter(type=artifacts.CompressionReport),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Builds all variants on Beam, then times them in turns."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes a version directory for each variant, and the report."""
        from privet.components.compress.run import compress

        public = [artifact.uri for artifact in input_dict.get("public", [])]  # none or one
        compress(
            CompressConfig.from_json(exec_properties["config"]),
            model=artifact_utils.get_single_uri(input_dict["model"]),
            ledger=artifact_utils.get_single_uri(input_dict["ledger"]),
            examples=artifact_utils.get_single_uri(input_dict["examples"]),
            public=public[0] if public else None,
            seed=exec_properties["seed"],
            directory=artifact_utils.get_single_uri(output_dict["variants"]),
            report=artifact_utils.get_single_uri(output_dict["report"]),
            make_pipeline=self._make_beam_pipeline,
        )


class ModelCompressor(base_beam_component.BaseBeamComponent):
    """Makes the model small, in several ways, without looking at the data of private clients.

    Args:
      model: FederatedModel.
      ledger: PrivacyLedger of its training: with privacy nothing but public data is read.
      examples: ClientExamples, for the schema.
      config: see CompressConfig.
      public: ClientExamples of public data, for variants that want them.
      seed: of synthetic inputs, and of fine-tuning.
    """

    SPEC_CLASS = ModelCompressorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        model: Channel,
        ledger: Channel,
        examples: Channel,
        config: CompressConfig,
        public: Channel | None = None,
        seed: int = 0,
    ):
        folder = Path(__file__).parent
        spec = ModelCompressorSpec(
            model=model,
            ledger=ledger,
            examples=examples,
            public=public,
            config=config.to_json(),
            seed=seed,
            source_version=files.source_digest(folder, folder.parent / "shared"),
            variants=Channel(type=artifacts.ModelVariants),
            report=Channel(type=artifacts.CompressionReport),
        )
        super().__init__(spec=spec)
