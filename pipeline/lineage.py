"""Where a model comes from: ML Metadata walked from a pushed model back to the client examples."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.types.artifact import Artifact

from privet.components.shared.artifacts import (
    ClientExamples,
    CompressionReport,
    FederatedEvaluation,
    FederatedModel,
    InfraBlessing,
    ModelBlessing,
    ModelVariants,
    PrivacyAudit,
    PrivacyLedger,
    PushedModel,
    ServableModel,
    TrainingHistory,
    VariantSelection,
)
from privet.pipeline import outcome
from privet.pipeline.workdir import Workdir

WHAT: dict[type[Artifact], str] = {
    PushedModel: "published version",
    ServableModel: "served variant",
    ModelBlessing: "verdict of the quality gate",
    InfraBlessing: "verdict of the infra check",
    VariantSelection: "choice of the variant",
    PrivacyAudit: "privacy audit",
    FederatedEvaluation: "evaluation",
    ModelVariants: "variants",
    CompressionReport: "sizes and times of the variants",
    FederatedModel: "trained model",
    PrivacyLedger: "privacy ledger",
    TrainingHistory: "training history",
    ClientExamples: "client examples",
}
"""Artifact type -> what it is, in words; latest first, as in a pipeline."""

_BLESSED = "blessed"
"""The input with the last blessed model, which belongs to another run's lineage."""

BASELINE = "last blessed model, which it was compared with"


@dataclasses.dataclass(frozen=True)
class _Producer:
    """The execution that wrote an artifact: its node, and (name of the input, artifact) of each."""

    node: str
    inputs: Sequence[tuple[str, int]]


def read_lineage(workdir: Workdir, path: str) -> list[dict[str, Any]]:
    """All artifacts that one was made of or judged by, itself first, the client examples last.

    Of a node that was taken from the cache it is the execution that did the work which counts. The
    model that the evaluator compared with is listed, but not what that one was made of.

    Args:
      workdir: holds the store.
      path: folder of the artifact.

    Returns:
      `what` each is in words, its `type`, its `id` in ML Metadata, the `node` that wrote it, and
      its `path`, relative to the work directory. Empty if ML Metadata does not know the path.
    """
    if not workdir.metadata.exists():
        return []
    store = outcome.open_store(workdir)
    found: dict[int, _Producer] = {}
    baselines: set[int] = set()
    wanted = {artifact.id for artifact in store.get_artifacts_by_uri(path)}
    while wanted:
        new = _producers(store, sorted(wanted))
        found |= new
        inputs = {one for producer in new.values() for one in producer.inputs}
        baselines |= {one for name, one in inputs if name == _BLESSED}
        wanted = {one for name, one in inputs if name != _BLESSED} - found.keys()
    baselines -= found.keys()
    found |= _producers(store, sorted(baselines))
    words = {kind.TYPE_NAME: what for kind, what in WHAT.items()}
    order = list(words)
    artifacts = store.get_artifacts_by_id(sorted(found))
    return [
        {
            "what": BASELINE if artifact.id in baselines else words[artifact.type],
            "type": artifact.type,
            "id": artifact.id,
            "node": found[artifact.id].node,
            "path": workdir.relative(artifact.uri),
        }
        for artifact in sorted(artifacts, key=lambda one: (order.index(one.type), one.id))
    ]


def _producers(
    store: metadata_store.MetadataStore, artifacts: Sequence[int]
) -> dict[int, _Producer]:
    """The first execution that wrote each artifact: a later one took it from the cache."""
    kinds = metadata_store_pb2.Event
    wrote: dict[int, int] = {}
    for event in store.get_events_by_artifact_ids(artifacts):
        if event.type == kinds.OUTPUT:
            earliest = min(wrote.get(event.artifact_id, event.execution_id), event.execution_id)
            wrote[event.artifact_id] = earliest
    took: dict[int, list[tuple[str, int]]] = {one: [] for one in wrote.values()}
    for event in store.get_events_by_execution_ids(sorted(took)):
        if event.type == kinds.INPUT:
            took[event.execution_id].append((event.path.steps[0].key, event.artifact_id))
    executions = {one.id: one for one in store.get_executions_by_id(sorted(took))}
    return {
        artifact: _Producer(outcome.node_name(store, executions[one]), took[one])
        for artifact, one in wrote.items()
    }
