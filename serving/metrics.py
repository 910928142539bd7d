"""What the server counts about its requests and models, under TF Serving's names.

A `Call` surrounds each request of either API; an `ObservedEngine` surrounds each loaded model and
tells the call under way what ran. Names, labels, buckets and units are those of TF Serving's
source (servables/tensorflow/util.cc, saved_model_warmup_util.cc) and of TensorFlow's
(cc/saved_model/loader.cc); what only Privet counts begins with `privet_`.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np

from privet.components.shared.signatures import EXAMPLES_INPUT
from privet.serving.engine import Engine, Signature
from privet.serving.prometheus import Family, Histogram, Scalar, exponential_limits, write_page
from privet.serving.status import Code, RequestError, WouldBlockError
from privet.serving.versions import State, VersionStatus
from privet.serving.warmup import WarmUp

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

Entrypoint = Literal["REST", "GRPC"]

# From 10 microseconds to about 20 minutes.
_LATENCY_LIMITS = exponential_limits(10, 1.8, 33)
_EXAMPLE_LIMITS = exponential_limits(1, 2, 15)

# Names of models that are not served come from clients, who can make up any number of them.
_MAXIMUM_UNKNOWN_NAMES = 100
_MAXIMUM_NAME_LENGTH = 200

# REST's and gRPC's names of the APIs that run a model -> the name in runtime_latency.
_RUNTIME_APIS = {
    "predict": "Predict",
    "classify": "Classify",
    "regress": "Regress",
    "Predict": "Predict",
    "Classify": "Classify",
    "Regress": "Regress",
}
# APIs whose requests are tf.Examples.
_EXAMPLE_APIS = frozenset({"classify", "regress", "Classify", "Regress", "MultiInference"})
# TF Serving's name for a session of TensorFlow's; its TFLite models run under it too.
_RUNTIME = "TF1"

_call_under_way: ContextVar["Call | None"] = ContextVar("call_under_way", default=None)


class Metrics:
    """A server's counters, from its start to its end. Any number of threads may use them."""

    def __init__(self, *, is_read: bool = True) -> None:
        """Starts to count.

        Args:
          is_read: whether there is a page to read it; if not, requests are not counted.
        """
        self._uncounted = None if is_read else _UncountedCall(self, "REST", "", "")
        self.under_way: set[Call] = set()  # its operations are atomic
        self._http_statuses: Counter[int] = Counter()
        self._lock = threading.Lock()  # guards the cells of all families
        self._served_names: set[str] = set()
        self._unknown_names: set[str] = set()
        self._request_count = Scalar(
            ":tensorflow:serving:request_count",
            "counter",
            "Requests, by how they ended.",
            ("model_name", "status"),
        )
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds that requests took which were answered.",
            ("model_name", "API", "entrypoint"),
            _LATENCY_LIMITS,
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Microseconds that the model itself took.",
            ("model_name", "API", "runtime"),
            _LATENCY_LIMITS,
        )
        self._example_counts = Histogram(
            ":tensorflow:serving:request_example_counts",
            "tf.Examples in a request.",
            ("model",),
            _EXAMPLE_LIMITS,
        )
        self._example_count_total = Scalar(
            ":tensorflow:serving:request_example_count_total",
            "counter",
            "tf.Examples in all requests.",
            ("model",),
        )
        self._warm_up_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency",
            "Microseconds that warming up a version took.",
            ("model_path", "status"),
            _LATENCY_LIMITS,
        )
        self._warm_up_records = Scalar(
            ":tensorflow:serving:model_warmup_records_read",
            "counter",
            "Requests that ran to warm up a version.",
            ("model_path", "status"),
        )
        self._load_attempts = Scalar(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "counter",
            "Times that a version was loaded, by how it ended.",
            ("model_path", "status"),
        )
        self._load_latency = Scalar(
            ":tensorflow:cc:saved_model:load_latency",
            "counter",
            "Microseconds that loading a version took, all times together.",
            ("model_path",),
        )
        self._signature_requests = Scalar(
            "privet_signature_requests_total",
            "counter",
            "Times that a signature gave an answer.",
            ("model_name", "version", "signature_name"),
        )
        started = Scalar(
            "privet_process_start_time_seconds", "gauge", "When the server started, Unix time."
        )
        started.add((), time.time())
        self._families = (
            self._request_count,
            self._request_latency,
            self._runtime_latency,
            self._example_counts,
            self._example_count_total,
            self._warm_up_latency,
            self._warm_up_records,
            self._load_attempts,
            self._load_latency,
            self._signature_requests,
            started,
        )

    def page(self, statuses: Mapping[str, Iterable[VersionStatus]]) -> bytes:
        """All of it in Prometheus's text format.

        Args:
          statuses: of each model the versions known now.
        """
        read_now = (*self._reading(), _availability(statuses))
        with self._lock:
            return write_page((*self._families, *read_now))

    def call(self, entrypoint: Entrypoint, api: str = "", model_name: str = "") -> "Call":
        """The context of one request.

        Args:
          entrypoint: the API's protocol, as TF Serving writes it.
          api: `predict`, `Predict` and so on; "" for REST requests that run no model.
          model_name: the model that the request names; "" until it is known.
        """
        return self._uncounted or Call(self, entrypoint, api, model_name)

    def observe(self, engine: Engine, model_name: str, version: int) -> Engine:
        """A loaded model whose runs are counted."""
        if self._uncounted is not None:
            return engine
        with self._lock:
            self._served_names.add(model_name)
        return _ObservedEngine(engine, model_name, str(version))

    @contextlib.contextmanager
    def loading(self, path: Path) -> Iterator[None]:
        """Surrounds the loading of a version from its directory."""
        start, ending = perf_counter_ns(), "fail"
        try:
            yield
            ending = "success"
        finally:
            with self._lock:
                self._load_attempts.add((str(path), ending))
                self._load_latency.add((str(path),), _microseconds_since(start))

    def warmed_up(self, path: Path, done: WarmUp) -> None:
        """Counts the warm-up of a version by requests of its own, as TF Serving does."""
        if done.made_up or not done.requests:
            return
        with self._lock:
            self._warm_up_latency.observe((str(path), "OK"), round(1e6 * done.seconds))
            self._warm_up_records.add((str(path), "OK"), done.requests)

    def responded(self, status: int) -> None:
        """Counts an HTTP response; called in the HTTP server's one thread only."""
        self._http_statuses[status] += 1

    def ended(self, call: "Call", status: str) -> None:
        """Counts a request that has ended with the name of a canonical code."""
        microseconds = _microseconds_since(call.start)
        api = _RUNTIME_APIS.get(call.api)
        self.under_way.discard(call)
        with self._lock:
            # TF Serving counts every REST request, of gRPC's only those that these APIs get.
            if api is not None or call.entrypoint == "REST":
                name = self._counted_name(call.model_name)
                self._request_count.add((name, status))
                if status == "OK":
                    self._request_latency.observe((name, call.api, call.entrypoint), microseconds)
            for name, version, signature_name, run_microseconds in call.runs:
                self._signature_requests.add((name, version, signature_name))
                if api is not None:
                    self._runtime_latency.observe((name, api, _RUNTIME), run_microseconds)
            if call.examples:
                self._example_counts.observe((call.runs[0][0],), call.examples)
                self._example_count_total.add((call.runs[0][0],), call.examples)

    def _reading(self) -> Iterator[Family]:
        """The families whose cells are kept in other forms."""
        under_way = Scalar(
            "privet_requests_under_way", "gauge", "Requests being answered.", ("entrypoint",)
        )
        calls = Counter(call.entrypoint for call in self.under_way.copy())
        for entrypoint in get_args(Entrypoint):
            under_way.add((entrypoint,), calls[entrypoint])
        yield under_way
        responses = Scalar(
            "privet_http_responses_total",
            "counter",
            "HTTP responses by status, those of pages outside the REST API too.",
            ("status",),
        )
        for status, count in self._http_statuses.copy().items():
            responses.add((str(status),), count)
        yield responses

    def _counted_name(self, name: str) -> str:
        """The name under which a request's model is counted: "" for one unknown name too many."""
        if name in self._served_names or name in self._unknown_names:
            return name
        # A name that is not Unicode would make the whole page unreadable.
        name = name.encode("utf-8", "replace").decode("utf-8")
        if len(self._unknown_names) >= _MAXIMUM_UNKNOWN_NAMES or len(name) > _MAXIMUM_NAME_LENGTH:
            return ""
        self._unknown_names.add(name)
        return name


class Call:
    """The context of one request, from which it is counted when it ends.

    Its status is that of the RequestError that leaves it. The engine that runs meanwhile finds it
    by a context variable, so that nothing between the two has to pass it on.

    Attributes:
      entrypoint, api, model_name: see `Metrics.call`; the last two may be set when they are known.
      start: of the request, in nanoseconds.
      runs: model name, version, signature name and microseconds of what ran.
      examples: how many tf.Examples the request holds; 0 if it is not of such.
    """

    __slots__ = (
        "_metrics",
        "_token",
        "api",
        "entrypoint",
        "examples",
        "model_name",
        "runs",
        "start",
    )

    def __init__(self, metrics: Metrics, entrypoint: Entrypoint, api: str, model_name: str) -> None:
        self._metrics = metrics
        self.entrypoint = entrypoint
        self.api = api
        self.model_name = model_name
        self.runs: list[tuple[str, str, str, int]] = []
        self.examples = 0

    def __enter__(self) -> Self:
        self.start = perf_counter_ns()
        self._token = _call_under_way.set(self)
        self._metrics.under_way.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _call_under_way.reset(self._token)
        if isinstance(error, WouldBlockError):  # it begins again in another thread
            self._metrics.under_way.discard(self)
            return
        if error is None:
            status = "OK"
        else:
            status = error.code.name if isinstance(error, RequestError) else Code.INTERNAL.name
        self._metrics.ended(self, status)


class _UncountedCall(Call):
    """Stands for every request where nobody reads the metrics."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


class _ObservedEngine:
    """An engine that tells the call under way what it ran; outside of one it tells nobody."""

    def __init__(self, engine: Engine, model_name: str, version: str) -> None:
        self.kind = engine.kind
        self.may_block = engine.may_block
        self.signatures: Mapping[str, Signature] = engine.signatures
        self._engine = engine
        self._run = engine.run
        self._model_name = model_name
        self._version = version

    @property
    def signature_defs(self) -> Mapping[str, "SignatureDef"]:
        return self._engine.signature_defs

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        call = _call_under_way.get()
        if call is None:
            return self._run(signature_name, inputs, output_filter)
        start = perf_counter_ns()
        outputs = self._run(signature_name, inputs, output_filter)
        elapsed = _microseconds_since(start)
        call.runs.append((self._model_name, self._version, signature_name, elapsed))
        if call.api in _EXAMPLE_APIS:
            call.examples = len(inputs[EXAMPLES_INPUT])
        return outputs

    def close(self) -> None:
        self._engine.close()


def _availability(statuses: Mapping[str, Iterable[VersionStatus]]) -> Family:
    """Which versions answer."""
    available = Scalar(
        "privet_model_version_available",
        "gauge",
        "Whether a version is AVAILABLE.",
        ("model_name", "version"),
    )
    for name, versions in statuses.items():
        for status in versions:
            values = (name, str(status.version))
            available.add(values, int(status.state == State.AVAILABLE))
    return available


def _microseconds_since(start: int) -> int:
    """The time since a value of `time.perf_counter_ns`."""
    return (perf_counter_ns() - start) // 1000
