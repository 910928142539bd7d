"""The commands that the Dockerfile's images run, run here without Docker."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

DOCKERFILE = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text(encoding="utf-8")


def command_of(target: str, instruction: str) -> list[str]:
    """The command of an instruction, as Docker would start it."""
    stage = re.search(rf"^FROM \S+ AS {target}$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S)
    assert stage is not None
    (command,) = re.findall(rf"^{instruction} [^\[\n]*(\[.*\])$", stage[1], re.MULTILINE)
    parts: list[str] = json.loads(command)
    return parts


@pytest.mark.parametrize("target", ["server", "serving"])
def test_health_checks_tell_a_server_that_serves_from_none(
    target: str, server: SimpleNamespace
) -> None:
    def check(port: int, model_name: str = "m") -> int:
        command = [part.replace("8501", str(port)) for part in command_of(target, "HEALTHCHECK")]
        command[0] = {"python": sys.executable}.get(command[0], command[0])
        return subprocess.run(
            command, env={"MODEL_NAME": model_name}, capture_output=True, check=False, timeout=30
        ).returncode

    assert check(server.rest_port) == 0
    assert check(1) != 0
    if target == "serving":
        assert check(server.rest_port, "another") != 0


def test_the_entry_point_starts_the_server_in_place_of_the_shell(tmp_path: Path) -> None:
    privet = tmp_path / "privet"
    privet.write_text('#!/bin/sh\necho $$ "$@"\n')
    privet.chmod(0o755)
    command = [*command_of("server", "ENTRYPOINT"), "--num_tflite_pools=1", "--model_name=a b"]
    environment = {"PATH": f"{tmp_path}:/bin", "MODEL_NAME": "digits", "MODEL_BASE_PATH": "/models"}

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=30)

    assert output.split(maxsplit=1) == [
        str(process.pid),
        "serve --host=0.0.0.0 --rest_api_port=8501 --prefer_tflite_model --model_name=digits "
        "--model_base_path=/models/digits --num_tflite_pools=1 --model_name=a b\n",
    ]
