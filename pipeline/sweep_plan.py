"""The points of a sweep, checked before the first one runs."""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch
from privet.components.shared import files
from privet.components.shared.errors import ConfigError, ModelError, PrivetError
from privet.components.shared.schema import Schema
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig, PipelineConfig, load_config
from privet.pipeline.dense_small import Shapes, number_of_weights, widest_within
from privet.pipeline.grid import GridConfig, Point, dense_small_point, points_of
from privet.pipeline.plan import stated_schema, survey_data, weight_shapes
from privet.pipeline.workdir import Workdir

_SHOWN_PROBLEMS = 10


@dataclasses.dataclass(frozen=True)
class Planned:
    """A point that has been checked.

    Attributes:
      point: its name and settings.
      config: of its run.
      weights: that training moves.
      nonzero: how many of them its pruning keeps.
      inputs: digest of what decides the result: configuration, model file, data.
      dense_small_of: names of the pruned points that it is the small dense model of.
    """

    point: Point
    config: PipelineConfig
    weights: int
    nonzero: int
    inputs: str
    dense_small_of: tuple[str, ...] = ()

    def workdir(self, root: Path) -> Workdir:
        """The work directory of the point in that of the sweep."""
        return Workdir.at(root / "points" / self.point.name)


def plan_sweep(path: str | Path, grid: GridConfig, overrides: Sequence[str] = ()) -> list[Planned]:
    """Checks every point of a sweep: its configuration, its model, the width of small dense ones.

    Args:
      path: of the configuration.
      grid: what to vary.
      overrides: of the configuration at every point, as load_config takes them.

    Returns:
      The points of the grid, then the small dense models.

    Raises:
      ConfigError, DataError, ModelError: something is wrong; names all points of which that is so.
    """
    plan = _reader(path, overrides)
    planned: dict[str, Planned] = {}
    for one in _plan_all(plan, points_of(grid)):
        point = one.point
        same = planned.setdefault(one.config.to_json(), one)
        if same is not one:
            raise ConfigError(
                f"points {same.point.name} and {point.name} are the same run. Remove one of them "
                "from the grid."
            )
    if grid.dense_small is None:
        return list(planned.values())
    pruned = [one for one in planned.values() if one.config.train.pruning]
    if not pruned:
        raise ConfigError(
            "dense_small: no point prunes, so there is nothing to set a small model beside. Give "
            "train.pruning.sparsity in the grid or in the configuration, or leave dense_small out."
        )
    for beside in pruned:
        with _naming(f"{beside.point.name}, the small dense model beside it"):
            one = _plan_dense_small(plan, grid, beside)
        key = one.config.to_json()
        one = planned.get(key, one)  # of several points, or itself in the grid
        names = (*one.dense_small_of, beside.point.name)
        planned[key] = dataclasses.replace(one, dense_small_of=names)
    return list(planned.values())


def _reader(path: str | Path, overrides: Sequence[str]) -> Callable[[Point], Planned]:
    """Checks points one by one; what is the same for several is looked at once."""
    fingerprint_of = functools.cache(_fingerprint_of)
    schema_of = functools.cache(_schema_of)
    shapes: dict[Any, Shapes] = {}

    def plan(point: Point) -> Planned:
        config = load_config(path, [*overrides, *point.overrides])
        _check_stays_inside(config)
        _check_salt(config)
        data, model = config.data.to_json(), config.model.to_json()
        fingerprint = fingerprint_of(data)
        if config.public_data is not None:
            fingerprint += fingerprint_of(config.public_data.to_json())
        trained = data, model, config.train.quantization_aware  # whose ranges are weights, too
        if trained not in shapes:
            shapes[trained] = _shapes_of(config, schema_of(data, config.beam.to_json()))
        return Planned(
            point,
            config,
            number_of_weights(shapes[trained]),
            number_of_weights(shapes[trained], config.train.pruning),
            _inputs(config, fingerprint),
        )

    return plan


def _plan_all(plan: Callable[[Point], Planned], points: Sequence[Point]) -> list[Planned]:
    """Checks all points, so that all that is wrong is told at once."""
    planned, wrong = [], collections.defaultdict[tuple[type[PrivetError], str], list[str]](list)
    for point in points:
        try:
            planned.append(plan(point))
        except PrivetError as error:
            wrong[type(error), str(error)].append(point.name)
    if not wrong:
        return planned
    lines = [
        f"point {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {problem}"
        for (_, problem), names in wrong.items()
    ]
    if len(lines) > 1:
        count = sum(map(len, wrong.values()))
        more = len(lines) - _SHOWN_PROBLEMS
        lines = [f"{count} of {len(points)} points are wrong:", *lines[:_SHOWN_PROBLEMS]]
        lines += [f"and {more} more like these"] if more > 0 else []
    kind, _ = next(iter(wrong))
    raise kind("\n  ".join(lines))


def _plan_dense_small(
    plan: Callable[[Point], Planned], grid: GridConfig, pruned: Planned
) -> Planned:
    limits = grid.dense_small
    assert limits is not None

    @functools.cache
    def at(width: int) -> Planned:
        return plan(dense_small_point(grid, pruned.point, width))

    return at(widest_within(lambda width: at(width).weights, pruned.nonzero, limits))


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Says in errors which point they are of."""
    try:
        yield
    except PrivetError as error:
        raise type(error)(f"point {name}: {error}") from error


def _check_stays_inside(config: PipelineConfig) -> None:
    """Publishing is the one thing that a run can do outside its work directory."""
    directory = config.push.directory
    if Path(directory).is_absolute() or ".." in Path(directory).parts:
        raise ConfigError(
            f"push.directory={directory!r} is outside of the point's work directory: a sweep would "
            "publish every point there, one after the other, for a server to load. Sweep with "
            "--set push.directory=serving, then run the one to publish."
        )


def _check_salt(config: PipelineConfig) -> None:
    """Attributes are looked up by hashed ids, and points do not ingest with a salt of their own."""
    by_attribute = [one.name for one in config.evaluate.slices if one.by == "attribute"]
    hashed = config.data.client_ids == "hashed" and config.data.salt_file is None
    if by_attribute and hashed and config.data.partition is None:
        raise ConfigError(
            f"evaluate.slices: {by_attribute[0]} goes by client id, and a sweep ingests once for "
            "all points, with a salt that they do not have. Give data.salt_file."
        )


def _fingerprint_of(data: str) -> str:
    """Changes when the data do; what a database holds is taken to stay as it is."""
    config = IngestConfig.from_json(data)
    if config.sql is not None:
        return ""
    if config.patterns and not config.spans:
        dispatch.find_portions(config)  # a missing file would fail every point
    return dispatch.fingerprint(config)


def _schema_of(data: str, beam: str) -> Schema:
    config = IngestConfig.from_json(data)
    arguments = beam_arguments(BeamConfig.from_json(beam))
    return stated_schema(config) or survey_data(config, arguments)[0]


def _shapes_of(config: PipelineConfig, schema: Schema) -> Shapes:
    try:
        return weight_shapes(config, schema)
    except PrivetError:
        raise
    except Exception as error:  # of the user's function, which may raise anything
        raise ModelError(
            f"{config.model.function} of {config.model.module_file} with the arguments "
            f"{config.model.arguments} fails: {type(error).__name__}: {error}"
        ) from error


def _inputs(config: PipelineConfig, fingerprint: str) -> str:
    """A digest of what decides the result, but for the sources of Privet."""
    initial = config.train.initial_weights
    weights = () if initial is None else (initial, files.join(initial, "**"))
    return files.digest(
        config.to_json().encode(),
        files.read_bytes(config.model.module_file),
        fingerprint.encode(),
        files.content_digest(weights).encode(),
    )
