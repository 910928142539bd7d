"""Running a configuration over a grid: every point a run of its own, all of them in one table.

    WORKDIR/sweep.json           the grid and what came out, for machines
    WORKDIR/frontier.parquet     a row for each configuration
    WORKDIR/frontier.html        the same for people
    WORKDIR/points/<name>/       the work directory of each point
    WORKDIR/shared/<digest>/     that of the ingestion which the points share
    WORKDIR/sweep.log            what processes say that run points

Points share what they read, and nothing else.
"""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from privet.components.shared import files
from privet.components.shared.errors import StoreError
from privet.pipeline import frontier, outcome
from privet.pipeline.grid import GridConfig
from privet.pipeline.point import Order, failed, run_point
from privet.pipeline.point_processes import Event, run_in_processes
from privet.pipeline.run import Say
from privet.pipeline.shared_ingestion import failure_of, ingest_once
from privet.pipeline.spending import spent_together
from privet.pipeline.sweep_plan import Planned
from privet.pipeline.workdir import FRONTIER_PAGE, FRONTIER_TABLE, SWEEP, SWEEP_LOG, Workdir


def run_sweep(
    name: str,
    grid: GridConfig,
    planned: Sequence[Planned],
    root: Path,
    say: Say,
    workers: int = 1,
) -> dict[str, Any]:
    """Runs every point that has not finished yet, and writes sweep.json whenever one has.

    Args:
      name: of the pipeline.
      grid: that the points are of.
      planned: the points.
      root: the sweep's work directory, absolute; locked for the time of the sweep.
      say: prints a line of progress.
      workers: processes that run points side by side; with 1 it is this process that does.

    Returns:
      The content of sweep.json. A point that failed is in it with its error.

    Raises:
      ConfigError, PipelineError: the directory cannot be written, or another sweep is using it.
    """
    with Workdir.at(root).locked():
        earlier = _read_earlier(root)
        points = [_entry(one, earlier, root) for one in planned]
        sweep = {
            "schema": 2,
            "name": name,
            **msgspec.to_builtins(grid),
            "points": points,
            "privacy": None,
            "frontier": None,
        }
        _run_all(sweep, planned, root, say, workers)
        rows = frontier.rows_of(points, [one.config.train for one in planned], root)
        sweep["privacy"] = spent_together(root)
        sweep["frontier"] = {"rule": frontier.RULE, "configurations": frontier.to_plain(rows)}
        _write(root, sweep)
        write_frontier(root, sweep)
    return sweep


def write_frontier(root: Path, sweep: Mapping[str, Any]) -> None:
    """Writes the frontier as a table and as a page.

    Args:
      root: the sweep's work directory.
      sweep: the content of sweep.json.
    """
    from privet.pipeline.frontier_page import render

    rows = frontier.from_plain(sweep["frontier"]["configurations"])
    files.write_bytes(str(root / FRONTIER_TABLE), frontier.to_parquet(rows))
    files.write_bytes(str(root / FRONTIER_PAGE), render(sweep, rows).encode())


def _run_all(
    sweep: Mapping[str, Any], planned: Sequence[Planned], root: Path, say: Say, workers: int
) -> None:
    """Runs what has not finished, and keeps sweep.json up to date."""
    points = sweep["points"]
    names = [f"[{number}/{len(points)}] {one['name']}" for number, one in enumerate(points, 1)]
    for name, entry in zip(names, points, strict=True):
        if entry["status"] in frontier.FINISHED:
            say(f"{name}: as before")
    todo = [
        number for number, entry in enumerate(points) if entry["status"] not in frontier.FINISHED
    ]
    if not todo:
        return
    say(f"ingestion, once for {len(todo)} point{'' if len(todo) == 1 else 's'}")
    _write(root, sweep)
    stores, errors = ingest_once((planned[number].config for number in todo), root, say)
    orders = []
    for number in list(todo):
        one = planned[number]
        if (error := failure_of(one.config, errors)) is None:
            orders.append(Order(one.point.name, one.config, one.workdir(root), stores))
        else:
            todo.remove(number)
            points[number] |= failed(error)
            say(f"{names[number]}: failed: {error}")
    with contextlib.closing(_events(orders, root, say, workers)) as events:
        for order, result in events:
            number = todo[order]
            if result is None:
                say(names[number])
                continue
            points[number] |= result
            _write(root, sweep)
            say(f"{names[number]}: {_result_text(result)}")


def _events(
    orders: Sequence[Order], root: Path, say: Say, workers: int
) -> Generator[Event, None, None]:
    """Runs points; see run_in_processes."""
    if workers > 1:
        yield from run_in_processes(orders, workers, root / SWEEP_LOG)
        return
    for number, order in enumerate(orders):
        yield number, None
        yield number, run_point(order, say)


def _result_text(result: Mapping[str, Any]) -> str:
    return (
        f"failed: {result['error']}"
        if result["error"]
        else (f"{result['status']}, {result['seconds']:.1f} s")
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
        "configuration": point.configuration,
        "levers": dict(point.levers),
        "settings": dict(point.settings),
        "seed": planned.config.seed,
        "dense_small": bool(planned.dense_small_of),
        "dense_small_of": list(planned.dense_small_of),
        "weights": {"total": planned.weights, "nonzero": planned.nonzero},
        "workdir": f"points/{point.name}",
        "inputs": planned.inputs,
        "status": "pending",
        "error": None,
        "seconds": None,
        "headline": None,
    }
    before = earlier.get(point.name, {})
    workdir = planned.workdir(root)
    if before.get("inputs") == planned.inputs and workdir.run_json.is_file():
        summary = outcome.read_run_json(workdir)
        # What someone else has run there since is not this point.
        if summary["status"] in frontier.FINISHED and summary["headline"] == before["headline"]:
            kept = ("seconds", "headline")
            entry |= {"status": summary["status"], **{name: before.get(name) for name in kept}}
    return entry


def _write(root: Path, sweep: Mapping[str, Any]) -> None:
    files.write_json(str(root / SWEEP), sweep)
