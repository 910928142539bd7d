"""PrivacyAuditor: the trained model and its clients -> what attacks find, beside the ledger."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.audit.config import AuditConfig
from privet.components.audit.run import run_audit
from privet.components.shared import artifacts, files


class PrivacyAuditorSpec(ComponentSpec):
    """The history is an input for the canaries that may lie in its folder."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        "examples": ChannelParameter(type=artifacts.ClientExamples),
        "model": ChannelParameter(type=artifacts.FederatedModel),
        "ledger": ChannelParameter(type=artifacts.PrivacyLedger),
        "history": ChannelParameter(type=artifacts.TrainingHistory),
    }
    OUTPUTS = {"audit": ChannelParameter(type=artifacts.PrivacyAudit)}  # noqa: RUF012


class Executor(base_beam_executor.BaseBeamExecutor):
    """Measures the losses of clients as one Beam pipeline; the rest is arithmetic."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes audit.json. TFX removes it if the node fails: the error has its numbers."""
        folders = {name: artifact_utils.get_single_uri(found) for name, found in input_dict.items()}
        run_audit(
            **folders,
            output=artifact_utils.get_single_uri(output_dict["audit"]),
            config=AuditConfig.from_json(exec_properties["config"]),
            seed=exec_properties["seed"],
            make_pipeline=self._make_beam_pipeline,
            folder=self._get_tmp_dir(),
        )


class PrivacyAuditor(base_beam_component.BaseBeamComponent):
    """Attacks the trained model, and stops the run where the ledger claims less than is shown.

    Args:
      examples: ClientExamples, whose train split the model was trained on.
      model: FederatedModel.
      ledger: PrivacyLedger of its training.
      history: TrainingHistory of the same, with canaries.json if it had canaries.
      config: see AuditConfig.
      seed: of the sample of clients and of the bootstrap.
    """

    SPEC_CLASS = PrivacyAuditorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: Channel,
        model: Channel,
        ledger: Channel,
        history: Channel,
        config: AuditConfig | None = None,
        seed: int = 0,
    ):
        folder = Path(__file__).parent
        spec = PrivacyAuditorSpec(
            examples=examples,
            model=model,
            ledger=ledger,
            history=history,
            config=(config or AuditConfig()).to_json(),
            seed=seed,
            source_version=files.source_digest(folder, folder.parent / "shared"),
            audit=Channel(type=artifacts.PrivacyAudit),
        )
        super().__init__(spec=spec)
