"""Serving: `privet serve` under load, against the least that the same HTTP server can do.

    python benchmarks/serving.py [--workload rest|grpc|start|soak] [--quick] [--json]

The digits' MLP, 64-32-10, exported as a run exports it, on loopback; wrk with one thread and 16
connections shares the cores with the server. Servers run side by side and are asked in turns, 5
seconds each; medians over 5 turns.

- rest: predict through TensorFlow Lite and through the SavedModel, one image in a request and 32;
  beside them a bare uvicorn application that reads the body and sends as much (peers/echo.py).
- grpc: Predict, one image in a request, 16 calls at a time (_grpc_load.py).
- start: from the command to the first answer, and memory after 1,000 requests; in an environment
  that has requirements-tflite.txt alone, whose Python the environment variable PRIVET_TFLITE_PYTHON
  names (`make thin` makes one), else in this one.
- soak: 10 minutes at more than half of the load that `rest` reaches: memory and failures.

For scale, the same model (.tflite, one image, 16 connections) by other Python servers on a machine
of this size: KServe 0.21 1,270 requests a second, LitServe 0.2.19 930, MLServer 1.7.1 640, BentoML
1.4.39 540.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import http.client
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _measure import figure, run_workloads
from _servers import (
    Load,
    listens,
    median,
    privet_serve,
    resident_bytes,
    running,
    thin_python,
    wrk,
)

from privet.serving.ports import free_port

_PREDICT = "/v1/models/m:predict"


def main() -> None:
    """Measures and prints."""
    run_workloads(
        __doc__.splitlines()[0], {"rest": rest, "grpc": grpc, "start": start, "soak": soak}
    )


def rest(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Requests a second and their latency, over REST."""
    base_path, bodies = publish(Path(folder))
    ports = {name: free_port() for name in ("tflite", "savedmodel", "bare uvicorn")}
    commands = {
        "tflite": privet_serve(base_path, *_flags(ports["tflite"]), "--prefer_tflite_model"),
        "savedmodel": privet_serve(base_path, *_flags(ports["savedmodel"])),
        "bare uvicorn": _echo(ports["bare uvicorn"]),
    }
    cases = [(name, 1) for name in ports] + [("tflite", 32), ("savedmodel", 32)]
    loads: dict[tuple[str, int], list[Load]] = {case: [] for case in cases}
    seconds, turns = (2, 2) if quick else (5, 5)
    with (
        running(commands["tflite"], ports["tflite"]),
        running(commands["savedmodel"], ports["savedmodel"]),
        running(commands["bare uvicorn"], ports["bare uvicorn"]),
    ):
        for turn in range(turns + 1):  # the first one warms up
            for name, images in cases:
                url = f"http://127.0.0.1:{ports[name]}{_PREDICT}"
                load = wrk(url, bodies[images], seconds=seconds if turn else 1)
                if turn:
                    loads[name, images].append(load)
    found = {case: median(each) for case, each in loads.items()}
    one, many = found["tflite", 1], found["tflite", 32]
    failed = sum(load.failed for load in found.values())
    if failed:
        raise SystemExit(f"Wanted no failure under load; {failed} requests failed.")
    bare = found["bare uvicorn", 1]
    return [
        _rate("REST, TensorFlow Lite, one image", one, 12_000),
        figure(
            "REST, TensorFlow Lite, one image",
            one.rate,
            "requests/s",
            ratio=one.rate / bare.rate,
            ratio_to=f"bare uvicorn ({bare.rate:,.0f})",
            bar=0.8,
        ),
        figure(
            "REST, TensorFlow Lite, one image, 99th percentile",
            one.p99,
            "ms",
            ratio=5 / one.p99,
            ratio_to="5 ms",
            bar=1.0,
        ),
        _rate("REST, TensorFlow Lite, 32 images", many, 4_000),
        *(
            figure(
                f"REST, SavedModel, {text}",
                found["savedmodel", images].rate,
                "requests/s",
                ratio=found["savedmodel", images].rate / found["tflite", images].rate,
                ratio_to="TensorFlow Lite",
                bar=round(1 / 1.5, 4),
            )
            for images, text in ((1, "one image"), (32, "32 images"))
        ),
    ]


def grpc(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Calls a second, over gRPC; the client shares the cores and takes more of them than wrk."""
    base_path, _ = publish(Path(folder))
    port, grpc_port = free_port(), free_port()
    command = privet_serve(
        base_path, f"--rest_api_port={port}", f"--port={grpc_port}", "--prefer_tflite_model"
    )
    script = str(Path(__file__).with_name("_grpc_load.py"))
    loads = []
    with running(command, port):
        for turn in range(3 if quick else 6):
            told = subprocess.run(
                [
                    sys.executable,
                    script,
                    f"127.0.0.1:{grpc_port}",
                    "m",
                    "--input=pixels",
                    *("--shape", "1", "64"),
                ],
                capture_output=True,
                check=True,
                text=True,
                timeout=120,
            ).stdout
            if turn:
                found = json.loads(told)
                loads.append(
                    Load(found["requests_per_second"], found["p50_ms"], found["p99_ms"], 0)
                )
    load = median(loads)
    return [_rate("gRPC, TensorFlow Lite, one image", load, 3_000)]


def start(folder: str, quick: bool) -> list[dict[str, Any]]:
    """How long until a server answers, and how much memory it has then."""
    base_path, bodies = publish(Path(folder))
    python = thin_python()
    body = bodies[1].read_bytes()
    seconds, memory = [], []
    for _ in range(3 if quick else 7):
        port = free_port()
        command = privet_serve(
            base_path, *_flags(port), "--prefer_tflite_model", python=python or sys.executable
        )
        started = time.perf_counter()
        with running(command, port) as process:
            _ask(port, body, 1)
            seconds.append(time.perf_counter() - started)
            _ask(port, body, 1000)
            memory.append(resident_bytes(process) / 2**20)
    where = "tflite-runtime alone" if python else "with TensorFlow"
    first, used = statistics.median(seconds), statistics.median(memory)
    return [
        figure(
            f"start to first answer, {where}", first, "s", ratio=2 / first, ratio_to="2 s", bar=1.0
        ),
        figure(
            f"memory after 1,000 requests, {where}",
            used,
            "MiB",
            ratio=120 / used,
            ratio_to="120 MiB",
            bar=1.0,
        ),
    ]


def soak(folder: str, quick: bool) -> list[dict[str, Any]]:
    """Ten minutes at more than half load: no failure, and memory that stays."""
    base_path, bodies = publish(Path(folder))
    port = free_port()
    minutes = 2 if quick else 10
    with running(privet_serve(base_path, *_flags(port), "--prefer_tflite_model"), port) as process:
        url = f"http://127.0.0.1:{port}{_PREDICT}"
        full = wrk(url, bodies[1], seconds=5)
        memory, failed, rates = [], 0, []
        for _ in range(4 * minutes):
            load = wrk(url, bodies[1], seconds=15, pause_ms=1)
            failed += load.failed
            rates.append(load.rate)
            memory.append(resident_bytes(process))
    before = statistics.median(memory[:4])  # the first minute
    after = statistics.median(memory[-4:])
    return [
        {
            **figure(
                f"memory after {minutes} minutes under load",
                after / 2**20,
                "MiB",
                ratio=before / after,
                ratio_to=f"the first minute ({before / 2**20:.1f} MiB)",
                bar=round(1 / 1.05, 4),
            ),
            "requests": round(sum(rates) * 15),
            "failed": failed,
            "share_of_full_load": round(statistics.mean(rates) / full.rate, 3),
        },
        figure(
            "requests that failed meanwhile",
            failed,
            "requests",
            ratio=1.0 if failed == 0 else 0.0,
            ratio_to="none",
            bar=1.0,
        ),
    ]


def publish(folder: Path) -> tuple[Path, dict[int, Path]]:
    """A model directory with version 1, and the files of requests by their number of images."""
    import tensorflow as tf
    from sklearn.datasets import load_digits

    from privet.components.compress.convert import convert_float
    from privet.components.compress.export import KerasPredictor, export_servable
    from privet.components.shared.schema import Schema

    images, labels = load_digits(return_X_y=True)
    pixels = tf.keras.Input((64,), name="pixels")
    hidden = tf.keras.layers.Dense(32, activation="relu")(pixels)
    model = tf.keras.Model(pixels, tf.keras.layers.Dense(10)(hidden))
    # As sure of itself as a trained model is: how many digits its answers have costs time.
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, epochs=10, verbose=0)
    schema = Schema.from_mapping(
        {
            "client_id": "client",
            "features": {"pixels": {"columns": "p_{0..63}"}},
            "label": {"column": "digit", "classes": 10},
        }
    )
    base_path = folder / "model"
    content = convert_float(model, schema, "float32")
    export_servable(KerasPredictor(model, schema), content, schema, str(base_path / "1"))
    bodies = {}
    for count in (1, 32):
        bodies[count] = folder / f"body-{count}.json"
        bodies[count].write_text(json.dumps({"instances": images[:count].tolist()}))
    return base_path, bodies


def _flags(port: int) -> tuple[str, ...]:
    return (f"--rest_api_port={port}", "--port=0")


def _echo(port: int) -> list[str]:
    peers = str(Path(__file__).with_name("peers"))
    command = [sys.executable, "-m", "uvicorn", "echo:application", "--app-dir", peers]
    return [*command, "--port", str(port), "--no-access-log", "--log-level", "warning"]


def _ask(port: int, body: bytes, times: int) -> None:
    """Sends a request so often over one connection; each must be answered."""
    while not listens(port):
        time.sleep(0.005)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(times):
        connection.request("POST", _PREDICT, body)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"Wanted 200; got {answer.status}: {content.decode()}")
    connection.close()


def _rate(name: str, load: Load, bar: int) -> dict[str, Any]:
    """A figure of requests a second, held against so many."""
    return {
        **figure(
            name,
            load.rate,
            "requests/s",
            ratio=load.rate / bar,
            ratio_to=f"{bar:,} requests/s",
            bar=1.0,
        ),
        "p50_ms": load.p50,
        "p99_ms": load.p99,
    }


if __name__ == "__main__":
    main()
