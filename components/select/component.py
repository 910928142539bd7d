"""VariantSelector: variants and their evaluation -> the one that is served, with its card."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.select.choice import choose
from privet.components.select.config import CardConfig, SelectConfig
from privet.components.select.model_card import model_card
from privet.components.shared import artifacts, files, layout, storage
from privet.components.shared.artifacts import VARIANTS_ID


class VariantSelectorSpec(ComponentSpec):
    """The ledger and the examples are for the card."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "model_name": ExecutionParameter(type=str),
        "config": ExecutionParameter(type=str),
        "card": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "variants": ChannelParameter(type=artifacts.ModelVariants),
        "report": ChannelParameter(type=artifacts.CompressionReport),
        "evaluation": ChannelParameter(type=artifacts.FederatedEvaluation),
        "ledger": ChannelParameter(type=artifacts.PrivacyLedger),
        "examples": ChannelParameter(type=artifacts.ClientExamples),
    }
    OUTPUTS = {  # noqa: RUF012
        "servable": ChannelParameter(type=artifacts.ServableModel),
        "selection": ChannelParameter(type=artifacts.VariantSelection),
    }


class Executor(base_executor.BaseExecutor):
    """Picks one and writes its card."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes selection.json, and the version directory with model_card.md."""
        folders = {name: artifact_utils.get_single_uri(found) for name, found in input_dict.items()}
        evaluation = files.read_json(files.join(folders["evaluation"], layout.EVALUATION))
        report = files.read_json(files.join(folders["report"], layout.COMPRESSION))
        chosen = choose(SelectConfig.from_json(exec_properties["config"]), evaluation, report)
        selection = artifact_utils.get_single_uri(output_dict["selection"])
        files.write_json(files.join(selection, layout.SELECTION), chosen)
        card = model_card(
            exec_properties["model_name"],
            CardConfig.from_json(exec_properties["card"]),
            schema=storage.read_schema(folders["examples"]),
            ledger=files.read_json(files.join(folders["ledger"], layout.LEDGER)),
            report=report,
            evaluation=evaluation,
            selection=chosen,
        )
        servable = artifact_utils.get_single_instance(output_dict["servable"])
        files.copy_folder(files.join(folders["variants"], chosen["variant"]), servable.uri)
        files.write_bytes(files.join(servable.uri, layout.MODEL_CARD), card.encode())
        variants = artifact_utils.get_single_instance(input_dict["variants"])
        servable.set_int_custom_property(VARIANTS_ID, variants.id)


class VariantSelector(base_component.BaseComponent):
    """Picks the smallest (or fastest, or named) variant that is good enough on held-out clients.

    Args:
      variants: ModelVariants.
      report: CompressionReport, with their sizes and speeds.
      evaluation: FederatedEvaluation of all of them.
      ledger: PrivacyLedger of the training.
      examples: ClientExamples, for the schema.
      model_name: the name that is served.
      config: see SelectConfig.
      card: see CardConfig.
    """

    SPEC_CLASS = VariantSelectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        variants: Channel,
        report: Channel,
        evaluation: Channel,
        ledger: Channel,
        examples: Channel,
        model_name: str,
        config: SelectConfig | None = None,
        card: CardConfig | None = None,
    ):
        folder = Path(__file__).parent
        spec = VariantSelectorSpec(
            variants=variants,
            report=report,
            evaluation=evaluation,
            ledger=ledger,
            examples=examples,
            model_name=model_name,
            config=(config or SelectConfig()).to_json(),
            card=(card or CardConfig()).to_json(),
            source_version=files.source_digest(folder, folder.parent / "shared"),
            servable=Channel(type=artifacts.ServableModel),
            selection=Channel(type=artifacts.VariantSelection),
        )
        super().__init__(spec=spec)
