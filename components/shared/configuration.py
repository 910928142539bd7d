"""Reading configuration: frozen structs that check themselves, and errors that name the key.

Every step's configuration is a subclass of `Config`. It crosses into a TFX component as one
JSON string (`to_json`, `from_json`), because TFX fails at launch on mixed dictionaries.
"""

import difflib
import json
import re
import typing
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from privet.components.shared.errors import ConfigError

_AT = re.compile(r"^(?P<problem>.*?)(?: - at `(?P<path>\$[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all configuration: immutable, keyword-only, refuses keys that it does not know.

    A subclass checks rules across its fields in `__post_init__` by raising ValueError (with
    name=value and the rule); the reader turns that into a ConfigError with the key's path.
    """

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Builds the configuration out of plain values.

        Args:
          values: what YAML or JSON gave.
          where: prefix of the path in error messages, such as "train".

        Raises:
          ConfigError: a key is unknown (the nearest valid one is named), missing or wrong.
        """
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ConfigError(_explain(str(error), cls, values, where)) from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads back what `to_json` wrote."""
        return cls.from_mapping(json.loads(text))

    def to_json(self) -> str:
        """The configuration as one line of JSON: equal configurations give equal text."""
        return msgspec.json.encode(self, order="deterministic").decode()


def check(rule: bool, message: str) -> None:
    """Raises ValueError(message) unless the rule holds; for use in `__post_init__`."""
    if not rule:
        raise ValueError(message)


def _explain(message: str, cls: type, values: Any, where: str) -> str:
    """Turns msgspec's message into ours: the path as a user writes it, and what to try."""
    match = _AT.match(message)
    assert match is not None  # the pattern matches every string
    problem = match["problem"]
    path = (match["path"] or "$").removeprefix("$").lstrip(".")
    full_path = ".".join(part for part in (where, path) if part)
    unknown = _UNKNOWN.search(problem)
    if unknown:
        key = unknown["key"]
        valid = _fields_at(cls, path)
        near = difflib.get_close_matches(key, valid, n=1)
        name = ".".join(part for part in (full_path, key) if part)
        hint = f"Did you mean `{near[0]}`?" if near else f"Valid keys: {', '.join(sorted(valid))}."
        return f"unknown configuration key `{name}`. {hint}"
    choices = [name for name in _choices_at(cls, path) if problem.startswith("Invalid enum value")]
    if choices:
        given = str(_value_at(values, path))
        near = difflib.get_close_matches(given, choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"`{full_path}`: {given!r} is none of {', '.join(choices)}.{hint}"
    if full_path:
        value = _value_at(values, path)
        shown = "" if value is _ABSENT or isinstance(value, Mapping) else f" (got {value!r})"
        return f"`{full_path}`: {problem}{shown}"
    return problem


_ABSENT = object()


def _value_at(values: Any, path: str) -> Any:
    """The value that a dotted path names, or _ABSENT."""
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, (list, tuple)) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return _ABSENT
    return values


def _fields_at(cls: type, path: str) -> list[str]:
    """The valid keys of the struct that a path such as `data.features[...]` leads to."""
    found = _structs_in(_annotation_at(cls, path))
    return list(found[0].__struct_fields__) if found else []


def _choices_at(cls: type, path: str) -> list[str]:
    """The values that a Literal at the path allows."""
    annotation = _annotation_at(cls, path)
    parts = [annotation, *typing.get_args(annotation)]  # the Literal may be one of a union
    literals = [part for part in parts if typing.get_origin(part) is typing.Literal]
    return [str(choice) for literal in literals for choice in typing.get_args(literal)]


def _annotation_at(cls: type, path: str) -> Any:
    """The type annotation that a dotted path leads to.

    msgspec writes mapping values as [...] and sequence items as [0]: both stay within the
    annotation of the field that holds them.
    """
    annotation: Any = cls
    for part in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", "", path)):
        found = _structs_in(annotation)
        annotation = typing.get_type_hints(found[0]).get(part) if found else None
    return annotation


def _structs_in(annotation: Any) -> list[type[Config]]:
    """The Config classes that an annotation mentions, outermost first."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _structs_in(part)]
