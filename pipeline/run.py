"""Running a pipeline: locally, watched, and with every node's state checked afterwards."""

import contextlib
import datetime
import logging
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.portable import runtime_parameter_utils

from privet.components.shared import files
from privet.components.shared.errors import PipelineError, PrivetError
from privet.pipeline import config_file, outcome
from privet.pipeline.build import RESOLVER, create_pipeline
from privet.pipeline.config import PipelineConfig
from privet.pipeline.console import NodeWatcher, redirect_noise
from privet.pipeline.run_facts import write_report
from privet.pipeline.workdir import Workdir
from privet.pipeline.workers.processes import PROCESSES

_MESSAGE_CHARACTERS = 2000  # of a library's error, in our message; run.log has it whole

_BEAM_SUFFIX = re.compile(r" \[while running '[^']*'\]$")  # Beam adds the transform's name

Say = Callable[[str], None]


def run_pipeline(
    config: PipelineConfig,
    workdir: Workdir,
    say: Say,
    stores: Mapping[str, str] = MappingProxyType({}),
    leave_out: Collection[str] = (),
) -> dict[str, Any]:
    """Runs the pipeline to its end and writes config.yaml, run.json and report.html.

    Finished nodes of earlier runs are taken from the cache.

    Args:
      config: the checked configuration.
      workdir: where everything goes; locked for the time of the run.
      say: prints a line of progress.
      stores, leave_out: as `create_pipeline` takes them.

    Returns:
      The content of run.json; its status is `succeeded` or `rejected`.

    Raises:
      PipelineError: a node failed; names it and the cause. run.json and report.html are written
        all the same.
    """
    with workdir.locked():
        for stale in (workdir.run_json, workdir.report):  # of the run before
            stale.unlink(missing_ok=True)
        files.write_bytes(str(workdir.config), config_file.write_text(config).encode())
        run_id = datetime.datetime.now(datetime.UTC).isoformat()
        graph: dict[str, Sequence[str]] = {}
        failure: PrivetError | None = PipelineError("interrupted")
        errors: Mapping[str, list[str]] = {}
        try:
            with redirect_noise(workdir.log), contextlib.closing(PROCESSES):
                built = create_pipeline(config, workdir, stores, leave_out)
                pipeline = _compile(built, run_id)
                graph |= _graph(pipeline)
                failure, errors = _run(pipeline, workdir, run_id, say)
        except PrivetError as error:  # of a component that refuses its settings
            failure = error
            raise
        finally:  # an interrupted run says so, too
            found = outcome.read_nodes(workdir, run_id)
            nodes = {name: node for name, node in found.items() if name not in leave_out}
            failure = failure or _unfinished(nodes, errors, workdir)
            told = config_file.without_secrets(_told(failure), config) if failure else None
            attempt = outcome.Attempt(run_id, graph, told)
            summary = outcome.summarize(config, workdir, nodes, attempt)
            outcome.write_run_json(workdir, summary)
            if failure:
                _report_failure(workdir, summary)
        if failure:
            raise failure
        write_report(workdir, summary)
        return summary


def run_node(
    pipeline: tfx_pipeline.Pipeline, node: str, workdir: Workdir, say: Say
) -> outcome.Node:
    """Runs a pipeline of one node.

    Args:
      pipeline: with its metadata and artifacts in the work directory.
      node: its name.
      workdir: locked for the time of the run.
      say: prints a line of progress.

    Raises:
      PipelineError, or what the node raised: it did not complete.
    """
    with workdir.locked():
        run_id = datetime.datetime.now(datetime.UTC).isoformat()
        with redirect_noise(workdir.log), contextlib.closing(PROCESSES):
            failure, errors = _run(_compile(pipeline, run_id), workdir, run_id, say)
        done = outcome.read_nodes(workdir, run_id)[node]
        failure = failure or _unfinished({node: done}, errors, workdir)
    if failure:
        raise failure
    return done


def rebuild_report(workdir: Workdir) -> Path:
    """Writes report.html again from ML Metadata and the artifacts of the last run.

    Raises:
      StoreError: there has been no run, or its artifacts are gone.
    """
    write_report(workdir, outcome.read_last_run(workdir))
    return workdir.report


def _report_failure(workdir: Workdir, summary: Mapping[str, Any]) -> None:
    """Writes the report of a failed run; the failure is what people must hear of, come what may."""
    try:
        write_report(workdir, summary)
    except Exception:
        logging.getLogger(__name__).exception("the report of the failed run could not be written")


def _compile(pipeline: tfx_pipeline.Pipeline, run_id: str) -> Any:
    """The pipeline in TFX's own form, with the run's name."""
    compiled = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        compiled, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    return compiled


def _graph(pipeline: Any) -> dict[str, Sequence[str]]:
    """Node -> the nodes that it takes from, in the order in which they run."""
    nodes = [node.pipeline_node for node in pipeline.nodes]
    return {node.node_info.id: list(node.upstream_nodes) for node in nodes}


def _run(
    pipeline: Any, workdir: Workdir, run_id: str, say: Say
) -> tuple[PrivetError | None, Mapping[str, list[str]]]:
    """Runs all nodes; returns why one raised, if one did, and what each logged as an error."""
    with _watched(workdir, run_id, say) as watcher, _without_arguments():
        try:
            LocalDagRunner().run_with_ir(pipeline)
        except Exception as error:
            logging.getLogger(__name__).exception("node %s failed", watcher.current)
            return _failure(watcher.current or "the pipeline", error, workdir), {}
    return None, watcher.errors


def _failure(node: str, error: Exception, workdir: Workdir) -> PrivetError:
    if isinstance(error, PrivetError):
        failure = type(error)(f"{node} failed: {_BEAM_SUFFIX.sub('', str(error))}")
    else:
        text = _shortened(f"{type(error).__name__}: {error}")
        failure = PipelineError(f"{node} failed: {text} (see {workdir.log})")
    failure.__cause__ = error
    return failure


def _told(failure: PrivetError) -> str:
    """What run.json and the report say of a failure: a library's own words may quote the data."""
    error = failure.__cause__
    if error is None or isinstance(error, PrivetError):
        return str(failure)
    kind = type(error).__name__
    return f"{str(failure).partition(f'{kind}: ')[0]}{kind} (see run.log)"


def _unfinished(
    nodes: Mapping[str, outcome.Node], errors: Mapping[str, list[str]], workdir: Workdir
) -> PipelineError | None:
    """LocalDagRunner may return although a node failed, so ML Metadata has the last word.

    It does so when a node's inputs cannot be resolved: then it only logs why.
    """
    unfinished = {name: node.state for name, node in nodes.items() if node.state != "complete"}
    if not unfinished:
        return None
    for node, messages in errors.items():  # the first to complain is the one that failed
        return PipelineError(f"{node} failed: {_shortened(messages[-1])} (see {workdir.log})")
    failed = [item for item in unfinished.items() if item[1] == "failed"]
    name, state = (failed or list(unfinished.items()))[0]
    return PipelineError(f"{name} did not complete: its state is {state} (see {workdir.log})")


def _shortened(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"


@contextlib.contextmanager
def _watched(workdir: Workdir, run_id: str, say: Say) -> Iterator[NodeWatcher]:
    """Prints a line for every component that finishes."""
    started: dict[str, float] = {}

    def start(node: str) -> None:
        started[node] = time.monotonic()

    def finish(node: str) -> None:
        if node != RESOLVER:
            seconds = time.monotonic() - started[node]
            cached = outcome.read_nodes(workdir, run_id)[node].cached
            say(f"  {node:<20} {'cached' if cached else f'{seconds:.1f} s'}")

    watcher = NodeWatcher(start, finish)
    logger = logging.getLogger("absl")
    logger.addHandler(watcher)
    try:
        yield watcher
    finally:
        logger.removeHandler(watcher)


@contextlib.contextmanager
def _without_arguments() -> Iterator[None]:
    """Hides our command line: TFX hands sys.argv on to Beam, which would parse our flags."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments
