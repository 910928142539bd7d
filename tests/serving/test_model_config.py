"""A ModelServerConfig read from text, and the checks that TF Serving makes on it."""

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from privet.components.shared.errors import ConfigError
from privet.serving.model_config import (
    ModelConfig,
    check_labels,
    check_platforms,
    parse_models,
    read_config_file,
)
from privet.serving.status import Code, RequestError
from privet.serving.version_policy import All, Latest, Specific

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


def one(fields: str) -> str:
    return f"model_config_list {{ config {{ {fields} }} }}"


def parse(text: str) -> tuple[ModelConfig, ...] | None:
    return parse_models(text_format.Parse(text, ModelServerConfig()))


def test_example_in_the_docs(tmp_path: Path) -> None:
    (text,) = re.findall(r"```proto\n(model_config_list.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path / "models.config"
    path.write_text(text)

    assert read_config_file(path) == (
        ModelConfig(
            "digits",
            Path("/models/digits"),
            Specific(frozenset({42, 43})),
            {"stable": 42, "canary": 43},
        ),
        ModelConfig("hospitals", Path("/models/hospitals"), platform="tflite"),
    )


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", Latest(1)),
        ("model_version_policy { latest { } }", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { all { } }", All()),
        ("model_version_policy { specific { versions: [7, 2] } }", Specific(frozenset({2, 7}))),
    ],
)
def test_policies(policy: str, expected: object) -> None:
    found = parse(one(f"name: 'm' base_path: '/m' model_type: TENSORFLOW {policy}"))
    assert found == (ModelConfig("m", Path("/m"), expected),)  # type: ignore[arg-type]


def test_empty_file_asks_for_nothing_but_an_empty_list_for_no_models() -> None:
    assert parse("") is None
    assert parse("model_config_list { }") == ()


GOOD = "base_path: '/m' model_platform: 'tensorflow'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"model_config_list {{ config {{ name: 'm' {GOOD} }} config {{ name: 'm' {GOOD} }} }}",
            "Illegal to list model m multiple times in config list",
        ),
        (
            one("name: 'm' base_path: 'models/m' model_platform: 'tensorflow'"),
            "Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        (
            one("name: 'm' base_path: 'gs://b/m' model_platform: 'tensorflow'"),
            "Expected model m to have a local base path, since this server reads no remote ones; "
            "got base_path()=gs://b/m",
        ),
        (
            one("name: 'm' base_path: '/m'"),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            one(f"name: 'm' {GOOD} model_type: TENSORFLOW"),
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            one("name: 'm' base_path: '/m' model_type: OTHER"),
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            one("name: 'm' base_path: '/m' model_platform: 'torch'"),
            "Model m requests unsupported platform torch",
        ),
        (one(GOOD), "Wanted a name for every model in config list; got an empty one"),
        (
            one(f"name: 'm' {GOOD} logging_config {{ }}"),
            "No request-logger-creator provided.",
        ),
        (
            "custom_model_config { type_url: 'a' }",
            "ModelServer does not yet support custom model config.",
        ),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        parse(text)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)

    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{path}; {message}")):
        read_config_file(path)


def test_no_model_changes_its_platform() -> None:
    before = {"m": ModelConfig("m", Path("/m"))}
    check_platforms(before, [ModelConfig("m", Path("/n")), ModelConfig("n", Path("/n"))])
    with pytest.raises(RequestError) as caught:
        check_platforms(before, [ModelConfig("m", Path("/m"), platform="tflite")])
    assert caught.value.message == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new "
        "platform requested is tflite"
    )


@pytest.mark.parametrize(
    ("labels", "without_flag", "with_flag"),
    [
        ({"stable": 1}, True, True),  # as it was
        ({"stable": 2}, True, True),  # moves to a version that serves
        ({"stable": 9}, False, False),  # in use: its requests would fail
        ({"canary": 9}, False, True),  # new: nobody uses it yet
        ({}, True, True),
    ],
)
def test_labels(labels: dict[str, int], without_flag: bool, with_flag: bool) -> None:
    before = {"m": ModelConfig("m", Path("/m"), labels={"stable": 1})}
    for flag, accepted in ((False, without_flag), (True, with_flag)):
        after = [ModelConfig("m", Path("/m"), labels=labels)]
        if accepted:
            check_labels(before, after, {"m": {1, 2}}, flag)
            continue
        with pytest.raises(RequestError) as caught:
            check_labels(before, after, {"m": {1, 2}}, flag)
        assert (caught.value.code, caught.value.message) == (
            Code.FAILED_PRECONDITION,
            "Request to assign label to version 9 of model m, which is not currently available "
            "for inference",
        )
