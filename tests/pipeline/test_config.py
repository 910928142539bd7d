"""Reading the configuration file: what is accepted, and how mistakes are explained."""

import json
from pathlib import Path

import pytest
import yaml

from privet.components.shared.errors import ConfigError
from privet.pipeline.config import load_config


def test_relative_paths_start_at_the_files_folder(project, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    shared = "{file: ../clients.json, epsilon: 8, delta: 1e-6}"
    config = project.load(
        "train.initial_weights=public.keras",
        "train.privacy={mechanism: gaussian, epsilon: 1, delta: 1e-6, clip_norm: 1}",
        f"train.privacy.population_budget={shared}",
    )
    assert config.data.patterns == (str(project.rows),)
    assert config.model.module_file == str(project.model)
    assert config.train.initial_weights == str(project.rows.parent / "public.keras")
    budget = config.train.privacy.population_budget
    assert budget.file == str(project.rows.parent / "../clients.json")


def test_uri_is_left_as_it_is(project):
    config = project.load("data.files=gs://bucket/rows-*.csv")
    assert config.data.patterns == ("gs://bucket/rows-*.csv",)


def test_model_name_is_the_pipelines_by_default(project):
    assert project.load().served_name == "tiny"
    assert project.load("model_name=other").served_name == "other"


def test_override_reaches_a_nested_key_and_makes_sections(project):
    config = project.load(
        "train.server_optimizer={learning_rate: 1, momentum: 0.5}", "train.rounds=7"
    )
    assert config.train.server_optimizer.momentum == 0.5
    assert config.train.rounds == 7


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("trian.rounds=3", "unknown configuration key `trian`. Did you mean `train`?"),
        (
            "train.privacy.epsilonn=3",
            "unknown configuration key `train.privacy.epsilonn`. Did you mean `epsilon`?",
        ),
        (
            "data.features={x: {columns: a, dtyp: int64}}",
            "unknown configuration key `data.features[...].dtyp`. Did you mean `dtype`?",
        ),
        ("beam.runner=flinkk", "`beam.runner`: 'flinkk' is none of local, flink"),
        ("train.privacy.mechanism=gausian", "Did you mean 'gaussian'?"),
        ("train.privacy.epsilon=0", "epsilon=0.0 must be > 0"),
        ("train.privacy.epsilon=-1", "epsilon=-1.0 must be > 0"),
        ("train.privacy.delta=1", "delta=1.0 must lie between 1e-13 and 1"),
        ("train.privacy.clip_norm=0", "clip_norm=0.0 must lie between"),
        ("train.privacy.mechanism=none", "promise privacy but mechanism=none gives none"),
        ("train.rounds=ten", "`train.rounds`: Expected `int`, got `str` (got 'ten')"),
        ("train.rounds=0", "rounds=0 must be >= 1"),
        ("train.privacy=", "`train.privacy`: Expected `object`, got `null`"),
        ("train.sampling={kind: poisson}", "cohort_size=None must be >= 1 with kind=poisson"),
        (
            "gate.rules=[{metric: compressed.acuracy, lower_bound: 1}]",
            "names no number of this run. Valid: float.accuracy",
        ),
        ("gate.rules=[{metric: float.mae, upper_bound: 1}]", "metric='float.mae' names no number"),
        ("gate.rules=[{metric: float.loss.p11, upper_bound: 1}]", "also with .mean, .p10"),
        ("gate.rules=[]", "rules=[] would bless any model"),
        (
            "gate.rules=[{metric: personalized.accuracy, lower_bound: 1}]",
            "names no number of this run without evaluate.personalization",
        ),
        ("evaluate.personalization.epochs=0", "epochs=0 must be >= 1"),
        ("gate.rules=[{metric: ledger.epsilon}]", "needs exactly one of lower_bound"),
        ("data.split.eval=1.5", "eval=1.5 must lie between 0 and 1"),
        ("data.label.column=x_0", "columns ['x_0'] are used more than once"),
        ("name=../x", "name='../x' must be letters"),
        (
            "compress.variants=[{quantization: int4}]",
            "'int4' is none of float32, float16, int8_weights, dynamic_range, int8, int16",
        ),
        (
            "compress.variants=[{quantization: int8, ranges: clients}]",
            "compress.variants int8: ranges=clients and fine_tuning.data=clients would look at the "
            "data of clients after training, which no epsilon covers",
        ),
        (
            "compress.variants=[{quantization: int8, fine_tuning: {data: clients}}]",
            "Set ranges: public or fine_tuning.data: public, with public_data; or ranges: "
            "synthetic; or train.quantization_aware with ranges: trained",
        ),
        (
            "compress.variants=[{quantization: int8, ranges: public}]",
            "want public_data, which is missing",
        ),
        (
            "compress.variants=[{quantization: int8, ranges: trained}]",
            "ranges=trained wants train.quantization_aware, which is missing",
        ),
        ("select.variant=dynamic_range", "must be one of the variants that can be served: float32"),
        ("select.variant=k16", "must be one of the variants that can be served: float32"),
        ("train.rounds", "must be key.path=value"),
        ("name.first=x", "'name' is not a section"),
        ("model.module_file=nope.py", "nope.py' does not exist"),
        (
            "model.function=nope",
            "defines no function model.function='nope'; it defines build_model",
        ),
        (
            "model.arguments.units=3",
            "model.arguments: build_model() cannot be called with the arguments units=3: got an "
            "unexpected keyword argument 'units'",
        ),
        ("model.arguments.units=[3]", "Expected `bool | int | float | str`, got `array`"),
        ("model.arguments.units=.inf", "arguments: units=inf must be finite"),
    ],
)
def test_mistake_is_explained(project, override, wanted):
    with pytest.raises(ConfigError) as error:
        project.load(override)
    assert wanted in str(error.value)


def test_what_a_client_adapts_to_is_said_in_one_place(project):
    share, apart = "evaluate.personalization.share=0.5", "data.split.personalization=0.4"
    assert project.load("evaluate.personalization={}", apart).evaluate.personalization is not None
    with pytest.raises(ConfigError, match=r"data\.split\.personalization=0\.4 both say which part"):
        project.load(share, apart)


def test_number_without_a_point_is_a_number(project, edit):
    edit(project.config, "delta: 1.0e-05", "delta: 1e-5")
    assert project.load().train.privacy.delta == 1e-5
    assert project.load("train.privacy.delta=2e-6").train.privacy.delta == 2e-6


def test_optimizer_needs_a_learning_rate(project):
    with pytest.raises(ConfigError, match="missing required field `learning_rate`"):
        project.load("train.server_optimizer={momentum: 0.9}")


def test_privacy_has_no_default(project, edit):
    edit(project.config, "  privacy:\n", "  not_privacy:\n")
    with pytest.raises(ConfigError, match="not_privacy"):
        project.load()
    edit(project.config, "  not_privacy:\n    clip_norm: 1.0\n    delta: 1.0e-05\n", "")
    edit(project.config, "    epsilon: 8\n    mechanism: gaussian\n", "")
    with pytest.raises(ConfigError, match="missing required field `privacy`"):
        project.load()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*nope\.yaml"):
        load_config(tmp_path / "nope.yaml")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_file_that_is_no_mapping_is_refused(tmp_path: Path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(path)


def test_model_file_is_not_run_to_be_checked(project):
    project.model.write_text("raise SystemExit\ndef build_model(): ...\n")
    assert project.load().model.function == "build_model"


def test_model_function_may_be_imported_or_assigned(project):
    project.model.write_text("from somewhere import build_model\n")
    project.load()
    project.model.write_text("build_model = lambda: None\n")
    project.load("model.arguments.units=3")  # what it takes is not known before it runs


def test_arguments_of_the_model_are_checked_against_its_signature(project):
    project.model.write_text("def build_model(a, /, units, *rest, name: str = 'x', **more): ...")
    with pytest.raises(ConfigError) as error:
        project.load("model.arguments={units: 2}")
    shown = "build_model(a, /, units, *rest, name: str = 'x', **more) cannot"
    assert shown in str(error.value)
    assert "missing a required argument: 'a'" in str(error.value)

    project.model.write_text("def build_model(units, *, name: str = 'x', **more): ...")
    given = {"units": 2, "name": "y", "any": 0.5, "bias": True}
    assert project.load(f"model.arguments={given}").model.arguments == given

    project.model.write_text("@decorated\ndef build_model(): ...")
    project.load("model.arguments={units: 2}")


def test_model_file_with_a_syntax_error_is_refused(project):
    project.model.write_text("def build_model(:\n")
    with pytest.raises(ConfigError, match="is not valid Python"):
        project.load()


def test_clients_without_privacy_may_be_looked_at(project):
    config = project.load(
        "train.privacy={mechanism: none}",
        "gate.rules=[{metric: compressed.accuracy, lower_bound: 0}]",
        "compress.variants=[{quantization: int8, ranges: clients}]",
    )
    assert config.compress.asking_for_clients == ["int8"]


def test_public_data_are_read_like_the_clients(project):
    public = project.config.with_name("public.csv")
    config = project.load(f"public_data.files={public.name}")
    assert config.public_data.files == (str(public),)
    assert config.public_data.label == config.data.label
    assert config.public_data.features == config.data.features
    assert config.public_data.partition.kind == "iid"  # they belong to nobody
    assert config.public_data.client_id is None


def test_the_clients_own_files_are_not_public(project):
    (name,) = {Path(pattern).name for pattern in project.load().data.files}
    for pattern in (name, f"./{name}", "*" + name[-5:]):
        with pytest.raises(ConfigError, match=r"is one of the clients' in data\.files"):
            project.load(f"public_data.files='{pattern}'")


def test_the_clients_files_of_any_span_are_not_public(project):
    (pattern,) = project.load().data.files
    spanned = Path(pattern).with_name("rows-3.csv")
    spanned.write_bytes(Path(pattern).read_bytes())
    spans = ("data.files=rows-{SPAN}.csv", "data.spans=true")
    with pytest.raises(ConfigError, match=r"rows-3\.csv, which is one of the clients'"):
        project.load(*spans, "public_data.files=rows-3.csv")


@pytest.mark.parametrize(
    ("data", "public"),
    [
        (
            {"sql": {"url": "sqlite:///rows.db", "query": "SELECT * FROM rows"}},
            {"sql": {"url": "sqlite:///rows.db", "query": "SELECT *  FROM rows\n"}},
        ),
        (
            {"python": {"module_file": "rows.py"}},
            {"python": {"module_file": "./rows.py", "function": "examples"}},
        ),
        ({"dataset": {"name": "emnist"}}, {"dataset": {"name": "emnist", "split": "test"}}),
    ],
)
def test_the_clients_rows_from_elsewhere_are_not_public(project, data, public):
    other = ["data.files=[]", f"data={_with_source(project, data)}"]
    with pytest.raises(ConfigError, match=r"is that of the clients' in data\."):
        project.load(*other, f"public_data={json.dumps(public)}")


def _with_source(project, source):
    rest = yaml.safe_load(project.config.read_text())["data"]
    del rest["files"]
    return json.dumps({**rest, **source})
