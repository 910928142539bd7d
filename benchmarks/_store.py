"""Shared by the benchmarks: client stores, ingested as the pipeline does it or written as given."""

from collections.abc import Sequence
from pathlib import Path

from privet.components.ingest import run, transforms
from privet.components.ingest.config import IngestConfig
from privet.components.shared import storage
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientData, ClientStore
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


def write_clients(clients: Sequence[ClientData], schema: Schema, folder: str) -> ClientStore:
    """A store of clients that are in memory, all of them to train on."""
    storage.write_schema(folder, schema)
    with storage.ShardWriter(storage.split_directory(folder, "train"), 0, 1) as writer:
        for client in sorted(clients, key=lambda one: one.client_id):
            writer.write(client.client_id, len(client), storage.encode_client(client))
    return ClientStore(folder, "train")
