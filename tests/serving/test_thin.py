"""`privet serve` where only requirements-tflite.txt is installed: the same answers, REST alone."""

import http.client
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from privet.serving.config import ServerConfig
from privet.serving.ports import free_port
from privet.serving.running import RunningServer

ROOT = Path(__file__).resolve().parents[2]
_ROW = ",".join(f"{number % 17}.5" for number in range(64))


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SimpleNamespace]:
    """How to start `privet` with nothing to import but the standard library and that list."""
    folder = tmp_path_factory.mktemp("thin")
    for package in re.findall(r"^([\w-]+)==", (ROOT / "requirements-tflite.txt").read_text(), re.M):
        for file in importlib.metadata.distribution(package).files or ():
            # What others share, such as google, only down to the package's own part.
            depth = 2 if file.parts[0] == "google" else 1
            part = Path(*file.parts[:depth])
            if part.parts[0] in ("..", "__pycache__") or (folder / part).is_symlink():
                continue
            (folder / part).parent.mkdir(exist_ok=True)
            (folder / part).symlink_to(file.locate().parents[len(file.parts) - 1] / part)
    (folder / "privet").mkdir()
    for name in ("components", "pipeline", "serving"):
        (folder / "privet" / name).symlink_to(ROOT / name)

    def command(*arguments: str) -> SimpleNamespace:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
        return SimpleNamespace(
            args=[sys.executable, "-S", "-m", "privet.pipeline.cli", *arguments],
            env={**environment, "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder,
        )

    return command


def run(command: SimpleNamespace) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**vars(command), capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pushed model like the digits': 64 pixels in, ten scores out; two signatures."""
    import numpy as np
    import tensorflow as tf

    from privet.components.shared.signatures import tflite_signature, with_signature_metadata

    generator = np.random.default_rng(0)
    hidden, last = (
        tf.constant(generator.normal(0, 0.2, shape), tf.float32) for shape in ((64, 32), (32, 10))
    )

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="pixels")])
        def serve(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            scores = tf.nn.softmax(tf.nn.relu(pixels @ hidden) @ last)
            return {"scores": scores, "label": tf.argmax(scores, axis=1)}

    model = Model()
    content = tf.lite.TFLiteConverter.from_concrete_functions(
        [model.serve.get_concrete_function()], model
    ).convert()
    signature = tflite_signature(content, "serving_default")
    version = tmp_path_factory.mktemp("pushed") / "digits" / "1"
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(
        with_signature_metadata(content, {"serving_default": signature, "again": signature})
    )
    return version.parent


@pytest.fixture(scope="module")
def answers(base_path: Path, thin: Callable[..., SimpleNamespace]) -> Iterator[SimpleNamespace]:
    """Asks the whole install, in this process, and the thin one, in another."""
    ports = free_port(), free_port()
    config = ServerConfig(
        model_base_path=base_path,
        model_name="digits",
        port=0,
        rest_api_port=ports[0],
        prefer_tflite_model=True,
    )
    command = thin(
        "serve",
        "--prefer_tflite_model",
        "--model_name=digits",
        f"--model_base_path={base_path}",
        f"--rest_api_port={ports[1]}",
    )

    def ask(port: int, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    with (
        RunningServer(config),
        subprocess.Popen(**vars(command), stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield SimpleNamespace(
                ready_line=process.stdout.readline(),
                of_both=lambda *request: [ask(port, *request) for port in ports],
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "", None, 200),
        ("GET", "/metadata", None, 200),
        ("GET", "/versions/7", None, 404),
        ("POST", ":predict", f'{{"instances": [[{_ROW}]]}}', 200),
        ("POST", ":predict", f'{{"instances": [{",".join([f"[{_ROW}]"] * 35)}]}}', 200),
        ("POST", ":predict", f'{{"signature_name": "again", "inputs": [[{_ROW}]]}}', 200),
        ("POST", ":predict", '{"instances": [[1, 2, 3]]}', 400),
        ("POST", ":predict", '{"inputs": 1.0}', 400),
        ("POST", ":predict", "{", 400),
        ("POST", ":classify", '{"examples": [{"x": 1.0}]}', 400),
    ],
)
def test_answers_are_the_whole_installs_byte_for_byte(
    answers: SimpleNamespace, method: str, path: str, body: str | None, status: int
) -> None:
    whole, alone = answers.of_both(method, f"/v1/models/digits{path}", body)

    assert alone[0] == status
    assert alone == whole


def test_the_ready_line_says_that_there_is_no_grpc(answers: SimpleNamespace) -> None:
    assert answers.ready_line.startswith("Serving 'digits' version 1 (tflite) at http://127.0.0.1:")
    assert answers.ready_line.rstrip().endswith("(REST alone: gRPC takes TensorFlow)")


def test_a_grpc_port_is_refused_with_what_to_do(
    thin: Callable[..., SimpleNamespace], base_path: Path
) -> None:
    done = run(thin("serve", f"--model_base_path={base_path}", "--port=8500"))

    assert done.returncode == 2
    assert "Add --port=0" in done.stderr


def test_a_saved_model_is_refused_with_what_to_do(
    thin: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")

    done = run(thin("serve", f"--model_base_path={tmp_path}", f"--rest_api_port={free_port()}"))

    assert done.returncode == 1
    assert "Add --prefer_tflite_model" in done.stderr


def test_another_command_says_what_to_install(
    thin: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    done = run(thin("plan", str(tmp_path / "config.yaml")))

    assert done.returncode == 1
    assert re.fullmatch(
        r"privet plan: wanted all of Privet; .* Install requirements\.txt .*\n", done.stderr
    )
