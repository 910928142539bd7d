"""Several real models on a real server: policies, labels, changes of the list, swaps under load."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ConfigError, ServingError
from privet.serving.client import GrpcClient
from privet.serving.config import ServerConfig
from privet.serving.ports import free_port
from privet.serving.running import RunningServer
from privet.serving.server import _ready_line

SWAPS = 20


def entry(name: str, base_path: Path, more: str = "") -> str:
    platform = "" if "model_platform" in more else "model_platform: 'tensorflow'"
    return f"config {{ name: '{name}' base_path: '{base_path}' {platform} {more} }}"


def labels(stable: int, canary: int) -> str:
    text = "version_labels {{ key: '{}' value: {} }}"
    return text.format("stable", stable) + text.format("canary", canary)


def config_file(path: Path, *entries: str) -> Path:
    """Writes the file as a careful user does: under another name, then renamed."""
    path.with_suffix(".tmp").write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return path.with_suffix(".tmp").rename(path)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, Any, Mapping]:
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    return response.status, json.loads(response.read()), response.headers


@pytest.fixture(scope="module")
def several(
    publish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """Model `a`: versions 1 (x/2 + 2) and 2 (x/2 + 3), labelled; model `b`: 7, which is a's 2."""
    path = tmp_path_factory.mktemp("several")
    publish(path / "a", 1, 2.0)
    publish(path / "a", 2, 3.0)
    publish(path / "b", 7, 3.0)
    lines: list[str] = []
    config = ServerConfig(
        model_config_file=config_file(
            path / "models.config",
            entry("a", path / "a", f"model_version_policy {{ all {{ }} }} {labels(1, 2)}"),
            entry("b", path / "b", "model_platform: 'tflite'"),
        ),
        model_config_file_poll_wait_seconds=0.02,
        port=free_port(),
        rest_api_port=free_port(),
        file_system_poll_wait_seconds=0.02,
    )
    with RunningServer(config, lines.append) as running:
        connection = http.client.HTTPConnection("127.0.0.1", config.rest_api_port, timeout=30)

        def rest(path: str) -> Any:
            """What x = 1 gives, or the status and the error."""
            status, answer, _ = post(connection, f"/v1/models/{path}:predict", {"instances": [1.0]})
            return answer["predictions"][0] if status == 200 else (status, answer["error"])

        yield SimpleNamespace(path=path, config=config, running=running, lines=lines, rest=rest)
        connection.close()


def test_models_versions_and_labels_over_both_apis(several: SimpleNamespace) -> None:
    rest = several.rest
    assert (rest("a"), rest("a/versions/1"), rest("b")) == (3.5, 2.5, 3.5)
    assert (rest("a/labels/stable"), rest("a/labels/canary")) == (2.5, 3.5)
    assert rest("a/labels/beta") == (400, "Unrecognized servable version label: beta")
    assert rest("c") == (404, "Servable not found for request: Latest(c)")

    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    with grpc.insecure_channel(several.running.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = PredictRequest()
        request.model_spec.name = "a"
        request.inputs["x"].CopyFrom(_tensor([1.0]))
        request.model_spec.version_label = "stable"
        response = stub.Predict(request)
        assert (response.model_spec.version.value, response.outputs["y"].float_val[0]) == (1, 2.5)
        request.model_spec.version_label = "beta"
        with pytest.raises(grpc.RpcError, match="version label: beta") as caught:
            stub.Predict(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    assert _ready_line(several.running) == (
        f"Serving 2 models at http://127.0.0.1:{several.config.rest_api_port}/v1/models and grpc "
        f"{several.running.grpc_address}: 'a' versions 1 and 2 (savedmodel), 'b' version 7 (tflite)"
    )


def test_file_that_changes_is_followed_and_a_wrong_one_is_not(
    several: SimpleNamespace, publish: Callable[..., Path]
) -> None:
    path, rest, lines = several.path, several.rest, several.lines
    lines.clear()
    file = path / "models.config"
    both = "model_version_policy { all { } }"
    config_file(file, entry("a", path / "nowhere"), entry("c", path / "b"))
    wait_for(lambda: len(lines) == 1)
    assert "is refused, the one before stays: 1 model(s) did not become available" in lines[0]
    assert rest("a/labels/stable") == 2.5
    assert several.running.models.names() == ("a", "b")

    # The label moves, c comes, b goes.
    config_file(
        file,
        entry("a", path / "a", f"{both} {labels(2, 2)}"),
        entry("c", path / "b"),
    )
    wait_for(lambda: several.running.models.names() == ("a", "c"))
    assert (rest("a/labels/stable"), rest("c")) == (3.5, 3.5)
    assert rest("b") == (404, "Servable not found for request: Latest(b)")
    wait_for(lambda: "Model 'b': no longer served" in lines)

    # Only version 1 is left.
    only = "model_version_policy { specific { versions: 1 } }"
    config_file(file, entry("a", path / "a", only))
    wait_for(lambda: rest("a") == 2.5)
    wait_for(
        lambda: rest("a/versions/2") == (404, "Servable not found for request: Specific(a, 2)")
    )
    assert several.running.models.is_ready()
    told = "Model 'a': version 2 no longer serves"  # a moment after it does not
    wait_for(lambda: [line for line in lines if "version 2" in line] == [told])


def test_start_fails_with_the_model_that_cannot_be_served(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    publish(tmp_path / "a", 1)
    (tmp_path / "bad" / "1").mkdir(parents=True)
    ports = {"port": 0, "rest_api_port": free_port()}
    file = tmp_path / "models.config"

    config_file(file, entry("a", tmp_path / "a"), entry("bad", tmp_path / "bad"))
    with pytest.raises(ServingError, match=r"1 model.* 'bad' .*Could not find SavedModel"):
        RunningServer(ServerConfig(model_config_file=file, **ports))
    config_file(file, entry("a", Path("a")))
    with pytest.raises(ConfigError, match=r"models\.config; Expected model a to have an absolute"):
        RunningServer(ServerConfig(model_config_file=file, **ports))


def test_swaps_under_load_fail_no_request_and_mix_no_answer(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    """16 clients, half over REST, while 20 versions that answer alternately differently come."""
    publish(tmp_path, 1, 2.0)
    config = ServerConfig(
        tmp_path,
        "m",
        port=free_port(),
        rest_api_port=free_port(),
        file_system_poll_wait_seconds=0.01,
    )
    expected = {2.5, 3.5}
    problems: list[Any] = []
    seen: list[set[int]] = []
    done = threading.Event()

    def check(values: list[float], version: int | None, known: set[int]) -> None:
        """All rows are of one version, which is the one that the response names."""
        wanted = expected if version is None else {2.5 + (version - 1) % 2}
        if len(values) != 5 or len(set(values)) != 1 or values[0] not in wanted:
            problems.append((values, version))
        known.add(version or 0)

    def ask_rest() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", config.rest_api_port, timeout=30)
        known: set[int] = set()
        while not done.is_set():
            status, answer, headers = post(
                connection, "/v1/models/m:predict", {"instances": [1.0] * 5}
            )
            if status != 200:
                problems.append((status, answer))
                continue
            named = headers.get("X-Model-Version")
            check(answer["predictions"], None if named is None else int(named), known)
        connection.close()
        seen.append(known)

    def ask_grpc() -> None:
        known: set[int] = set()
        with GrpcClient(f"127.0.0.1:{config.port}") as client:
            while not done.is_set():
                answer = client.predict("m", {"x": np.ones(5, np.float32)})
                check(answer.outputs["y"].tolist(), answer.version, known)
        seen.append(known)

    def client(ask: Callable[[], None]) -> None:
        try:
            ask()
        except Exception as error:
            problems.append(error)

    with RunningServer(config) as server:
        clients = [threading.Thread(target=client, args=(ask,)) for ask in (ask_rest, ask_grpc) * 8]
        for thread in clients:
            thread.start()
        try:
            for version in range(2, 2 + SWAPS):
                publish(tmp_path, version, 2.0 + (version - 1) % 2)
                wait_for(lambda: [s.version for s in server.models.servables("m")] == [version])  # noqa: B023
        finally:
            done.set()
            for thread in clients:
                thread.join()

    assert problems == []
    assert len(seen) == 16
    assert len(set.union(*seen) - {0}) > SWAPS // 2  # the clients did ask during the swaps


def _tensor(values: list[float]) -> Any:
    import tensorflow as tf

    return tf.make_tensor_proto(np.array(values, np.float32))
