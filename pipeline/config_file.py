"""WORKDIR/config.yaml: the configuration of a run, with all defaults and overrides, read back."""

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from privet.components.shared.errors import StoreError
from privet.pipeline.config import PipelineConfig

_SECRETS = re.compile(
    "pass|pwd|secret|token|credential|connection_string|(access|account|api|private)_?key",
    re.IGNORECASE,
)

_SHORTEST = 4  # characters of what is searched for in texts: fewer hide nothing and blot words

_HEADER = """\
# The configuration of the last run in this folder: every default written out, overrides applied,
# paths absolute. `privet run` takes it as it is.
"""

_HEADER_MASKED = """\
# The configuration of the last run in this folder: every default written out, overrides applied,
# paths absolute. What looks like a secret stands here as !masked: `privet run` refuses the file
# until it is put back.
"""


class Masked(str):
    """Stands for a secret; a tag that no configuration may hold, so that nobody runs with it."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, for a reader that takes 1e5 for a number, as YAML 1.2 does."""

    def ignore_aliases(self, data: Any) -> bool:
        """An anchor would only puzzle the reader."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quotes what begins as a number does; PyYAML itself quotes the rest that needs it."""
    style = '"' if re.match(r"[-+.]?\d", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Masked, lambda dumper, text: dumper.represent_scalar("!masked", str(text)))


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also reads what is masked."""


_Loader.add_constructor("!masked", lambda _, node: Masked(node.value))


def write_text(config: PipelineConfig) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one.

    Passwords of databases are in no configuration (`data.sql.password_env`). Of `beam.options` and
    `model.arguments`, whatever looks like a secret is masked; `load_config` refuses the tag.

    Args:
      config: as `load_config` gave it.
    """
    values = json.loads(msgspec.json.encode(config))
    options = [_masked_option(option) for option in values["beam"]["options"]]
    arguments = {
        name: Masked() if isinstance(value, str) and _SECRETS.search(name) else value
        for name, value in values["model"]["arguments"].items()
    }
    values["beam"]["options"] = options
    values["model"]["arguments"] = arguments
    masked = any(isinstance(one, Masked) for one in (*options, *arguments.values()))
    body = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return (_HEADER_MASKED if masked else _HEADER) + body


def without_secrets(text: str, config: PipelineConfig) -> str:
    """The text with every secret of a configuration replaced, for what is kept and shown.

    Args:
      text: such as an error, which a library may have put anything into.
      config: of the run.
    """
    for secret in sorted(_secrets(config), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(config: PipelineConfig) -> set[str]:
    """What `write_text` masks, and the databases' passwords."""
    options = {option for option in config.beam.options if _SECRETS.search(option)}
    found = {option.partition("=")[2] for option in options}
    for name, value in config.model.arguments.items():
        if isinstance(value, str) and _SECRETS.search(name):
            found.add(value)
    for data in filter(None, (config.data, config.public_data)):
        if data.sql is not None and data.sql.password_env is not None:
            found.add(os.environ.get(data.sql.password_env, ""))
    return {secret for secret in found if len(secret) >= _SHORTEST}


def read_text(path: Path) -> str | None:
    """What `write_text` gave the last run; None if an earlier version of Privet ran."""
    return path.read_text(encoding="utf-8") if path.is_file() else None


def read_values(text: str, where: Path) -> dict[str, Any]:
    """The plain values of such a text; masked ones are `Masked`.

    Args:
      text: what `write_text` gave.
      where: its file, for the error message.

    Raises:
      StoreError: it is not such a text.
    """
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise StoreError(
            f"{where} is not valid YAML: {error}. Run again to have it anew."
        ) from error
    if not isinstance(values, dict):
        raise StoreError(f"{where} holds no configuration. Run again to have it anew.")
    return values


def _masked_option(option: str) -> str:
    """The option, with its value masked if it looks like a secret."""
    return Masked(option.partition("=")[0]) if _SECRETS.search(option) else option
