"""The grid of a sweep: one YAML file, and the points that it makes."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from privet.components.shared.configuration import Config, check
from privet.components.shared.errors import ConfigError
from privet.pipeline.config import read_yaml

_LONGEST_VALUE, _LONGEST_NAME = 32, 120  # characters; a name is that of a folder
_PRUNING = "train.pruning"
_AS_CONFIGURED = "as-configured"  # the one configuration of a grid that has seeds only

Named = dict[str | int | float, dict[str, Any]]
"""Settings by the name of their value: {"none": {"train.privacy": {"mechanism": "none"}}}."""


class DenseSmallConfig(Config, frozen=True):
    """What makes a model small, to set a dense one beside each pruned one.

    Attributes:
      argument: of the model function, an integer with which the number of weights grows.
      least, most: its smallest and largest value.
    """

    argument: str
    least: int = 1
    most: int = 512

    def __post_init__(self) -> None:
        check(
            0 <= self.least < self.most,
            f"least={self.least} and most={self.most} must be 0 <= least < most",
        )

    @property
    def key(self) -> str:
        """Its key path in the configuration."""
        return f"model.arguments.{self.argument}"


class GridConfig(Config, frozen=True):
    """What a sweep varies.

    Attributes:
      grid: the levers; every combination of their values is a point. A lever is a key path with
        its values, or any name with named values, each of which sets key paths of its own.
      seeds: with each of which every point runs; by default that of the configuration.
      dense_small: adds a small dense model for every point that prunes.
    """

    grid: dict[str, tuple[Any, ...] | Named] = msgspec.field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    dense_small: DenseSmallConfig | None = None

    def __post_init__(self) -> None:
        check(bool(self.grid or self.seeds), "grid and seeds are empty: there is nothing to vary")
        for lever, values in self.grid.items():
            _check_key(lever)
            check(bool(values), f"grid: {lever} has no values")
            for _, settings in _choices(lever, values):
                for key, value in settings.items():
                    _check_key(key)
                    _check_plain(key, value)
                for one, other in itertools.permutations(settings, 2):
                    _check_apart(one, other)
        for these, those in itertools.combinations(self.levers.values(), 2):
            for one, other in itertools.product(these, those):
                _check_apart(one, other)
                _check_apart(other, one)
        varied = {key for keys in self.levers.values() for key in keys}
        check(not (self.seeds and "seed" in varied), "seeds and grid both vary seed: remove one")
        check(len(set(self.seeds)) == len(self.seeds), f"seeds={list(self.seeds)} has one twice")

    @property
    def levers(self) -> dict[str, tuple[str, ...]]:
        """The key paths that each lever sets."""
        return {
            lever: tuple(dict.fromkeys(key for _, one in _choices(lever, values) for key in one))
            for lever, values in self.grid.items()
        }


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      name: of its folder.
      settings: values of key paths, beside those of the sweep's configuration.
      seed: None for that of the configuration.
      levers: the value of each lever, or its name.
      configuration: its name without the seed; points that share it are repeats.
    """

    name: str
    settings: Mapping[str, Any]
    seed: int | None = None
    levers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    configuration: str = ""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings as `privet run --set` takes them."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return tuple(f"{key}={_json(value)}" for key, value in {**self.settings, **seed}.items())


def read_grid(path: str | Path) -> GridConfig:
    """Reads a grid file.

    Raises:
      ConfigError: the file is missing or not YAML, or a key or value of it is wrong.
    """
    try:
        return GridConfig.from_mapping(read_yaml(Path(path)))
    except ConfigError as error:
        raise ConfigError(f"--grid {path}: {error}") from error


def points_of(grid: GridConfig) -> list[Point]:
    """Every combination of values, with every seed; the last key varies fastest.

    Raises:
      ConfigError: two combinations are the same.
    """
    choices = [_choices(lever, values) for lever, values in grid.grid.items()]
    points = []
    for chosen in itertools.product(*choices):
        levers = dict(zip(grid.grid, (label for label, _ in chosen), strict=True))
        settings = {key: value for _, one in chosen for key, value in one.items()}
        points += [
            Point(_name(grid, levers, seed), settings, seed, levers, _name(grid, levers, None))
            for seed in (grid.seeds or (None,))
        ]
    names = [point.name for point in points]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"grid: a value stands twice in a list: {', '.join(twice)}. Remove it.")
    return points


def dense_small_point(grid: GridConfig, pruned: Point, width: int) -> Point:
    """The small dense model to set beside a pruned one.

    Args:
      grid: has `dense_small`.
      pruned: the point.
      width: value of the argument.
    """
    assert grid.dense_small is not None
    kept = {key: value for key, value in pruned.settings.items() if not _of_pruning(key)}
    # Last in order: what a whole section sets before is then replaced.
    argument = {grid.dense_small.key: width}
    others = {key: value for key, value in kept.items() if key not in argument}
    levers = {
        lever: value
        for lever, value in pruned.levers.items()
        if not all(_of_pruning(key) or key in argument for key in grid.levers[lever])
    }
    levers |= argument
    return Point(
        f"dense-small_{_name(grid, levers, pruned.seed)}",
        {**others, _PRUNING: None, **argument},
        pruned.seed,
        levers,
        f"dense-small_{_name(grid, levers, None)}",
    )


def _choices(lever: str, values: tuple[Any, ...] | Named) -> list[tuple[Any, dict[str, Any]]]:
    """The values of a lever, or their names, each with the settings that it stands for."""
    if isinstance(values, dict):
        return list(values.items())
    return [(value, {lever: value}) for value in values]


def _of_pruning(key: str) -> bool:
    return key == _PRUNING or key.startswith(f"{_PRUNING}.")


def _check_key(key: str) -> None:
    check(re.fullmatch(r"\w[^\s=]*", key) is not None, f"grid: {key!r} is no key path")


def _check_apart(one: str, other: str) -> None:
    """Two that are set together: with one inside the other, their order would decide."""
    check(one != other, f"grid: {one} is set by two levers: vary it by one")
    check(not other.startswith(f"{one}."), f"grid: {other} is a part of {one}: vary one")


def _check_plain(key: str, value: Any) -> None:
    try:
        _json(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"grid: {key}: {value!r} is no plain value: {error}") from error


def _json(value: Any) -> str:
    """On one line; YAML reads it as the same value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _name(grid: GridConfig, levers: Mapping[str, Any], seed: int | None) -> str:
    """A name for a folder: the values, each after the end of its lever."""
    keys = [*grid.grid, *([grid.dense_small.key] if grid.dense_small else [])]
    keys += ["seed"] if grid.seeds else []
    values = {**levers, **({} if seed is None else {"seed": seed})}
    parts = [f"{_end_of(key, keys)}-{_text(value)}" for key, value in values.items()]
    return _shortened("_".join(parts) or _AS_CONFIGURED, _LONGEST_NAME)


def _end_of(key: str, keys: Iterable[str]) -> str:
    """As little of a key path as tells it from the others."""
    parts, others = key.split("."), [other.split(".") for other in keys if other != key]
    for count in range(1, len(parts)):
        end = parts[-count:]
        if all(other[-count:] != end for other in others):
            return ".".join(end)
    return key


def _text(value: Any) -> str:
    """A value as part of a name of a file; with a digest where that does not tell it whole."""
    plain = value if isinstance(value, str) else _json(value)
    safe = re.sub(r"[^A-Za-z0-9.+-]+", "-", plain)
    if safe == plain != "" and len(plain) <= _LONGEST_VALUE:
        return plain
    return f"{safe.strip('-')[:_LONGEST_VALUE]}-{_digest(plain)}".lstrip("-")


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 7]}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
