"""ModelValidator and InfraValidator: is the model good enough, and can it be served?"""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.shared import artifacts, files, layout, storage
from privet.components.shared.served import served_view
from privet.components.validate import rules
from privet.components.validate.config import GateConfig, InfraConfig


class ModelValidatorSpec(ComponentSpec):
    """The servable is an input so that the blessing can name the model it blesses."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "servable": ChannelParameter(type=artifacts.ServableModel),
        "evaluation": ChannelParameter(type=artifacts.FederatedEvaluation),
        "selection": ChannelParameter(type=artifacts.VariantSelection),
        "ledger": ChannelParameter(type=artifacts.PrivacyLedger),
        "audit": ChannelParameter(type=artifacts.PrivacyAudit, optional=True),
    }
    OUTPUTS = {"blessing": ChannelParameter(type=artifacts.ModelBlessing)}  # noqa: RUF012


class ModelValidatorExecutor(base_executor.BaseExecutor):
    """Applies the rules."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes blessing.json; `blessed` and the model's id become properties."""
        evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
        selection = artifact_utils.get_single_uri(input_dict["selection"])
        ledger = artifact_utils.get_single_uri(input_dict["ledger"])
        audits = [audit.uri for audit in input_dict.get("audit", [])]  # none or one
        verdict = rules.judge(
            GateConfig.from_json(exec_properties["config"]),
            served_view(
                files.read_json(files.join(evaluation, layout.EVALUATION)),
                files.read_json(files.join(selection, layout.SELECTION)),
            ),
            files.read_json(files.join(ledger, layout.LEDGER)),
            files.read_json(files.join(audits[0], layout.AUDIT)) if audits else None,
        )
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        files.write_json(files.join(blessing.uri, layout.BLESSING), verdict)
        blessing.blessed = int(verdict["blessed"])
        servable = artifact_utils.get_single_instance(input_dict["servable"])
        blessing.set_int_custom_property("servable_id", servable.id)


class ModelValidator(base_component.BaseComponent):
    """The quality gate.

    Args:
      servable: the candidate.
      evaluation: FederatedEvaluation of all variants.
      selection: VariantSelection, which says which of them is the candidate.
      ledger: PrivacyLedger of its training.
      config: the rules; see GateConfig.
      audit: PrivacyAudit of the model; None for rules that do not ask for it.
    """

    SPEC_CLASS = ModelValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ModelValidatorExecutor)

    def __init__(
        self,
        servable: Channel,
        evaluation: Channel,
        selection: Channel,
        ledger: Channel,
        config: GateConfig,
        audit: Channel | None = None,
    ):
        folder = Path(__file__).parent
        spec = ModelValidatorSpec(
            servable=servable,
            evaluation=evaluation,
            selection=selection,
            ledger=ledger,
            audit=audit,
            config=config.to_json(),
            source_version=files.source_digest(
                folder / "rules.py",
                folder / "numbers.py",
                folder / "config.py",
                Path(__file__),
                folder.parent / "shared",
            ),
            blessing=Channel(type=artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)


class InfraValidatorSpec(ComponentSpec):
    """Takes the examples for their schema only."""

    PARAMETERS = {  # noqa: RUF012
        "config": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "servable": ChannelParameter(type=artifacts.ServableModel),
        "examples": ChannelParameter(type=artifacts.ClientExamples),
    }
    OUTPUTS = {"blessing": ChannelParameter(type=artifacts.InfraBlessing)}  # noqa: RUF012


class InfraValidatorExecutor(base_executor.BaseExecutor):
    """Serves the candidate on this machine and compares the answers."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes infra_blessing.json; `blessed` becomes a property."""
        from privet.components.validate.infra import check_servable

        result = check_servable(
            artifact_utils.get_single_uri(input_dict["servable"]),
            storage.read_schema(artifact_utils.get_single_uri(input_dict["examples"])),
            InfraConfig.from_json(exec_properties["config"]),
        )
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        files.write_json(files.join(blessing.uri, layout.INFRA_BLESSING), result)
        blessing.blessed = int(result["blessed"])
        servable = artifact_utils.get_single_instance(input_dict["servable"])
        blessing.set_int_custom_property("servable_id", servable.id)


class InfraValidator(base_component.BaseComponent):
    """Tries the candidate on a real `privet serve` process.

    Args:
      servable: the candidate.
      examples: ClientExamples, for the schema.
      config: see InfraConfig.
    """

    SPEC_CLASS = InfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(InfraValidatorExecutor)

    def __init__(self, servable: Channel, examples: Channel, config: InfraConfig):
        folder = Path(__file__).parent
        components = folder.parent
        spec = InfraValidatorSpec(
            servable=servable,
            examples=examples,
            config=config.to_json(),
            source_version=files.source_digest(
                folder / "infra.py",
                folder / "config.py",
                Path(__file__),
                components / "shared",
                components.parent / "serving",
            ),
            blessing=Channel(type=artifacts.InfraBlessing),
        )
        super().__init__(spec=spec)
