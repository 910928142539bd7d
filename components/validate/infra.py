"""Does a real server answer as the model does? Starts `privet serve` and asks it.

The candidate is served in both forms (SavedModel and TFLite) on free loopback ports, and its
answers over REST and gRPC are compared with the SavedModel called in this process.
"""

import contextlib
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.shared import signatures
from privet.components.shared.errors import PrivetError, ServingError
from privet.components.shared.schema import FeatureConfig, Schema
from privet.components.validate.config import InfraConfig
from privet.serving.client import GrpcClient, RestClient

_HOST = "127.0.0.1"
_MODEL_NAME = "candidate"
_STOP_SECONDS = 15
_MESSAGE_CHARACTERS = 2000

ENGINES = {"saved_model": False, "tflite": True}
"""Forms of the model -> value of --prefer_tflite_model."""


def check_servable(servable: str, schema: Schema, config: InfraConfig) -> dict[str, Any]:
    """Serves the candidate and compares every answer.

    Args:
      servable: the version directory.
      schema: of one example; requests are drawn from its public ranges, never from client data.
      config: settings.

    Returns:
      The content of infra_blessing.json.
    """
    inputs = sample_inputs(schema, config.requests)
    checks: list[dict[str, Any]] = []
    try:
        wanted = _in_process(servable, inputs)
    except Exception as error:  # TensorFlow raises many kinds for a SavedModel it cannot run
        detail = f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS]
        checks.append(_verdict("saved_model", "in this process", False, detail))
        return {"schema": 1, "blessed": False, "checks": checks}
    for engine, prefer_tflite in ENGINES.items():
        try:
            with _serve(servable, prefer_tflite, config) as (rest_port, grpc_port):
                checks += _check_server(engine, rest_port, grpc_port, inputs, wanted, config)
        except PrivetError as error:
            checks.append(_verdict(engine, "server start", False, str(error)))
    return {"schema": 1, "blessed": all(check["passed"] for check in checks), "checks": checks}


def sample_inputs(schema: Schema, examples: int) -> dict[str, np.ndarray]:
    """Seeded inputs inside each feature's public range ([-1, 1] where it has none)."""
    generator = np.random.default_rng(0)
    inputs: dict[str, np.ndarray] = {}
    for name, feature in schema.features.items():
        low, high = _range(feature)
        shape = (examples, *feature.example_shape)
        if feature.dtype == "float32":
            inputs[name] = generator.uniform(low, high, shape).astype(np.float32)
        else:
            inputs[name] = generator.integers(
                math.ceil(low), math.floor(high), shape, feature.dtype, endpoint=True
            )
    return inputs


def _range(feature: FeatureConfig) -> tuple[float, float]:
    """The feature's public range; an end that it leaves open is at 1 or -1, or 1 beyond.

    Integers without a range are 0 or 1: they are often indices, of which -1 is none. A uint8 has
    its dtype's range, an index that of its vocabulary.
    """
    if feature.is_text:
        return feature.index_range
    low, high = feature.minimum, feature.maximum
    if feature.dtype == "uint8":
        return max(low or 0.0, 0.0), 255.0 if high is None else min(high, 255.0)
    if low is None:
        start = 0.0 if feature.dtype == "int64" else -1.0
        low = start if high is None else min(start, high - 1.0)
    return low, max(low + 1.0, 1.0) if high is None else high


def _in_process(servable: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = tf.saved_model.load(servable)  # kept, or its variables are freed
    outputs = model.signatures[signatures.SERVING_DEFAULT](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    return {name: value.numpy() for name, value in outputs.items()}


def _check_server(
    engine: str,
    rest_port: int,
    grpc_port: int,
    inputs: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
    config: InfraConfig,
) -> list[dict[str, Any]]:
    rest = RestClient(_HOST, rest_port)
    columns = {name: value.tolist() for name, value in inputs.items()}
    rows = [
        {name: value[i].tolist() for name, value in inputs.items()} for i in range(config.requests)
    ]

    def by_column() -> Mapping[str, np.ndarray]:
        return _named(rest.predict(_MODEL_NAME, inputs=columns), wanted)

    def by_row() -> Mapping[str, np.ndarray]:
        return _named(rest.predict(_MODEL_NAME, instances=rows), wanted)

    def by_grpc() -> Mapping[str, np.ndarray]:
        with GrpcClient(f"{_HOST}:{grpc_port}") as client:
            return client.predict(_MODEL_NAME, inputs).outputs

    calls: dict[str, Callable[[], Mapping[str, np.ndarray]]] = {
        "REST predict (columns)": by_column,
        "REST predict (rows)": by_row,
        "gRPC predict": by_grpc,
    }
    if engine == "saved_model":  # TFLite cannot parse tf.Examples, which hold flat lists only
        flat_rows = [
            {name: value[i].ravel().tolist() for name, value in inputs.items()}
            for i in range(config.requests)
        ]
        calls |= {
            f"REST {key}": functools.partial(_of_examples, rest, key, flat_rows, wanted)
            for key in (signatures.CLASSIFY, signatures.REGRESS)
            if key in _signature_keys(rest)
        }
    return [_compare(engine, api, call, wanted, config) for api, call in calls.items()]


def _signature_keys(rest: RestClient) -> set[str]:
    return set(rest.metadata(_MODEL_NAME)["metadata"]["signature_def"]["signature_def"])


def _of_examples(
    rest: RestClient, key: str, rows: list[dict[str, Any]], wanted: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """What classify or regress say, in the shape of predict's only output."""
    ((name, shape),) = ((name, value.shape) for name, value in wanted.items())
    if key == signatures.REGRESS:
        values = rest.regress(_MODEL_NAME, rows, signature_name=key)
        return {name: np.asarray(values).reshape(shape)}
    classified = rest.classify(_MODEL_NAME, rows, signature_name=key)
    scores = np.asarray([[score for _, score in pairs] for pairs in classified])
    return {name: scores[:, -shape[1] :]}  # of two classes, predict gives the second alone


def _named(answer: Any, wanted: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """TF Serving drops the name of an only output."""
    if len(wanted) == 1:
        return {next(iter(wanted)): np.asarray(answer)}
    return {name: np.asarray(value) for name, value in answer.items()}


def _compare(
    engine: str,
    api: str,
    call: Callable[[], Mapping[str, np.ndarray]],
    wanted: Mapping[str, np.ndarray],
    config: InfraConfig,
) -> dict[str, Any]:
    try:
        got = call()
    except PrivetError as error:
        return _verdict(engine, api, False, str(error))
    if got.keys() != wanted.keys():
        return _verdict(engine, api, False, f"outputs {sorted(got)}, wanted {sorted(wanted)}")
    for name, value in wanted.items():
        if got[name].shape != value.shape:
            return _verdict(
                engine, api, False, f"{name} has shape {got[name].shape}, wanted {value.shape}"
            )
    difference = max(float(np.abs(got[name] - value).max()) for name, value in wanted.items())
    passed = difference <= config.tolerance  # False for NaN
    return _verdict(engine, api, passed, f"largest difference {difference:.1e}")


def _verdict(engine: str, api: str, passed: bool, detail: str) -> dict[str, Any]:
    return {"engine": engine, "api": api, "passed": bool(passed), "detail": detail}


@contextlib.contextmanager
def _serve(servable: str, prefer_tflite: bool, config: InfraConfig) -> Iterator[tuple[int, int]]:
    """A `privet serve` process with the candidate as version 1, on two free ports."""
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory, _MODEL_NAME)
        base.mkdir()
        base.joinpath("1").symlink_to(Path(servable).resolve(), target_is_directory=True)
        log = Path(directory, "server.log")
        rest_port, grpc_port = _free_ports(2)
        command = [sys.executable, "-m", "privet.pipeline.cli", "serve"]
        command += [f"--model_name={_MODEL_NAME}", f"--model_base_path={base}", f"--host={_HOST}"]
        command += [f"--rest_api_port={rest_port}", f"--port={grpc_port}"]
        command += [f"--prefer_tflite_model={str(prefer_tflite).lower()}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            _wait(process, RestClient(_HOST, rest_port), log, config.timeout_seconds)
            yield rest_port, grpc_port
        finally:
            _stop(process)


def _wait(
    process: subprocess.Popen[bytes], rest: RestClient, log: Path, timeout_seconds: float
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip()[-_MESSAGE_CHARACTERS:]
            raise ServingError(f"privet serve ended with code {process.returncode}: {said}")
        with contextlib.suppress(ServingError):
            rest.wait_until_available(_MODEL_NAME, timeout_seconds=0.5)
            return
        if time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip()[-_MESSAGE_CHARACTERS:]
            raise ServingError(
                f"privet serve was not ready within {timeout_seconds} s: {said}. Raise "
                "infra.timeout_seconds if the model is large."
            )
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_STOP_SECONDS)


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; held together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind((_HOST, 0))
        return [held.getsockname()[1] for held in sockets]
