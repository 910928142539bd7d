"""What a run came to: read from ML Metadata and the artifacts, written to run.json."""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_metadata import errors as mlmd_errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from privet.components.shared import files, layout
from privet.components.shared.errors import StoreError
from privet.pipeline.build import ARTIFACTS, NODES, RESOLVER
from privet.pipeline.config import PipelineConfig
from privet.pipeline.workdir import Workdir

_State = metadata_store_pb2.Execution

STATES = {
    _State.NEW: "new",
    _State.RUNNING: "running",
    _State.COMPLETE: "complete",
    _State.FAILED: "failed",
    _State.CACHED: "complete",
    _State.CANCELED: "canceled",
}

_LIBRARIES = (
    "privet",
    "tensorflow",
    "tensorflow-federated",
    "tensorflow-privacy",
    "tensorflow-model-optimization",
    "dp-accounting",
    "ml-pipelines-sdk",
    "ml-metadata",
    "apache-beam",
    "pyarrow",
    "numpy",
)


@dataclasses.dataclass(frozen=True)
class Node:
    """How one component fared.

    Attributes:
      state: complete, failed, running, canceled, new or missing (it never started).
      seconds: wall time.
      cached: whether an earlier run's outputs were taken.
      outputs: output name -> path.
    """

    state: str = "missing"
    seconds: float = 0.0
    cached: bool = False
    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One run, as far as ML Metadata does not tell of it.

    Attributes:
      started: when, in ISO 8601; what ML Metadata calls the run.
      graph: node -> the nodes that it takes from, in the order in which they run.
      error: why it failed; None if it did not.
    """

    started: str
    graph: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    error: str | None = None


def read_nodes(workdir: Workdir, run_id: str) -> dict[str, Node]:
    """The nodes of a run as ML Metadata has them: all components in order, then resolvers.

    Args:
      workdir: holds the store.
      run_id: of the run.
    """
    nodes = dict.fromkeys(NODES, Node())
    if not workdir.metadata.exists():
        return nodes
    store = open_store(workdir)
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        return nodes
    for execution in store.get_executions_by_context(context.id):
        name = node_name(store, execution)
        if name:
            milliseconds = execution.last_update_time_since_epoch - (
                execution.create_time_since_epoch
            )
            nodes[name] = Node(
                state=STATES.get(execution.last_known_state, "new"),
                seconds=round(milliseconds / 1000, 3),
                cached=execution.last_known_state == _State.CACHED,
                outputs=_outputs(store, execution),
            )
    return nodes


def artifact_paths(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Name in run.json -> absolute path, of every artifact that a finished node wrote."""
    return {
        name: nodes[node].outputs[output]
        for name, (node, output) in ARTIFACTS.items()
        if node in nodes and nodes[node].state == "complete" and output in nodes[node].outputs
    }


def summarize(
    config: PipelineConfig, workdir: Workdir, nodes: Mapping[str, Node], attempt: Attempt
) -> dict[str, Any]:
    """The content of run.json.

    Args:
      config: for the names.
      workdir: paths are relative to it.
      nodes: as `read_nodes` gives them. Without the Pusher the gate has the last word.
      attempt: the run.
    """
    paths = artifact_paths(nodes)
    pushed = _read(paths, "pushed", layout.PUSHED)
    complete = all(node.state == "complete" for node in nodes.values())
    status = "failed"
    if complete and attempt.error is None:
        blessed = _read(paths, "blessing", layout.BLESSING)["blessed"]
        accepted = pushed["pushed"] if "pushed" in paths else blessed
        status = "succeeded" if accepted else "rejected"
    return {
        "schema": 1,
        "name": config.name,
        "model_name": config.served_name,
        "status": status,
        "started": attempt.started,
        "error": attempt.error,
        "nodes": {
            name: {"state": node.state, "seconds": node.seconds, "cached": node.cached}
            for name, node in nodes.items()
            if name != RESOLVER
        },
        "graph": {name: list(inputs) for name, inputs in attempt.graph.items()},
        "artifacts": {name: workdir.relative(path) for name, path in paths.items()},
        "headline": headline(paths),
        "pushed": workdir.relative(pushed["path"]) if pushed.get("pushed") else None,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Privet, Python and the libraries that a result depends on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in _LIBRARIES
    }


def headline(paths: Mapping[str, str]) -> dict[str, Any]:
    """The numbers that matter most; None where the step has not run."""
    ledger = _read(paths, "ledger", layout.LEDGER)
    evaluation = _read(paths, "evaluation", layout.EVALUATION)
    statistics = _read(paths, "examples", layout.STATISTICS)
    selection = _read(paths, "selection", layout.SELECTION)
    compression = _read(paths, "compression", layout.COMPRESSION)
    metric = evaluation.get("metric")
    models = evaluation.get("models", {})
    sizes = {v["name"]: v["bytes_gzip"] for v in compression.get("variants", [])}
    splits = statistics.get("splits", {})
    return {
        "epsilon": ledger.get("epsilon"),
        "delta": ledger.get("delta"),
        "relation": ledger.get("neighbouring_relation"),
        "metric": metric,
        "float": models["float"]["overall"][metric] if models else None,
        "compressed": models[selection["variant"]]["overall"][metric] if selection else None,
        "variant": selection.get("variant"),
        "train_clients": splits["train"]["clients"] if splits else None,
        "eval_clients": splits["eval"]["clients"] if splits else None,
        "bytes_float_gzip": sizes.get("float32"),
        "bytes_compressed_gzip": sizes.get(selection.get("variant")),
    }


def write_run_json(workdir: Workdir, summary: Mapping[str, Any]) -> None:
    """Writes run.json whole or not at all."""
    files.write_json(str(workdir.run_json), summary)


def read_run_json(workdir: Workdir) -> dict[str, Any]:
    """Reads run.json."""
    return json.loads(workdir.run_json.read_text(encoding="utf-8"))


def read_last_run(workdir: Workdir) -> dict[str, Any]:
    """Reads run.json of a work directory that a user has named.

    Raises:
      StoreError: there has been no run.
    """
    if not workdir.run_json.is_file():
        raise StoreError(f"{workdir.root} holds no run.json. Run `privet run` with it first.")
    return read_run_json(workdir)


def _read(paths: Mapping[str, str], name: str, file: str) -> dict[str, Any]:
    return files.read_json(str(Path(paths[name], file))) if name in paths else {}


def open_store(workdir: Workdir) -> metadata_store.MetadataStore:
    """The ML Metadata store of a work directory."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workdir.metadata)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    return metadata_store.MetadataStore(config)


def node_name(store: metadata_store.MetadataStore, execution: Any) -> str:
    """The node of an execution: TFX names the context <pipeline>.<node>."""
    try:
        contexts = store.get_contexts_by_execution(execution.id)
    except mlmd_errors.NotFoundError:
        return ""
    names = [context.name for context in contexts if context.type == "node"]
    return names[0].rpartition(".")[2] if names else ""


def _outputs(store: metadata_store.MetadataStore, execution: Any) -> dict[str, str]:
    """Output name -> path of what an execution wrote (or took from the cache)."""
    events = [
        event
        for event in store.get_events_by_execution_ids([execution.id])
        if event.type == metadata_store_pb2.Event.OUTPUT
    ]
    artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    return {event.path.steps[0].key: artifacts[event.artifact_id].uri for event in events}
