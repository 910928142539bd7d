"""FederatedEvaluator: models and held-out clients -> metrics overall and over clients."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.evaluate.config import EvaluateConfig
from privet.components.evaluate.job import Job
from privet.components.shared import artifacts, files, storage


class FederatedEvaluatorSpec(ComponentSpec):
    """`blessed` is the last blessed servable other than this run's; there may be none."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "split": ExecutionParameter(type=str),
        "config": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "salt_file": ExecutionParameter(type=str, optional=True),
        "files_digest": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": ChannelParameter(type=artifacts.ClientExamples),
        "model": ChannelParameter(type=artifacts.FederatedModel),
        "variants": ChannelParameter(type=artifacts.ModelVariants),
        "blessed": ChannelParameter(type=artifacts.ServableModel, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        "evaluation": ChannelParameter(type=artifacts.FederatedEvaluation)
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates every model on every client of the split as one Beam pipeline."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes evaluation.json, per_client/ and, if asked for, release.json."""
        from privet.components.evaluate.run import evaluate_to
        from privet.components.shared.predictors import servable_fits

        examples = artifact_utils.get_single_uri(input_dict["examples"])
        schema = storage.read_schema(examples)
        variants = artifact_utils.get_single_uri(input_dict["variants"])
        servables = {name: files.join(variants, name) for name in files.folders(variants)}
        for blessed in input_dict.get("blessed", []):  # none or one
            if servable_fits(blessed.uri, schema):
                servables["blessed"] = blessed.uri
        job = Job(
            examples,
            exec_properties["split"],
            artifact_utils.get_single_uri(input_dict["model"]),
            servables,
            EvaluateConfig.from_json(exec_properties["config"]),
            exec_properties["seed"],
            exec_properties.get("salt_file"),
        )
        output = artifact_utils.get_single_uri(output_dict["evaluation"])
        evaluate_to(job, output, self._make_beam_pipeline)


class FederatedEvaluator(base_beam_component.BaseBeamComponent):
    """Measures the trained model, its variants and the last blessed one on held-out clients.

    Args:
      examples: ClientExamples.
      model: FederatedModel, evaluated as `float`.
      variants: ModelVariants, each evaluated by its name, through its TFLite file.
      blessed: the last blessed ServableModel, evaluated as `blessed`; may be empty, and is left
        out when it takes other features than these examples have.
      config: see EvaluateConfig.
      seed: of the bootstrap and, with personalization, of what a client adapts to.
      split: the split to evaluate on.
      salt_file: the secret that ingestion has hashed client ids with, for slices by attributes
        whose file has the ids of the source. None if it has those of the store.
    """

    SPEC_CLASS = FederatedEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: Channel,
        model: Channel,
        variants: Channel,
        blessed: Channel | None = None,
        config: EvaluateConfig | None = None,
        seed: int = 0,
        split: str = "eval",
        salt_file: str | None = None,
    ):
        folder, config = Path(__file__).parent, config or EvaluateConfig()
        secret = {} if salt_file is None else {"salt_file": salt_file}
        spec = FederatedEvaluatorSpec(
            examples=examples,
            model=model,
            variants=variants,
            blessed=blessed,
            split=split,
            config=config.to_json(),
            seed=seed,
            files_digest=files.content_digest(config.files),
            source_version=files.source_digest(folder, folder.parent / "shared"),
            evaluation=Channel(type=artifacts.FederatedEvaluation),
            **secret,
        )
        super().__init__(spec=spec)
