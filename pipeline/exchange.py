"""`privet export-clients` and `privet import-clients`: between the client store and other tools."""

import glob
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.formats import Format
from privet.components.shared import files, layout
from privet.components.shared.errors import ConfigError, DataError, StoreError
from privet.pipeline.workdir import Workdir


def export_store(
    source: str, path: str, splits: Sequence[str] | None, file_format: Format | None
) -> dict[str, Any]:
    """Writes the clients of a store to a file; see export_clients.

    Args:
      source: folder of a store, or a work directory.
      path: the file to write; must not exist.
      splits: names of the splits; None for train, eval and test.
      file_format: of the file; by default what its ending says.

    Returns:
      What `privet export-clients --json` prints.

    Raises:
      StoreError: there is no store, it is damaged, or the file cannot be written.
      DataError: the file exists, or its format is not known or cannot hold the columns.
    """
    from privet.components.ingest.export.clients import export_clients, format_of

    exported = export_clients(store_of(source), splits, path, file_format or format_of(path))
    return {
        "path": exported.path,
        "schema": exported.schema,
        "splits": {
            name: {"clients": counts.clients, "examples": counts.examples}
            for name, counts in exported.splits.items()
        },
        "left_out": list(exported.left_out),
        "learned_features": list(exported.learned_features),
    }


def import_store(
    source: str,
    store: str,
    schema: str | None = None,
    file_format: Format | None = None,
    shards: int | None = None,
) -> dict[str, Any]:
    """Ingests a file into a store.

    Args:
      source: path or glob of the files.
      store: folder to make; must not exist.
      schema: a JSON file of the `data` section's keys; by default the one beside `source`, and
        without it what the names of the columns say (see conventional_config).
      file_format: of the files.
      shards: files per split.

    Returns:
      What `privet import-clients --json` prints.

    Raises:
      ConfigError: the schema is missing or wrong.
      DataError: the store exists, or the files cannot be ingested.
    """
    if files.exists(store) or files.folder_exists(store):
        raise DataError(f"{store} exists already. Remove it, or choose another name.")
    beside = f"{source}.schema.json"
    found = schema or (beside if files.exists(beside) else None)
    config = _import_config(source, found, file_format, shards)
    state = f"{store.rstrip('/')}.state"
    statistics = _ingest(config, store, state)
    return {
        "store": store,
        "schema": found,
        "config": json.loads(config.to_json()) if found is None else None,
        "state": state if files.exists(state) else None,
        "splits": {
            name: {"clients": counts["clients"], "examples": counts["examples"]}
            for name, counts in statistics["splits"].items()
        },
    }


def store_of(path: str) -> str:
    """The folder of the client store that a path names.

    Args:
      path: the store's own folder, or a work directory, whose last run's store is meant.

    Raises:
      StoreError: there is no store.
    """
    if files.exists(files.join(path, layout.SCHEMA)):
        return path
    workdir = Workdir.at(path)
    if "://" not in path and workdir.run_json.exists():
        examples = files.read_json(str(workdir.run_json))["artifacts"].get("examples")
        if examples is None:
            raise StoreError(
                f"the last run in {path} made no client store. Run the pipeline again."
            )
        return str(workdir.root / examples)
    raise StoreError(
        f"{path} is neither a client store (it has no {layout.SCHEMA}) nor a work directory (it "
        "has no run.json). Give the folder of a ClientExamples artifact, or a WORKDIR."
    )


def export_lines(done: Mapping[str, Any]) -> list[str]:
    """What was exported, for people."""
    lines = [f"exported to {done['path']}", *_split_lines(done["splits"])]
    lines.append(f"  schema  {done['schema']}")
    if done["left_out"]:
        left = ", ".join(done["left_out"])
        lines.append(f"  left out: {left} (give --split for each split to have)")
    if done["learned_features"]:
        names = ", ".join(done["learned_features"])
        lines.append(
            f"  NOT private: {names} hold indices into a vocabulary learned from client data, "
            "which the schema says too"
        )
    return lines


def import_lines(done: Mapping[str, Any]) -> list[str]:
    """What was imported, for people."""
    lines = [f"imported into {done['store']}", *_split_lines(done["splits"])]
    lines.append(f"  schema  {done['schema'] or 'inferred from the columns'}")
    if config := done["config"]:
        classes = config["label"]["classes"]
        lines.append(f"    label: {f'{classes} classes' if classes else 'a number'}")
        for name, feature in config["features"].items():
            shape = f" {feature['shape']}" if feature["shape"] else ""
            lines.append(f"    {name}: {feature['dtype']}{shape} of {feature['columns']}")
        lines.append(
            "    NOT private: learned from the clients' rows, so that training with privacy "
            "refuses this store; give --schema for one that it takes"
        )
    if done["state"]:
        lines.append(f"  {done['state']} holds the secret salt of this store: keep it apart")
    return lines


def _split_lines(splits: Mapping[str, Mapping[str, int]]) -> list[str]:
    width = max(map(len, splits), default=0)
    return [
        f"  {name:<{width}}  {counts['clients']:,} clients, {counts['examples']:,} examples"
        for name, counts in splits.items()
    ]


def _import_config(
    source: str, schema: str | None, file_format: Format | None, shards: int | None
) -> IngestConfig:
    # A file's own name may look like a glob.
    pattern = glob.escape(source) if files.is_local(source) and Path(source).exists() else source
    changes: dict[str, Any] = {"files": pattern}
    changes |= {"format": file_format} if file_format else {}
    changes |= {"shards": shards} if shards else {}
    if schema is None:
        from privet.components.ingest.conventions import conventional_config

        inferred = conventional_config(pattern, file_format)
        return IngestConfig.from_mapping({**json.loads(inferred.to_json()), **changes})
    return IngestConfig.from_mapping({**_read_schema(schema), **changes})


def _read_schema(path: str) -> Mapping[str, Any]:
    try:
        values = json.loads(files.read_bytes(path))
    except StoreError as error:
        raise ConfigError(f"cannot read the schema {path}: {error.__cause__}") from error
    except ValueError as error:
        raise ConfigError(f"the schema {path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the schema {path} must hold an object with client_id, features, label")
    return values


def _ingest(config: IngestConfig, store: str, state: str) -> dict[str, Any]:
    """Ingests under a temporary name; the store has its own name only when it is whole."""
    from privet.components.ingest import run, transforms
    from privet.pipeline.beam import beam_arguments
    from privet.pipeline.config import BeamConfig

    arguments = beam_arguments(BeamConfig())

    def make_pipeline() -> Any:
        return transforms.pipeline_of(arguments)

    if not files.is_local(store):
        return run.ingest_to(config, store, state, make_pipeline)
    final = Path(store)
    temporary = final.with_name(f"{final.name}.tmp-{uuid.uuid4().hex}")
    try:
        statistics = run.ingest_to(config, str(temporary), state, make_pipeline)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return statistics
