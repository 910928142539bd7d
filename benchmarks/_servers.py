"""Servers in processes of their own, asked by wrk on loopback."""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONNECTIONS = 16
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """What wrk measured: requests a second, milliseconds, and requests that failed."""

    rate: float
    p50: float
    p99: float
    failed: int


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until the end of the block; it listens on the port of 127.0.0.1 by then."""
    # It has what this benchmark has: a checkout on PYTHONPATH, too.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                _, error = process.communicate()
                raise SystemExit(f"{' '.join(command)} did not start: {error.decode()[-2000:]}")
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def privet_serve(base_path: Path, *flags: str, python: str = sys.executable) -> list[str]:
    """The command of a server of model `m`."""
    command = [python, "-m", "privet.pipeline.cli", "serve", "--model_name=m"]
    return [*command, f"--model_base_path={base_path}", *flags]


def wrk(url: str, body: Path, *, seconds: int, pause_ms: int = 0) -> Load:
    """POSTs the body over 16 connections from one thread, for so many seconds."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("Wanted the program wrk; there is none. Install Debian's package `wrk`.")
    script = Path(__file__).with_name("wrk.lua")
    arguments = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    told = subprocess.run(
        [program, *arguments, url, "--", str(body), str(pause_ms)],
        capture_output=True,
        check=True,
        text=True,
        timeout=seconds + 60,
    ).stdout
    found = json.loads(told.strip().splitlines()[-1])
    rate = found["requests"] / found["seconds"]
    return Load(rate, found["p50"], found["p99"], found["failed"])


def median(loads: Sequence[Load]) -> Load:
    """The median of each figure, and all failures together."""
    return Load(
        statistics.median(load.rate for load in loads),
        statistics.median(load.p50 for load in loads),
        statistics.median(load.p99 for load in loads),
        sum(load.failed for load in loads),
    )


def resident_bytes(process: Any) -> int:
    """Memory of a process, pages that it shares with others included."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"Process {process.pid} has ended.")


def listens(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def thin_python() -> str | None:
    """The Python of an environment with requirements-tflite.txt alone; None where there is none."""
    return os.environ.get("PRIVET_TFLITE_PYTHON")
