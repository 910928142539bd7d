"""The server as a whole: start, warm-up, new versions while it runs, ports, signals."""

import argparse
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ConfigError, ServingError
from privet.serving.client import GrpcClient, RestClient
from privet.serving.config import ServerConfig
from privet.serving.ports import free_port
from privet.serving.running import RunningServer
from privet.serving.server import add_arguments, serve

COMMAND = """
import argparse, sys
from privet.serving.server import add_arguments, serve
parser = argparse.ArgumentParser()
add_arguments(parser)
assert "tensorflow" not in sys.modules
sys.exit(serve(parser.parse_args()))
"""


def warm_up_file(path: Path, *names: str) -> None:
    """Writes warm-up requests for signature `names` with the default signature's input."""
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra/tf_serving_warmup_requests")) as writer:
        for name in names:
            log = PredictionLog()
            log.predict_log.request.model_spec.signature_name = name
            log.predict_log.request.inputs["x"].CopyFrom(
                tf.make_tensor_proto(np.array([1.0], np.float32))
            )
            writer.write(log.SerializeToString())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--model_base_path", "unused", *arguments])


def test_new_version_is_picked_up_without_a_failed_request(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    publish(tmp_path, 1, 2.0, lambda path: warm_up_file(path, "serving_default"))
    lines: list[str] = []
    port = free_port()
    config = ServerConfig(
        tmp_path, "m", port=0, rest_api_port=port, file_system_poll_wait_seconds=0.05
    )
    with RunningServer(config, lines.append) as server:
        assert server.grpc_address is None
        client = RestClient("127.0.0.1", port)
        answers, stop = [], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.append(client.predict("m", instances=[1]))

        asking = threading.Thread(target=ask)
        asking.start()
        publish(tmp_path, 2, 3.0)
        wait_for(lambda: client.predict("m", instances=[1]) == [3.5])
        # A version whose warm-up fails does not serve, and does not disturb the one that does.
        publish(tmp_path, 3, 2.0, lambda path: warm_up_file(path, "serving_default", "nope"))
        wait_for(lambda: client.status("m")[0]["status"]["error_code"] != "OK")
        stop.set()
        asking.join()

        assert set(map(tuple, answers)) == {(2.5,), (3.5,)}
        states = {entry["version"]: entry["state"] for entry in client.status("m")}
        assert states == {"3": "END", "2": "AVAILABLE", "1": "END"}
        message = client.status("m")[0]["status"]["error_message"]
        assert "record 1 failed" in message
        assert 'Serving signature key "nope" not found.' in message
    assert [line.split(":")[1].split(",")[0].strip() for line in lines] == [
        "version 2 (savedmodel) serves",
        "version 3 failed to load",
    ]


def test_both_engines_answer_alike(publish: Callable[..., Path], tmp_path: Path) -> None:
    publish(tmp_path, 1)
    answers = []
    for prefer_tflite in (False, True):
        config = ServerConfig(
            tmp_path,
            "m",
            port=free_port(),
            rest_api_port=free_port(),
            prefer_tflite_model=prefer_tflite,
        )
        with RunningServer(config) as server, GrpcClient(str(server.grpc_address)) as grpc:
            (servable,) = server.models.servables("m")
            assert servable.engine.kind == ("tflite" if prefer_tflite else "savedmodel")
            rest = RestClient("127.0.0.1", config.rest_api_port)
            answers.append(
                (
                    rest.predict("m", instances=[1, 2, 5]),
                    rest.predict("m", inputs={"x": [3]}),
                    grpc.predict("m", {"x": np.array([7], np.float32)}).outputs["y"].tolist(),
                )
            )
            signatures = rest.metadata("m")["metadata"]["signature_def"]["signature_def"]
            assert list(signatures["serving_default"]["inputs"]) == ["x"]

    assert answers == [([2.5, 3.0, 4.5], [3.5], [5.5])] * 2


def test_stopped_server_leaves_no_thread(publish: Callable[..., Path], tmp_path: Path) -> None:
    publish(tmp_path, 1)
    before = set(threading.enumerate())
    config = ServerConfig(tmp_path, "m", port=free_port(), rest_api_port=free_port())
    with RunningServer(config) as server, GrpcClient(str(server.grpc_address)) as grpc:
        grpc.predict("m", {"x": np.array([1], np.float32)})
        RestClient("127.0.0.1", config.rest_api_port).predict("m", instances=[1])

    def ours() -> set[str]:
        return {thread.name for thread in set(threading.enumerate()) - before}

    wait_for(lambda: not {n for n in ours() if n.startswith(("grpc", "rest", "versions"))})


@pytest.mark.parametrize("warm_up", [True, False])
def test_bad_warm_up_fails_the_start_unless_it_is_off(
    publish: Callable[..., Path], tmp_path: Path, warm_up: bool
) -> None:
    publish(tmp_path, 1, 2.0, lambda path: warm_up_file(path, "nope"))
    config = ServerConfig(tmp_path, port=0, rest_api_port=free_port(), enable_model_warmup=warm_up)
    if warm_up:
        with pytest.raises(ServingError, match="enable_model_warmup=false"):
            RunningServer(config)
    else:
        RunningServer(config).stop()


def test_truncated_warm_up_file_fails_the_load(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    def truncate(path: Path) -> None:
        warm_up_file(path, "serving_default")
        file = path / "assets.extra/tf_serving_warmup_requests"
        file.write_bytes(file.read_bytes()[:-3])

    publish(tmp_path, 1, 2.0, truncate)
    with pytest.raises(ServingError, match="record 0 failed"):
        RunningServer(ServerConfig(tmp_path, port=0, rest_api_port=free_port()))


@pytest.mark.parametrize("flag", ["--port", "--rest_api_port"])
def test_port_in_use_names_port_and_flag(server: SimpleNamespace, flag: str) -> None:
    taken = server.config.port if flag == "--port" else server.config.rest_api_port
    other = "--rest_api_port" if flag == "--port" else "--port"
    arguments = parse(flag, str(taken), other, str(free_port()))

    with pytest.raises(ServingError, match=rf"127\.0\.0\.1:{taken}.*{flag}"):
        serve(arguments)


def test_failed_start_leaves_ports_free(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(ServingError, match="found none"):
        RunningServer(ServerConfig(tmp_path, port=0, rest_api_port=port))

    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def test_missing_base_path_is_told(tmp_path: Path) -> None:
    arguments = parse(
        "--model_base_path", str(tmp_path / "no"), "--port=0", f"--rest_api_port={free_port()}"
    )
    with pytest.raises(ServingError, match="Could not find base path"):
        serve(arguments)


def test_flags_are_tf_servings() -> None:
    arguments = parse()
    assert (arguments.port, arguments.rest_api_port) == (8500, 8501)
    assert (arguments.model_name, arguments.host) == ("default", "127.0.0.1")
    assert arguments.file_system_poll_wait_seconds == 1
    assert arguments.rest_api_timeout_in_ms == 30000
    assert (arguments.enable_model_warmup, arguments.prefer_tflite_model) == (True, False)

    assert parse("--prefer_tflite_model").prefer_tflite_model is True
    assert parse("--prefer_tflite_model=true").prefer_tflite_model is True
    assert parse("--enable_model_warmup=false").enable_model_warmup is False
    with pytest.raises(SystemExit):
        parse("--prefer_tflite_model=perhaps")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": 70000}, "port=70000 is no port"),
        ({"port": 0, "rest_api_port": 0}, "Both APIs are off"),
        ({"port": 8501}, "port=8501 equals rest_api_port=8501"),
        ({"model_name": "a/b"}, "model_name='a/b'"),
        ({"rest_api_timeout_in_ms": 0}, "rest_api_timeout_in_ms=0"),
        ({"file_system_poll_wait_seconds": -1}, "file_system_poll_wait_seconds=-1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServerConfig(Path("unused"), **settings)


def test_the_command_serves_until_sigterm(publish: Callable[..., Path], tmp_path: Path) -> None:
    publish(tmp_path, 1)
    rest_port, grpc_port = free_port(), free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            COMMAND,
            f"--model_base_path={tmp_path}",
            "--model_name=digits",
            f"--rest_api_port={rest_port}",
            f"--port={grpc_port}",
            "--prefer_tflite_model",
            "--file_system_poll_wait_seconds=0.1",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert ready == (
            f"Serving 'digits' version 1 (tflite) at http://127.0.0.1:{rest_port}/v1/models/digits "
            f"and grpc 127.0.0.1:{grpc_port}\n"
        )
        client = RestClient("127.0.0.1", rest_port)
        assert client.predict("digits", instances=[1]) == [2.5]
        publish(tmp_path, 2, 3.0)
        changed = process.stdout.readline()
        assert changed == "Model 'digits': version 2 (tflite) serves, in place of version 1\n"
        assert client.predict("digits", instances=[1]) == [3.5]
        process.send_signal(signal.SIGTERM)
        rest, noise = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()

    assert process.returncode == 0
    assert rest == "Stopping: requests under way may finish\n"
    # TensorFlow Lite prints one line that nothing can turn off; all else is quiet.
    assert [line for line in noise.splitlines() if "XNNPACK" not in line] == []
