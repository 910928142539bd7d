"""Beam's workers in processes that stay: they are reused, missed when they die, and never left."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from privet.components.ingest.transforms import gather, pipeline_of
from privet.components.shared.errors import ConfigError, PipelineError
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig
from privet.pipeline.workers.pool import start_pool
from privet.pipeline.workers.processes import PROCESSES

TWO = BeamConfig(workers=2)
LIMIT = 20.0  # seconds; far more than any of this takes


@pytest.fixture(scope="module", autouse=True)
def none_left() -> Iterator[None]:
    before = set(psutil.Process().children())
    yield
    PROCESSES.close()
    assert set(psutil.Process().children()) == before


def apply(config: BeamConfig, function: Any, result: Path, count: int = 8) -> list[Any]:
    """The function of the numbers up to `count`, in workers."""
    with pipeline_of(beam_arguments(config)) as pipeline:
        gather(pipeline, range(count), function, str(result))
    return sorted(pickle.loads(result.read_bytes()))


def test_processes_stay_from_pipeline_to_pipeline(tmp_path: Path) -> None:
    first = apply(TWO, lambda _: os.getpid(), tmp_path / "result")
    second = apply(TWO, lambda _: os.getpid(), tmp_path / "result")
    assert len(set(first)) == 2
    assert os.getpid() not in first
    assert set(second) == set(first)


def test_workers_see_beams_options(tmp_path: Path) -> None:
    def host(_: int) -> str:
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import HadoopFileSystemOptions

        return FileSystems._pipeline_options.view_as(HadoopFileSystemOptions).hdfs_host

    config = BeamConfig(workers=2, options=("--hdfs_host=namenode",))
    assert apply(config, host, tmp_path / "result", 1) == ["namenode"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Beam's own
@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL.* out of memory"),
        (lambda: os._exit(3), "ended with exit code 3"),
    ],
    ids=["killed", "exited"],
)
def test_end_of_a_process_ends_the_pipeline_and_the_next_one_runs(
    end: Any, wanted: str, tmp_path: Path
) -> None:
    def work(number: int) -> int:
        if number == 5:
            end()
        return number

    with pytest.raises(PipelineError, match=wanted):
        apply(TWO, work, tmp_path / "result")
    assert apply(TWO, lambda number: number, tmp_path / "result") == list(range(8))


def test_process_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    PROCESSES.close()
    monkeypatch.setattr(sys, "executable", "false")  # the command that fails, whatever it is told
    with pytest.raises(PipelineError, match=r"ended with exit code 1.* before it could work"):
        PROCESSES.ensure(1)


def test_processes_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, psutil, signal\n"
        "from privet.pipeline.workers.processes import PROCESSES\n"
        "PROCESSES.ensure(2)\n"
        "print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    started = [int(number) for number in done.stdout.split()]
    assert len(started) == 2, done.stderr
    wait_until_ended(started)


def wait_until_ended(processes: list[int]) -> None:
    deadline = time.monotonic() + LIMIT
    while left := [number for number in processes if psutil.pid_exists(number)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_command_serves_workers_to_a_runner_elsewhere_until_it_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "privet.pipeline.cli", "workers", "--address", "localhost:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        line = served.stdout.readline()
        assert line.startswith("workers: 1 at localhost:")
        address = line.split()[-1]
        options = (
            "--job_endpoint=embed",
            "--environment_type=EXTERNAL",
            f"--environment_config={address}",
        )
        remote = BeamConfig(runner="portable", options=options)
        (worker,) = psutil.Process(served.pid).children()
        got = apply(remote, lambda _: os.getpid(), tmp_path / "result")
        assert set(got) == {worker.pid}
        served.terminate()
        assert served.wait(LIMIT) == 128 + signal.SIGTERM
    wait_until_ended([worker.pid])


@pytest.mark.parametrize(
    ("address", "count", "wanted"),
    [
        ("localhost:0", 0, "--processes 0 must be >= 1"),
        ("nowhere.invalid:1", 1, "--address nowhere.invalid:1 cannot be listened on"),
    ],
)
def test_pool_that_cannot_be_is_refused(address: str, count: int, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        start_pool(address, count)
