"""Pipeline validation without running: every example compiles to the wanted nodes and edges."""

import json
from pathlib import Path

import pytest
from tfx.dsl.compiler import compiler

from privet.pipeline.build import ARTIFACTS, NODES, create_pipeline
from privet.pipeline.config import load_config
from privet.pipeline.workdir import Workdir

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*/config.yaml"))

EDGES = {
    "ClientExampleGen": {},
    "FederatedTrainer": {"examples": "ClientExampleGen"},
    "ModelCompressor": {
        "model": "FederatedTrainer",
        "ledger": "FederatedTrainer",
        "examples": "ClientExampleGen",
    },
    "LastBlessedModel": {
        "candidates": "ModelCompressor",
        "servables": None,
        "blessings": None,
        "infra_blessings": None,
    },
    "FederatedEvaluator": {
        "examples": "ClientExampleGen",
        "model": "FederatedTrainer",
        "variants": "ModelCompressor",
        "blessed": "LastBlessedModel",
    },
    "PrivacyAuditor": {
        "examples": "ClientExampleGen",
        "model": "FederatedTrainer",
        "ledger": "FederatedTrainer",
        "history": "FederatedTrainer",
    },
    "VariantSelector": {
        "variants": "ModelCompressor",
        "report": "ModelCompressor",
        "evaluation": "FederatedEvaluator",
        "ledger": "FederatedTrainer",
        "examples": "ClientExampleGen",
    },
    "ModelValidator": {
        "servable": "VariantSelector",
        "evaluation": "FederatedEvaluator",
        "selection": "VariantSelector",
        "ledger": "FederatedTrainer",
        "audit": "PrivacyAuditor",
    },
    "InfraValidator": {"servable": "VariantSelector", "examples": "ClientExampleGen"},
    "Pusher": {
        "servable": "VariantSelector",
        "blessing": "ModelValidator",
        "infra_blessing": "InfraValidator",
    },
    "RunReporter": {
        "examples": "ClientExampleGen",
        "ledger": "FederatedTrainer",
        "history": "FederatedTrainer",
        "compression": "ModelCompressor",
        "evaluation": "FederatedEvaluator",
        "audit": "PrivacyAuditor",
        "selection": "VariantSelector",
        "blessing": "ModelValidator",
        "infra_blessing": "InfraValidator",
        "pushed": "Pusher",
    },
}
"""Node -> input -> producer; None for any artifact in the store."""


def compiled(config, workdir):
    """The nodes of the compiled pipeline by id."""
    pipeline = compiler.Compiler().compile(create_pipeline(config, workdir))
    return {node.pipeline_node.node_info.id: node.pipeline_node for node in pipeline.nodes}


def parameter(node, name):
    """A parameter's value in the compiled node."""
    value = node.parameters.parameters[name].field_value
    return getattr(value, value.WhichOneof("value"))


def test_there_are_examples():
    assert {path.parent.name for path in EXAMPLES} >= {"digits", "hospitals", "seed_mlp"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_example_compiles_to_the_wanted_graph(path, tmp_path):
    config = load_config(path)
    nodes = compiled(config, Workdir.at(tmp_path))
    assert nodes.keys() == EDGES.keys()
    for name, wanted in EDGES.items():
        inputs = nodes[name].inputs.inputs
        assert {key for key in inputs if not key.startswith("_")} == wanted.keys()
        assert set(nodes[name].upstream_nodes) == {p for p in wanted.values() if p}
        for key, producer in wanted.items():
            for channel in inputs[key].channels:  # a resolver's own inputs have none
                assert channel.producer_node_query.id == producer


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_parameters_reach_the_nodes(path, tmp_path):
    config = load_config(path)
    nodes = compiled(config, Workdir.at(tmp_path))
    steps = {
        "ClientExampleGen": config.data,
        "FederatedTrainer": config.train,
        "ModelCompressor": config.compress,
        "ModelValidator": config.gate,
        "InfraValidator": config.infra,
    }
    for node, step in steps.items():
        assert json.loads(parameter(nodes[node], "config")) == json.loads(step.to_json())
    assert parameter(nodes["FederatedTrainer"], "module_file") == config.model.module_file
    assert parameter(nodes["FederatedTrainer"], "seed") == config.seed
    assert parameter(nodes["FederatedTrainer"], "state") == str(tmp_path / "train")
    assert parameter(nodes["Pusher"], "base_path") == str(tmp_path / "serving" / config.name)


def test_every_component_carries_the_version_of_its_source(tmp_path, project):
    nodes = compiled(project.load(), Workdir.at(tmp_path))
    versions = {name: parameter(nodes[name], "source_version") for name in NODES}
    assert len(set(versions.values())) == len(NODES)


def test_wrong_wiring_fails_at_build(project, tmp_path):
    from privet.components.compress.component import ModelCompressor
    from privet.components.ingest.component import ClientExampleGen

    config = project.load()
    examples = ClientExampleGen(config.data, str(tmp_path)).outputs["examples"]
    with pytest.raises(TypeError, match="FederatedModel"):
        ModelCompressor(examples, examples, examples, config.compress)


def test_public_data_are_ingested_by_a_node_of_their_own(project, tmp_path):
    public = project.folder / "public.csv"
    public.write_text(project.rows.read_text())
    nodes = compiled(project.load(f"public_data.files={public.name}"), Workdir.at(tmp_path))
    (channel,) = nodes["ModelCompressor"].inputs.inputs["public"].channels
    assert channel.producer_node_query.id == "PublicExampleGen"
    (channel,) = nodes["FederatedTrainer"].inputs.inputs["examples"].channels
    assert channel.producer_node_query.id == "ClientExampleGen"


def test_stores_that_are_there_are_imported_and_nodes_at_the_end_can_be_left_out(project, tmp_path):
    public = project.folder / "public.csv"
    public.write_text(project.rows.read_text())
    config = project.load(f"public_data.files={public.name}")
    stores = {config.data.to_json(): "/clients", config.public_data.to_json(): "/public"}
    short = create_pipeline(config, Workdir.at(tmp_path), stores, {"Pusher", "RunReporter"})
    nodes = {
        node.pipeline_node.node_info.id: node.pipeline_node
        for node in compiler.Compiler().compile(short).nodes
    }
    assert set(nodes) & {"Pusher", "RunReporter"} == set()
    assert parameter(nodes["ClientExampleGen"], "artifact_uri") == "/clients"
    assert parameter(nodes["PublicExampleGen"], "artifact_uri") == "/public"
    (channel,) = nodes["ModelCompressor"].inputs.inputs["public"].channels
    assert channel.producer_node_query.id == "PublicExampleGen"


def test_beam_steps_never_look_for_another_runner(project, tmp_path):
    arguments = create_pipeline(project.load(), Workdir.at(tmp_path)).beam_pipeline_args
    assert "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner" in arguments


def test_run_json_names_an_artifact_of_every_component(project, tmp_path):
    pipeline = create_pipeline(project.load(), Workdir.at(tmp_path))
    outputs = {component.id: set(component.outputs) for component in pipeline.components}
    for node, output in ARTIFACTS.values():
        assert output in outputs[node]
    assert set(NODES) == set(EDGES) - {"LastBlessedModel"}
