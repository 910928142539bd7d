"""The pipeline on one screen: nodes, and what flows between them."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration import metadata, pipeline
from tfx.types.channel import Channel

from privet.components.audit.component import PrivacyAuditor
from privet.components.compress.component import ModelCompressor
from privet.components.evaluate.component import FederatedEvaluator
from privet.components.ingest.component import ClientExampleGen
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.run import salt_path
from privet.components.push.component import Pusher
from privet.components.report.component import RunReporter
from privet.components.select.component import VariantSelector
from privet.components.shared.artifacts import (
    ClientExamples,
    InfraBlessing,
    ModelBlessing,
    ServableModel,
)
from privet.components.train.component import FederatedTrainer
from privet.components.validate.component import InfraValidator, ModelValidator
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import PipelineConfig
from privet.pipeline.last_blessed import LastBlessedStrategy
from privet.pipeline.workdir import Workdir


def create_pipeline(
    config: PipelineConfig,
    workdir: Workdir | None = None,
    stores: Mapping[str, str] = MappingProxyType({}),
    leave_out: Collection[str] = (),
) -> pipeline.Pipeline:
    """Builds the TFX pipeline of a run; runs nothing and reads no data.

    Args:
      config: the checked configuration.
      workdir: where artifacts, metadata and the serving directory are; runs/<name> by default.
      stores: folder of a client store by the JSON of the data section that it was ingested by: it
        is taken as it is.
      leave_out: names of nodes at the end that are not to be.
    """
    workdir = workdir or Workdir.of(config)
    ingest = _ingest(config.data, str(workdir.ingest_state), stores)
    examples = ingest.outputs["examples"]
    train = FederatedTrainer(
        examples,
        config.model.module_file,
        config.model.function,
        config.training,
        config.seed,
        str(workdir.train_state),
        config.model.arguments,
    )
    ledger = train.outputs["ledger"]
    public = None
    if config.public_data is not None:
        state = str(workdir.public_state)
        public = _ingest(config.public_data, state, stores).with_id("PublicExampleGen")
    compress = ModelCompressor(
        train.outputs["model"],
        ledger,
        examples,
        config.compress,
        public and public.outputs["examples"],
        config.seed,
    )
    variants = compress.outputs["variants"]
    last_blessed = Resolver(
        strategy_class=LastBlessedStrategy,
        candidates=variants,
        servables=Channel(type=ServableModel),
        blessings=Channel(type=ModelBlessing),
        infra_blessings=Channel(type=InfraBlessing),
    ).with_id(RESOLVER)
    evaluate = FederatedEvaluator(
        examples,
        train.outputs["model"],
        variants,
        last_blessed.outputs["servables"],
        config.evaluate,
        config.seed,
        salt_file=_salt_file(config.data, workdir),
    )
    evaluation = evaluate.outputs["evaluation"]
    audit = PrivacyAuditor(
        examples,
        train.outputs["model"],
        ledger,
        train.outputs["history"],
        config.audit,
        config.seed,
    )
    select = VariantSelector(
        variants,
        compress.outputs["report"],
        evaluation,
        ledger,
        examples,
        config.served_name,
        config.select,
        config.card,
    )
    servable, selection = select.outputs["servable"], select.outputs["selection"]
    gate = ModelValidator(
        servable, evaluation, selection, ledger, config.gate, audit.outputs["audit"]
    )
    infra = InfraValidator(servable, examples, config.infra)
    push = Pusher(
        servable,
        gate.outputs["blessing"],
        infra.outputs["blessing"],
        str(workdir.serving(config.push) / config.served_name),
    )
    report = RunReporter(
        config.name,
        config.served_name,
        examples=examples,
        ledger=ledger,
        history=train.outputs["history"],
        compression=compress.outputs["report"],
        evaluation=evaluation,
        audit=audit.outputs["audit"],
        selection=selection,
        blessing=gate.outputs["blessing"],
        infra_blessing=infra.outputs["blessing"],
        pushed=push.outputs["pushed"],
    )
    components = [
        ingest,
        train,
        *([public] if public else []),
        compress,
        last_blessed,
        evaluate,
        audit,
        select,
        gate,
        infra,
        push,
        report,
    ]
    return pipeline.Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(workdir.artifacts),
        components=[one for one in components if one.id not in leave_out],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(workdir.metadata)
        ),
        beam_pipeline_args=beam_arguments(config.beam),
    )


def _ingest(data: IngestConfig, state: str, stores: Mapping[str, str]) -> BaseNode:
    """Ingestion, or a node that takes what one has written elsewhere."""
    folder = stores.get(data.to_json())
    if folder is None:
        return ClientExampleGen(data, state)
    store = Importer(folder, ClientExamples, output_key="examples")
    return store.with_id("ClientExampleGen")


def _salt_file(data: IngestConfig, workdir: Workdir) -> str | None:
    """The secret that client ids are hashed with; None where they are not."""
    return salt_path(data, str(workdir.ingest_state)) if data.client_ids == "hashed" else None


RESOLVER = "LastBlessedModel"
"""The one node that does no work of its own."""

ARTIFACTS = {
    "examples": ("ClientExampleGen", "examples"),
    "model": ("FederatedTrainer", "model"),
    "ledger": ("FederatedTrainer", "ledger"),
    "history": ("FederatedTrainer", "history"),
    "variants": ("ModelCompressor", "variants"),
    "compression": ("ModelCompressor", "report"),
    "evaluation": ("FederatedEvaluator", "evaluation"),
    "audit": ("PrivacyAuditor", "audit"),
    "servable": ("VariantSelector", "servable"),
    "selection": ("VariantSelector", "selection"),
    "blessing": ("ModelValidator", "blessing"),
    "infra_blessing": ("InfraValidator", "blessing"),
    "pushed": ("Pusher", "pushed"),
    "report": ("RunReporter", "report"),
}
"""Name in run.json -> (node, output)."""

NODES = tuple(dict.fromkeys(node for node, _ in ARTIFACTS.values()))
"""The components that every run has, in order."""
