"""One ingestion for all points of a sweep that read the same data.

    WORKDIR/shared/<digest of the data section>/     a work directory with this one node

Points import the client store from there, so their ML Metadata stays their own. TFX's cache keeps
the store while the data stay the same; with other data another store is written beside it, and the
points see that they have another input.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tfx.orchestration import metadata, pipeline

from privet.components.ingest.component import ClientExampleGen
from privet.components.ingest.config import IngestConfig
from privet.components.shared import files
from privet.components.shared.errors import PrivetError
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig, PipelineConfig
from privet.pipeline.run import Say, run_node
from privet.pipeline.workdir import Workdir

FOLDER = "shared"


def ingest_once(
    configs: Iterable[PipelineConfig], root: Path, say: Say
) -> tuple[dict[str, str], dict[str, str]]:
    """Ingests what configurations read, public data too, each of it once.

    Args:
      configs: of the points.
      root: the sweep's work directory, absolute.
      say: prints a line of progress.

    Returns:
      Folder of the client store by the JSON of the data section, as create_pipeline takes it; and
      by the same the error of what could not be ingested.
    """
    beams = {data.to_json(): (data, config.beam) for config in configs for data in sources(config)}
    stores: dict[str, str] = {}
    errors: dict[str, str] = {}
    for key, (data, beam) in beams.items():
        try:
            stores[key] = _ingest(data, beam, root, say)
        except PrivetError as error:
            errors[key] = str(error)
    return stores, errors


def sources(config: PipelineConfig) -> list[IngestConfig]:
    """The data sections of a configuration."""
    return [config.data, *([] if config.public_data is None else [config.public_data])]


def failure_of(config: PipelineConfig, errors: Mapping[str, str]) -> str | None:
    """Why a point has no data; None if it has."""
    found = (errors.get(data.to_json()) for data in sources(config))
    return next((error for error in found if error), None)


def _ingest(data: IngestConfig, beam: BeamConfig, root: Path, say: Say) -> str:
    """The folder of the client store."""
    workdir = Workdir.at(root / FOLDER / files.digest(data.to_json().encode())[:12])
    ingest = ClientExampleGen(data, str(workdir.ingest_state))
    alone = pipeline.Pipeline(
        pipeline_name=FOLDER,
        pipeline_root=str(workdir.artifacts),
        components=[ingest],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(workdir.metadata)
        ),
        beam_pipeline_args=beam_arguments(beam),
    )
    return run_node(alone, ingest.id, workdir, say).outputs["examples"]
