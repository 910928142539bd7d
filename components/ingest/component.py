"""ClientExampleGen: per-client rows -> a client store."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.ingest import run
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch
from privet.components.shared import artifacts, files
from privet.components.shared.fresh_driver import FreshDriver


class ClientExampleGenSpec(ComponentSpec):
    """`input_fingerprint` is set by the driver: the digest of the input and of the salt."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "state": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
        "input_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict[str, Any] = {}  # noqa: RUF012
    OUTPUTS = {"examples": ChannelParameter(type=artifacts.ClientExamples)}  # noqa: RUF012


class Driver(FreshDriver):
    """Puts the digest of the input into the cache key."""

    def fresh_properties(
        self, inputs: dict[str, list[Any]], properties: dict[str, Any]
    ) -> dict[str, Any]:
        """The digest of what the configuration names, and of the salt of client ids."""
        config = IngestConfig.from_json(properties["config"])
        salt = run.prepare_salt(config, properties["state"])
        return {"input_fingerprint": files.digest(dispatch.fingerprint(config).encode(), salt)}


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs ingestion on Beam."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads what the configuration names; writes the client store."""
        config = IngestConfig.from_json(exec_properties["config"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        run.ingest_to(config, examples.uri, exec_properties["state"], self._make_beam_pipeline)
        examples.set_json_value_custom_property("splits", list(config.splits))


class ClientExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests per-client data into a store with one record per client.

    Args:
      config: what to read and how; see IngestConfig.
      state: folder of what outlives a run and must not be shared with those who get the store:
        the secret salt of client ids, the rows of spans.
    """

    SPEC_CLASS = ClientExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, config: IngestConfig, state: str):
        folder = Path(__file__).parent
        spec = ClientExampleGenSpec(
            config=config.to_json(),
            state=state,
            source_version=files.source_digest(folder, folder.parent / "shared"),
            examples=Channel(type=artifacts.ClientExamples),
        )
        super().__init__(spec=spec)
