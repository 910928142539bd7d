"""TF Serving's gRPC services over a server's models: PredictionService and ModelService.

Importing this imports TensorFlow, by way of tensorflow_serving.apis.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec

from privet.components.shared.errors import ServingError
from privet.serving import protos
from privet.serving.metrics import Call, Metrics
from privet.serving.models import ModelRequest, Models
from privet.serving.status import Code, RequestError, invalid_argument

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAXIMUM_MESSAGE = 1024
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # grpcio shares a port with any other process that asks for it, without a word.
    ("grpc.so_reuseport", 0),
]

_log = logging.getLogger(__name__)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference and metadata."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        call = self._metrics.call("GRPC", "Predict", request.model_spec.name)
        return _answer(context, call, self._run, request, protos.predict)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        call = self._metrics.call("GRPC", "Classify", request.model_spec.name)
        return _answer(context, call, self._run, request, protos.classify)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        call = self._metrics.call("GRPC", "Regress", request.model_spec.name)
        return _answer(context, call, self._run, request, protos.regress)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        call = self._metrics.call("GRPC", "MultiInference")
        return _answer(context, call, self._multi_inference, request)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        call = self._metrics.call("GRPC", "GetModelMetadata")
        return _answer(context, call, self._metadata, request)

    def _run(self, request: Any, function: Callable[..., Any]) -> Any:
        """Answers a request of one model."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        with self._models.use(_model_request(request.model_spec)) as servable:
            return function(servable.engine, servable.version, request)

    def _multi_inference(self, request: Any) -> Any:
        # The first task's model answers; that all tasks name it is checked later.
        model_spec = request.tasks[0].model_spec if request.tasks else ModelSpec()
        with self._models.use(_model_request(model_spec)) as servable:
            return protos.multi_inference(servable.engine, servable.version, request)

    def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid_argument(f"Metadata field {name} is not supported")
        with self._models.use(_model_request(request.model_spec)) as servable:
            return protos.metadata(servable.engine, servable.model_name, servable.version)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The states of versions."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        call = self._metrics.call("GRPC", "GetModelStatus")
        return _answer(context, call, self._status, request)

    def HandleReloadConfigRequest(  # noqa: N802
        self, request: Any, context: grpc.ServicerContext
    ) -> Any:
        call = self._metrics.call("GRPC", "HandleReloadConfigRequest")
        return _answer(context, call, self._reload, request)

    def _status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        response = GetModelStatusResponse()
        for status in self._models.statuses(_model_request(request.model_spec)):
            entry = response.model_version_status.add(
                version=status.version, state=int(status.state)
            )
            entry.status.error_code = int(status.code)
            entry.status.error_message = status.message
        return response

    def _reload(self, _request: Any) -> NoReturn:
        raise RequestError(
            Code.UNIMPLEMENTED,
            "HandleReloadConfigRequest is not supported: this server serves the one model of "
            "--model_name and --model_base_path. New versions are picked up from its directory.",
        )


class GrpcServer:
    """The gRPC API on a port, from its start to its end."""

    def __init__(
        self, models: Models, metrics: Metrics, host: str, port: int, maximum_threads: int
    ) -> None:
        """Starts to serve.

        Raises:
          ServingError: the port is in use.
        """
        self._pool = ThreadPoolExecutor(maximum_threads, thread_name_prefix="grpc")
        self._server = grpc.server(self._pool, options=_OPTIONS)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(models, metrics), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(models, metrics), self._server
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            self._pool.shutdown()
            raise ServingError(
                f"Wanted to listen for gRPC on {address}; the port cannot be bound. Stop what "
                "uses it, or choose another with --port."
            )
        self._stopped: threading.Event | None = None
        self._server.start()

    def ask_to_stop(self, drain_seconds: float) -> None:
        """Makes it take no more requests; those under way have this long to finish."""
        self._stopped = self._server.stop(drain_seconds)

    def join(self) -> None:
        """Waits until the requests under way are answered."""
        if self._stopped is not None:
            self._stopped.wait()
        self._pool.shutdown(cancel_futures=True)  # grpcio leaves the threads to its caller


def _answer(
    context: grpc.ServicerContext, call: Call, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Calls `function`, and turns its error into the call's status."""
    try:
        with call:
            return function(*arguments)
    except RequestError as error:
        code, message = error.code, error.message
    except Exception as error:
        _log.exception("A gRPC request failed")
        code, message = Code.INTERNAL, f"{type(error).__name__}: {error}"
    if len(message) > _MAXIMUM_MESSAGE:
        message = message[:_MAXIMUM_MESSAGE] + "...TRUNCATED"
    return context.abort(_STATUS_CODES[int(code)], message)  # raises


def _model_request(model_spec: ModelSpec) -> ModelRequest:
    """The model that a request names."""
    choice = model_spec.WhichOneof("version_choice")
    return ModelRequest(
        name=model_spec.name,
        version=model_spec.version.value if choice == "version" else None,
        label=model_spec.version_label if choice == "version_label" else None,
    )
