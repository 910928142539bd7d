"""docs/configuration.md: every key is there, with its default, and the complete example loads."""

import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from privet.components.ingest.config import IngestConfig
from privet.components.shared.configuration import Config
from privet.components.train.config import TrainConfig
from privet.pipeline.config import PipelineConfig, load_config

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

_ROW = re.compile(
    r"^\| `(?P<key>[^`]+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| (?P<rule>.+) \|$"
)
_REQUIRED = "required"


def documented() -> dict[str, dict[str, str]]:
    """Key -> its row's cells."""
    matches = [_ROW.match(line) for line in TEXT.splitlines()]
    rows = [match.groupdict() for match in matches if match]
    keys = [row["key"] for row in rows]
    assert len(set(keys)) == len(keys), "a key is documented twice"
    return {row["key"]: row for row in rows}


def fields(
    struct: type[Config] = PipelineConfig, prefix: str = ""
) -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Every key of the YAML file, as the document writes it, with its field."""
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        key = f"{prefix}{field.encode_name}"
        yield key, field
        if key == "public_data":  # its keys are those of data
            continue
        for inner, suffix in structs_in(hints[field.name]):
            yield from fields(inner, f"{key}{suffix}.")


def structs_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[Config], str]]:
    """The Config classes of an annotation, with what stands between the key and their fields."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation, suffix
        return
    origin = typing.get_origin(annotation)
    inside = {dict: ".<name>", tuple: "[]"}.get(origin, suffix)
    for part in typing.get_args(annotation):
        yield from structs_in(part, inside)


def literals_in(annotation: Any) -> Iterator[str]:
    """The words that an annotation allows."""
    if typing.get_origin(annotation) is typing.Literal:
        yield from typing.get_args(annotation)
        return
    for part in typing.get_args(annotation):
        yield from literals_in(part)


def examples() -> list[str]:
    """The complete example, and after it those of sections that exclude some of its keys."""
    return re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def keys_of(value: Any, prefix: str = "") -> Iterator[str]:
    """The keys of parsed YAML, as the document writes them."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if prefix == "public_data.":  # its keys are those of data
                continue
            if prefix == "data.features.":  # its names are the user's own
                yield from keys_of(inner, f"{prefix}<name>.")
                continue
            yield f"{prefix}{name}"
            yield from keys_of(inner, f"{prefix}{name}.")
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{prefix.removesuffix('.')}[].")


def test_every_key_is_documented_and_no_other() -> None:
    assert set(documented()) == {key for key, _ in fields()}


@pytest.mark.parametrize(("key", "field"), list(fields()))
def test_the_documented_default_is_the_real_one(key: str, field: msgspec.structs.FieldInfo) -> None:
    cell = documented()[key]["default"].strip()
    if field.required:
        assert cell == _REQUIRED
        return
    assert cell != _REQUIRED
    default = field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    if isinstance(default, tuple):
        default = list(default)  # as YAML writes it
    stated = yaml.safe_load(cell.strip("`"))
    if isinstance(default, Config):
        assert type(default).from_mapping(stated) == default
    elif isinstance(default, list) and default and isinstance(default[0], Config):
        assert [type(default[0]).from_mapping(one) for one in stated] == default
    else:
        assert stated == default
        assert type(stated) is type(default)


@pytest.mark.parametrize(("key", "field"), list(fields()))
def test_the_documented_type_names_every_allowed_word(
    key: str, field: msgspec.structs.FieldInfo
) -> None:
    cell = documented()[key]["type"]
    allowed = list(literals_in(field.type))
    assert re.findall(r"`([^`]+)`", cell) == [str(word) for word in allowed]


def test_the_complete_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(examples()[0], encoding="utf-8")
    tmp_path.joinpath("model.py").write_text("def build_model():\n    ...\n", encoding="utf-8")
    config = load_config(path)
    assert config.train.privacy.epsilon == 4
    assert config.data.files == (str(tmp_path / "data/digits-*.csv"),)


@pytest.mark.parametrize("other", examples()[1:])
def test_the_other_examples_load(other: str) -> None:
    sections = yaml.safe_load(other)
    if "data" in sections:
        IngestConfig.from_mapping({"label": {"column": "outcome"}, **sections["data"]})
    else:
        TrainConfig.from_mapping(sections["train"])


def test_the_examples_have_every_key() -> None:
    shown = {key for one in examples() for key in keys_of(yaml.safe_load(one))}
    assert shown == {key for key, _ in fields()}


def test_every_struct_is_named_with_its_file() -> None:
    structs = {inner for key, field in fields() for inner, _ in structs_in(field.type)} | {
        PipelineConfig
    }
    for struct in structs:
        assert f"`{struct.__name__}`" in TEXT, struct
        file = struct.__module__.removeprefix("privet.").replace(".", "/") + ".py"
        assert f"`{file}`" in TEXT, file
