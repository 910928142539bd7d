"""Running a configuration over a grid: every point a whole run, all of them in one table.

    WORKDIR/sweep.json           the grid and what came out, for machines
    WORKDIR/points/<name>/       the work directory of each point

Points share nothing: each reads its data and trains by itself.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import dispatch
from privet.components.shared import files, layout
from privet.components.shared.errors import ConfigError, ModelError, PrivetError, StoreError
from privet.components.shared.schema import Schema
from privet.pipeline import ledgers, outcome
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig, PipelineConfig, load_config
from privet.pipeline.dense_small import Shapes, number_of_weights, widest_within
from privet.pipeline.grid import GridConfig, Point, dense_small_point, points_of
from privet.pipeline.plan import stated_schema, survey_data, weight_shapes
from privet.pipeline.run import Say, run_pipeline
from privet.pipeline.workdir import Workdir

SWEEP = "sweep.json"

_FINISHED = ("succeeded", "rejected")

_NOT_CHARGED = (
    "Choosing one of them is covered by no single run's epsilon and is NOT CHARGED: claim what all "
    "have spent together."
)


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
      ConfigError, DataError, ModelError: something is wrong; names the point.
    """
    plan = _reader(path, overrides)
    planned: dict[str, Planned] = {}
    for point in points_of(grid):
        with _naming(point.name):
            one = plan(point)
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


def run_sweep(
    name: str, grid: GridConfig, planned: Sequence[Planned], root: Path, say: Say
) -> dict[str, Any]:
    """Runs every point that has not finished yet, and writes sweep.json after each.

    Args:
      name: of the pipeline.
      grid: that the points are of.
      planned: the points.
      root: the sweep's work directory, absolute; locked for the time of the sweep.
      say: prints a line of progress.

    Returns:
      The content of sweep.json. A point that failed is in it with its error.

    Raises:
      ConfigError, PipelineError: the directory cannot be written, or another sweep is using it.
    """
    with Workdir.at(root).locked():
        earlier = _read_earlier(root)
        points = [_entry(one, earlier, root) for one in planned]
        sweep = {
            "schema": 1,
            "name": name,
            **msgspec.to_builtins(grid),
            "points": points,
            "privacy": None,
        }
        for number, (one, entry) in enumerate(zip(planned, points, strict=True), 1):
            done = entry["status"] in _FINISHED
            say(f"[{number}/{len(planned)}] {one.point.name}{': as before' if done else ''}")
            if not done:
                _write(root, sweep)
                entry |= run_point(one, one.workdir(root), say)
                if entry["error"]:
                    say(f"  failed: {entry['error']}")
        sweep["privacy"] = spent_together(root)
        _write(root, sweep)
    return sweep


def run_point(planned: Planned, workdir: Workdir, say: Say) -> dict[str, Any]:
    """One whole run; that it fails is an outcome, too.

    Args:
      planned: the point.
      workdir: of the run.
      say: prints a line of progress.

    Returns:
      Status, error and headline as in sweep.json.
    """
    import tensorflow as tf

    # Else Keras goes on counting the names of layers, and a point depends on those before it.
    tf.keras.backend.clear_session()
    try:
        summary, error = run_pipeline(planned.config, workdir, say), None
    except Exception as failure:  # the other points go on, whatever it is
        logging.getLogger(__name__).debug("%s failed", planned.point.name, exc_info=True)
        summary = outcome.read_run_json(workdir) if workdir.run_json.is_file() else {}
        kind = "" if isinstance(failure, PrivetError) else f"{type(failure).__name__}: "
        error = f"{kind}{failure}"
    return {
        "status": "failed" if error else summary["status"],
        "error": error,
        "headline": summary.get("headline"),
    }


def spent_together(root: Path) -> dict[str, Any]:
    """What all trainings of a sweep have spent, also those of points that the grid has no more.

    A training that has not finished has no ledger to add up; the note says where its rounds are.

    Args:
      root: the sweep's work directory.
    """
    pattern = f"points/*/artifacts/FederatedTrainer/ledger/*/{layout.LEDGER}"
    paths = sorted(root.glob(pattern))
    together, reason = None, None if paths else "nothing has been trained"
    try:
        runs = [
            dataclasses.replace(ledgers.read_ledger(str(path)), source=str(path.relative_to(root)))
            for path in paths
        ]
        together = ledgers.compose(runs) if runs else None
    except PrivetError as error:
        reason = str(error).replace(f"{root}/", "")
    return {
        "runs": len(paths),
        "together": together,
        "no_total": reason,
        "charged": False,
        "note": _NOT_CHARGED + _unfinished(root, paths),
    }


def _unfinished(root: Path, ledgers_found: Sequence[Path]) -> str:
    """Which points have begun noised rounds that no ledger tells of."""
    finished = {path.relative_to(root).parts[1] for path in ledgers_found}
    started = collections.Counter(
        entry.relative_to(root).parts[1]
        for point in sorted(root.glob("points/*"))
        for entry in Workdir.at(point).train_state.glob("*/journal/*")
        if entry.name.isdecimal()
    )
    left = ", ".join(f"{started[n]} of {n}" for n in started if n not in finished)
    return left and f" NOT IN IT: noised rounds of trainings that have not finished ({left})."


def _reader(path: str | Path, overrides: Sequence[str]) -> Callable[[Point], Planned]:
    """Checks points one by one; what is the same for several is looked at once."""
    fingerprint_of = functools.cache(_fingerprint_of)
    schema_of = functools.cache(_schema_of)
    shapes: dict[Any, Shapes] = {}

    def plan(point: Point) -> Planned:
        config = load_config(path, [*overrides, *point.overrides])
        _check_stays_inside(config)
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


def _read_earlier(root: Path) -> dict[str, dict[str, Any]]:
    """The points of the sweep before, by name."""
    path = root / SWEEP
    if not path.is_file():
        return {}
    try:
        return {entry["name"]: entry for entry in files.read_json(str(path))["points"]}
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is damaged: {type(error).__name__} {error}. Remove it: points that have "
            "finished are then taken from their caches."
        ) from error


def _entry(planned: Planned, earlier: Mapping[str, dict[str, Any]], root: Path) -> dict[str, Any]:
    """A point in sweep.json, with its outcome if it has finished."""
    point = planned.point
    entry = {
        "name": point.name,
        "settings": dict(point.settings),
        "seed": planned.config.seed,
        "dense_small": bool(planned.dense_small_of),
        "dense_small_of": list(planned.dense_small_of),
        "weights": {"total": planned.weights, "nonzero": planned.nonzero},
        "workdir": f"points/{point.name}",
        "inputs": planned.inputs,
        "status": "pending",
        "error": None,
        "headline": None,
    }
    before = earlier.get(point.name, {})
    workdir = planned.workdir(root)
    if before.get("inputs") == planned.inputs and workdir.run_json.is_file():
        summary = outcome.read_run_json(workdir)
        # What someone else has run there since is not this point.
        if summary["status"] in _FINISHED and summary["headline"] == before["headline"]:
            entry |= {"status": summary["status"], "headline": summary["headline"]}
    return entry


def _write(root: Path, sweep: Mapping[str, Any]) -> None:
    files.write_json(str(root / SWEEP), sweep)
