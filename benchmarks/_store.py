"""Shared by the benchmarks: ingestion into a folder, as the pipeline does it."""

from pathlib import Path

from privet.components.ingest import run, transforms
from privet.components.ingest.config import IngestConfig
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig


def ingest(data: IngestConfig, folder: str | Path) -> str:
    """Ingests into `folder`/store on the in-process runner; returns the store's folder."""
    arguments = beam_arguments(BeamConfig())
    store = str(Path(folder, "store"))
    run.ingest_to(
        data, store, str(Path(folder, "state")), lambda: transforms.pipeline_of(arguments)
    )
    return store
