"""RunReporter: what every step wrote -> one self-contained page."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.report.facts import read_facts
from privet.components.shared import artifacts, files, layout


class RunReporterSpec(ComponentSpec):
    """Every step's findings; none is computed here."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "name": ExecutionParameter(type=str),
        "model_name": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": ChannelParameter(type=artifacts.ClientExamples),
        "ledger": ChannelParameter(type=artifacts.PrivacyLedger),
        "history": ChannelParameter(type=artifacts.TrainingHistory),
        "compression": ChannelParameter(type=artifacts.CompressionReport),
        "evaluation": ChannelParameter(type=artifacts.FederatedEvaluation),
        "audit": ChannelParameter(type=artifacts.PrivacyAudit, optional=True),
        "selection": ChannelParameter(type=artifacts.VariantSelection),
        "blessing": ChannelParameter(type=artifacts.ModelBlessing),
        "infra_blessing": ChannelParameter(type=artifacts.InfraBlessing),
        "pushed": ChannelParameter(type=artifacts.PushedModel),
    }
    OUTPUTS = {"report": ChannelParameter(type=artifacts.RunReport)}  # noqa: RUF012


class Executor(base_executor.BaseExecutor):
    """Renders the page."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes report.html."""
        from privet.components.report.page import render

        folders = {
            name: artifact_utils.get_single_uri(found)
            for name, found in input_dict.items()
            if found  # what is optional may be absent
        }
        facts = read_facts(exec_properties["name"], exec_properties["model_name"], folders)
        report = artifact_utils.get_single_uri(output_dict["report"])
        files.write_bytes(files.join(report, layout.REPORT), render(facts).encode())


class RunReporter(base_component.BaseComponent):
    """Writes the run's report.

    Args:
      name: of the pipeline.
      model_name: the name that is served.
      **findings: one channel for each input of RunReporterSpec.
    """

    SPEC_CLASS = RunReporterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, name: str, model_name: str, **findings: Channel):
        folder = Path(__file__).parent
        spec = RunReporterSpec(
            name=name,
            model_name=model_name,
            source_version=files.source_digest(folder, folder.parent / "shared"),
            report=Channel(type=artifacts.RunReport),
            **findings,
        )
        super().__init__(spec=spec)
