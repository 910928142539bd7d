"""ClientExampleGen: per-client rows in files -> a client store."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from privet.components.ingest import sources, statistics, transforms
from privet.components.ingest.config import IngestConfig
from privet.components.shared import artifacts, files, layout, storage
from privet.components.shared.fresh_driver import FreshDriver


class ClientExampleGenSpec(ComponentSpec):
    """`input_fingerprint` is set by the driver: the digest of the input files' contents."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
        "input_fingerprint": ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict[str, Any] = {}  # noqa: RUF012
    OUTPUTS = {"examples": ChannelParameter(type=artifacts.ClientExamples)}  # noqa: RUF012


class Driver(FreshDriver):
    """Puts the digest of the input files into the cache key."""

    def fresh_properties(
        self, inputs: dict[str, list[Any]], properties: dict[str, Any]
    ) -> dict[str, Any]:
        """The digest of all files that the configuration names."""
        config = IngestConfig.from_json(properties["config"])
        return {"input_fingerprint": files.content_digest(config.patterns)}


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs ingestion as one Beam pipeline."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the files that the configuration names; writes the client store."""
        config = IngestConfig.from_json(exec_properties["config"])
        output = artifact_utils.get_single_uri(output_dict["examples"])
        paths = sources.find_files(config)
        for path in paths:
            sources.check_columns(path, config)
        with self._make_beam_pipeline() as pipeline:
            transforms.ingest(pipeline, paths, config, output)
        storage.write_schema(output, config.schema)
        found = files.read_json(files.join(output, layout.STATISTICS))
        statistics.check_statistics(found, config)
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.set_json_value_custom_property("splits", list(config.splits))


class ClientExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests per-client data into a store with one record per client.

    Args:
      config: what to read and how; see IngestConfig.
    """

    SPEC_CLASS = ClientExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, config: IngestConfig):
        folder = Path(__file__).parent
        spec = ClientExampleGenSpec(
            config=config.to_json(),
            source_version=files.source_digest(folder, folder.parent / "shared"),
            examples=Channel(type=artifacts.ClientExamples),
        )
        super().__init__(spec=spec)
