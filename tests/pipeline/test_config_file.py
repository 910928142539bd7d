"""config.yaml of a work directory: read back to the same run, and without secrets."""

from pathlib import Path

import pytest

from privet.components.shared.errors import ConfigError, StoreError
from privet.pipeline.config import load_config
from privet.pipeline.config_file import Masked, read_values, without_secrets, write_text

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*/config.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_written_configuration_loads_to_an_equal_one(path, tmp_path):
    config = load_config(path)
    (tmp_path / "config.yaml").write_text(write_text(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_overrides_and_texts_like_numbers_are_kept(project, tmp_path):
    arguments = {"a": "1e5", "b": "-2", "c": "yes", "d": "a: b", "e": "1_000", "f": ".5e3", "g": ""}
    names = ", ".join(arguments)
    project.model.write_text(f"def build_model({names}):\n    pass\n")
    texts = ", ".join(f"{name}: '{text}'" for name, text in arguments.items())
    config = project.load("train.rounds=7", f"model.arguments={{{texts}}}")
    (tmp_path / "again.yaml").write_text(write_text(config))
    again = load_config(tmp_path / "again.yaml")
    assert again == config
    assert again.train.rounds == 7
    assert again.model.arguments == arguments


def test_secrets_are_masked_and_the_file_is_then_refused(project, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    project.model.write_text("def build_model(hub_token, units):\n    pass\n")
    config = project.load(
        "model.arguments={hub_token: hunter2, units: 3}",
        "beam.options=[--s3_secret_access_key=hunter2, --job_name=tiny, "
        "--azure_connection_string=AccountKey=hunter2]",
        "data.files=[]",
        "data.sql={url: 'postgresql://me@host/db', query: q, password_env: DATABASE_PASSWORD}",
    )
    text = write_text(config)
    assert "hunter2" not in text
    told = without_secrets("SQLAlchemy: hunter2 was refused; --job_name=tiny", config)
    assert told == "SQLAlchemy: *** was refused; --job_name=tiny"
    values = read_values(text, tmp_path)
    assert isinstance(values["model"]["arguments"]["hub_token"], Masked)
    assert values["model"]["arguments"]["units"] == 3
    names = ["--s3_secret_access_key", "--job_name=tiny", "--azure_connection_string"]
    assert values["beam"]["options"] == names
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="!masked"):
        load_config(tmp_path / "config.yaml")


def test_password_in_a_url_never_gets_this_far(project):
    with pytest.raises(ConfigError, match="password_env"):
        project.load("data.files=[]", "data.sql={url: 'postgresql://me:pw@host/db', query: q}")


@pytest.mark.parametrize("text", ["a: [", "- a list"])
def test_damaged_file_is_named(text, tmp_path):
    with pytest.raises(StoreError, match=r"c\.yaml"):
        read_values(text, tmp_path / "c.yaml")
