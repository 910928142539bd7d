"""Metrics: what a real server counts, against requests counted by hand."""

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.serving.metrics import Metrics
from privet.serving.monitoring import DEFAULT_PATH, read_metrics_path
from privet.serving.status import RequestError, invalid_argument

PREFIX = ":tensorflow:serving:"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

# The grammar of Prometheus's text format, version 0.0.4.
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{((?:{_LABEL}(?:,(?!\}})|(?=\}})))*)\}})? (\S+)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram)")
_HELP = re.compile(rf"# HELP ({_NAME}) [^\n]*")
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def read_page(text: str) -> tuple[dict[str, str], Samples]:
    """The types and the samples of a page; fails on a line outside the grammar."""
    types: dict[str, str] = {}
    samples: Samples = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if _HELP.fullmatch(line):
            continue
        if named := _TYPE.fullmatch(line):
            assert named[1] not in types
            types[named[1]] = named[2]
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample, line
        family = re.sub(r"_(bucket|sum|count)$", "", sample[1])
        assert list(types)[-1] in (sample[1], family), f"{line} is not under its type"
        labels = tuple(
            (name, re.sub(r"\\.", lambda escape: _ESCAPES[escape[0]], value))
            for name, value in re.findall(_LABEL, sample[2] or "")
        )
        assert (sample[1], labels) not in samples, f"{line} comes twice"
        samples[sample[1], labels] = float(sample[5])
    return types, samples


def of(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name by their label values."""
    return {
        tuple(value for _, value in labels): number
        for (found, labels), number in samples.items()
        if found == name
    }


def text_of(metrics: Metrics) -> tuple[dict[str, str], Samples]:
    return read_page(metrics.page({}).decode())


@pytest.fixture(scope="module")
def monitored(
    publish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """A server of model `m`, version 1, with the metrics page."""
    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    path = tmp_path_factory.mktemp("monitored")
    publish(path / "m", 1)
    (path / "monitoring.txt").write_text("prometheus_config { enable: true }")
    config = ServerConfig(
        model_base_path=path / "m",
        model_name="m",
        port=free_port(),
        rest_api_port=free_port(),
        monitoring_config_file=path / "monitoring.txt",
    )
    with RunningServer(config) as running:
        connection = http.client.HTTPConnection("127.0.0.1", config.rest_api_port, timeout=30)

        def ask(method: str, path: str, body: Any = None) -> tuple[int, str, str]:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return response.status, response.getheader("content-type"), text

        def scrape() -> tuple[dict[str, str], Samples]:
            return read_page(ask("GET", DEFAULT_PATH)[2])

        yield SimpleNamespace(
            ask=ask, scrape=scrape, version_path=path / "m" / "1", address=running.grpc_address
        )
        connection.close()


def call_grpc(address: str) -> None:
    """One request each of: Predict, Predict in error, Regress, MultiInference, GetModelStatus."""
    from tensorflow import make_tensor_proto
    from tensorflow.core.example.example_pb2 import Example
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        inference_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    example = Example()
    example.features.feature["x"].float_list.value.extend([1.0, 2.0])
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        predict = predict_pb2.PredictRequest()
        predict.model_spec.name = "m"
        predict.inputs["x"].CopyFrom(make_tensor_proto(np.ones(1, np.float32)))
        stub.Predict(predict)
        predict.model_spec.signature_name = "none"
        with pytest.raises(grpc.RpcError):
            stub.Predict(predict)
        regress = regression_pb2.RegressionRequest()
        regress.model_spec.name, regress.model_spec.signature_name = "m", "regress"
        regress.input.example_list.examples.extend([example] * 2)
        stub.Regress(regress)
        multi = inference_pb2.MultiInferenceRequest()
        for name in ("classify", "regress"):
            task = multi.tasks.add(method_name=f"tensorflow/serving/{name}")
            task.model_spec.name, task.model_spec.signature_name = "m", name
        multi.input.example_list.examples.extend([example] * 5)
        stub.MultiInference(multi)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "m"
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)


def test_server_counts_what_a_hand_counts(monitored: SimpleNamespace) -> None:
    for body in ({"instances": [1.0]}, {"instances": [1.0, 2.0]}, {"instances": "no list"}, {}):
        monitored.ask("POST", "/v1/models/m:predict", body)
    examples = {"signature_name": "classify", "examples": [{"x": [1.0, 2.0]}] * 3}
    monitored.ask("POST", "/v1/models/m/versions/1:classify", examples)
    monitored.ask("POST", "/v1/models/other:predict", {"instances": [1.0]})
    monitored.ask("POST", "/v1/models/m:guess", {})
    monitored.ask("GET", "/v1/models/m")
    monitored.ask("GET", "/v1/models/m/metadata")
    monitored.ask("GET", "/nowhere")
    call_grpc(monitored.address)

    types, samples = monitored.scrape()
    assert of(samples, f"{PREFIX}request_count") == {
        ("", "INVALID_ARGUMENT"): 1,  # a path that names no model
        ("m", "FAILED_PRECONDITION"): 1,
        ("m", "INVALID_ARGUMENT"): 2,
        ("m", "OK"): 7,
        ("other", "NOT_FOUND"): 1,
    }
    assert of(samples, f"{PREFIX}request_latency_count") == {
        ("m", "", "REST"): 2,  # status and metadata
        ("m", "predict", "REST"): 2,
        ("m", "classify", "REST"): 1,
        ("m", "Predict", "GRPC"): 1,
        ("m", "Regress", "GRPC"): 1,
    }
    assert of(samples, f"{PREFIX}runtime_latency_count") == {
        ("m", "Predict", "TF1"): 3,
        ("m", "Classify", "TF1"): 1,
        ("m", "Regress", "TF1"): 1,
    }
    assert of(samples, f"{PREFIX}request_example_count_total") == {("m",): 3 + 2 + 5}
    assert of(samples, f"{PREFIX}request_example_counts_count") == {("m",): 3}
    assert of(samples, f"{PREFIX}request_example_counts_sum") == {("m",): 10}
    assert of(samples, "privet_signature_requests_total") == {
        ("m", "1", "serving_default"): 3,
        ("m", "1", "classify"): 2,
        ("m", "1", "regress"): 2,
    }
    assert of(samples, "privet_http_responses_total") == {("200",): 5, ("400",): 3, ("404",): 2}
    assert of(samples, "privet_model_version_available") == {("m", "1"): 1}
    assert of(samples, "privet_requests_under_way") == {("GRPC",): 0, ("REST",): 0}
    path = str(monitored.version_path)
    assert of(samples, ":tensorflow:cc:saved_model:load_attempt_count") == {(path, "success"): 1}
    assert of(samples, ":tensorflow:cc:saved_model:load_latency")[path,] > 0
    assert types[f"{PREFIX}request_count"] == "counter"
    assert types[f"{PREFIX}request_latency"] == "histogram"


def test_buckets_rise_to_the_count(monitored: SimpleNamespace) -> None:
    monitored.ask("POST", "/v1/models/m:predict", {"instances": [1.0]})
    _, samples = monitored.scrape()

    found = of(samples, f"{PREFIX}request_latency_bucket")
    buckets = {le: n for (*labels, le), n in found.items() if labels == ["m", "predict", "REST"]}
    assert len(buckets) == 34
    assert list(buckets)[-1] == "+Inf"
    assert list(buckets.values()) == sorted(buckets.values())
    labels = ("m", "predict", "REST")
    assert buckets["+Inf"] == of(samples, f"{PREFIX}request_latency_count")[labels]
    runtime = of(samples, f"{PREFIX}runtime_latency_sum")["m", "Predict", "TF1"]
    assert runtime < of(samples, f"{PREFIX}request_latency_sum")[labels] + 1e6


def test_page_has_the_type_of_tf_servings(monitored: SimpleNamespace) -> None:
    status, content_type, _ = monitored.ask("GET", DEFAULT_PATH)
    assert (status, content_type) == (200, "text/plain")


def test_hostile_names_leave_the_page_readable(monitored: SimpleNamespace) -> None:
    monitored.ask("POST", "/v1/models/%22%5C%0A%FF%7D:predict", {"instances": [1.0]})
    _, samples = monitored.scrape()
    assert of(samples, f"{PREFIX}request_count")['"\\\n?}', "NOT_FOUND"] == 1


def test_there_is_no_page_unless_asked_for(server: SimpleNamespace) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    connection.request("GET", DEFAULT_PATH)
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ("prometheus_config { enable: true path: '/metrics' }", "/metrics"),
        ("prometheus_config { path: '/metrics' }", None),
        ("", None),
    ],
)
def test_path_is_as_configured(tmp_path: Path, text: str, path: str | None) -> None:
    (tmp_path / "monitoring.txt").write_text(text)
    assert read_metrics_path(tmp_path / "monitoring.txt") == path


@pytest.mark.parametrize("path", ["metrics", "/V1/metrics", "/metrics?all", "/", "/models"])
def test_path_that_cannot_be_served_is_refused(tmp_path: Path, path: str) -> None:
    file = tmp_path / "monitoring.txt"
    file.write_text(f"prometheus_config {{ enable: true path: '{path}' }}")
    with pytest.raises(ConfigError, match=re.escape(f"path={path!r}")):
        read_metrics_path(file)


def test_made_up_names_do_not_grow_the_page_without_limit() -> None:
    metrics = Metrics()
    engine: Any = SimpleNamespace(kind="none", may_block=False, signatures={}, run=None)
    metrics.observe(engine, "served", 1)
    names = [*(f"made-up-{i}" for i in range(500)), "long" * 100, "served"]
    for name in names:
        with pytest.raises(RequestError), metrics.call("REST", "predict", name):
            raise invalid_argument("no such model")

    counts = of(text_of(metrics)[1], f"{PREFIX}request_count")
    assert sum(counts.values()) == 502
    assert len(counts) == 102
    assert counts["served", "INVALID_ARGUMENT"] == 1
    assert counts["made-up-0", "INVALID_ARGUMENT"] == 1
    assert ("made-up-499", "INVALID_ARGUMENT") not in counts


def test_request_is_under_way_until_it_ends() -> None:
    metrics = Metrics()
    under_way = "privet_requests_under_way"
    with metrics.call("REST"), metrics.call("GRPC", "Predict", "m"), metrics.call("REST"):
        assert of(text_of(metrics)[1], under_way) == {("REST",): 2, ("GRPC",): 1}
    assert of(text_of(metrics)[1], under_way) == {("REST",): 0, ("GRPC",): 0}


def test_unexpected_error_counts_as_internal() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.call("GRPC", "Predict", "m"):
        1 / 0  # noqa: B018
    assert of(text_of(metrics)[1], f"{PREFIX}request_count") == {("m", "INTERNAL"): 1}


def test_version_that_does_not_load_counts_as_failed() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.loading(Path("/m/1")):
        1 / 0  # noqa: B018
    attempts = of(text_of(metrics)[1], ":tensorflow:cc:saved_model:load_attempt_count")
    assert attempts == {("/m/1", "fail"): 1}


def test_nothing_is_counted_where_nobody_reads() -> None:
    metrics = Metrics(is_read=False)
    with metrics.call("REST", "predict", "m") as call:
        call.model_name = "n"
    assert of(text_of(metrics)[1], f"{PREFIX}request_count") == {}


def test_no_count_is_lost_between_threads() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(1000):
            with metrics.call("REST", "predict", "m"):
                pass

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _, samples = text_of(metrics)
    assert of(samples, f"{PREFIX}request_count") == {("m", "OK"): 8000}
    assert of(samples, f"{PREFIX}request_latency_count") == {("m", "predict", "REST"): 8000}
