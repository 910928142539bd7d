"""TF Serving's gRPC API over a server's models: what each method answers, and nothing of servers.

Importing this imports TensorFlow, by way of tensorflow_serving.apis.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from privet.serving import protos, tensors
from privet.serving.metrics import Metrics
from privet.serving.models import ModelRequest, Models
from privet.serving.status import Code, RequestError, WouldBlockError, invalid_argument
from privet.serving.versions import Servable

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_MAXIMUM_MESSAGE_BYTES = 1024

_NO_MODEL = ModelSpec()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """One method of a service.

    Attributes:
      name: as in the service's definition.
      request_type: the class of its requests.
      answer: a request -> its response. Raises RequestError.
      counts_model: whether TF Serving counts its requests by the model that they name.
    """

    name: str
    request_type: type[Message]
    answer: Callable[[Any], "Answer"]
    counts_model: bool = False


class Answer(NamedTuple):
    """A response, and whether a request like it may wait for others next time."""

    response: Message
    may_block: bool = False


class GrpcApi:
    """PredictionService and ModelService over a server's models."""

    def __init__(self, models: Models, metrics: Metrics, *, may_reload: bool = True) -> None:
        """Answers from `models`.

        Args:
          models: what is served.
          metrics: where requests are counted.
          may_reload: whether clients may say what is served.
        """
        self._models = models
        self._metrics = metrics
        self._may_reload = may_reload
        prediction = (
            Method("Predict", PredictRequest, self._predict, counts_model=True),
            Method("Classify", ClassificationRequest, self._classify, counts_model=True),
            Method("Regress", RegressionRequest, self._regress, counts_model=True),
            Method("MultiInference", MultiInferenceRequest, self._multi_inference),
            Method("GetModelMetadata", GetModelMetadataRequest, self._metadata),
        )
        model = (
            Method("GetModelStatus", GetModelStatusRequest, self._status),
            Method("HandleReloadConfigRequest", ReloadConfigRequest, self._reload),
        )
        self.services: Mapping[str, tuple[Method, ...]] = {
            PREDICTION_SERVICE: prediction,
            MODEL_SERVICE: model,
        }

    def respond(self, method: Method, request: Any) -> tuple[bytes, bool]:
        """Answers a request, and counts it.

        Returns:
          The response, serialized; and whether a request like it may block next time.

        Raises:
          RequestError: the request cannot be answered; its message is as short as TF Serving's.
          WouldBlockError: an event loop called, and would have to wait.
        """
        name = request.model_spec.name if method.counts_model else ""
        try:
            with self._metrics.call("GRPC", method.name, name):
                answer = method.answer(request)
                return answer.response.SerializeToString(), answer.may_block
        except RequestError as error:
            raise RequestError(error.code, _cut(error.message)) from error
        except WouldBlockError:
            raise
        except Exception as error:
            _log.exception("A gRPC request failed")
            raise RequestError(Code.INTERNAL, _cut(f"{type(error).__name__}: {error}")) from error

    def _predict(self, request: Any) -> Answer:
        return self._run(request, protos.predict)

    def _classify(self, request: Any) -> Answer:
        return self._run(request, protos.classify)

    def _regress(self, request: Any) -> Answer:
        return self._run(request, protos.regress)

    def _run(self, request: Any, function: Callable[..., Message]) -> Answer:
        """Answers a request of one model."""
        _check_has_model_spec(request)
        with self._models.use(_model_request(request.model_spec)) as servable:
            return _inference_answer(servable, function, request)

    def _multi_inference(self, request: Any) -> Answer:
        # The first task's model answers; that all tasks name it is checked later.
        model_spec = request.tasks[0].model_spec if request.tasks else ModelSpec()
        with self._models.use(_model_request(model_spec)) as servable:
            return _inference_answer(servable, protos.multi_inference, request)

    def _metadata(self, request: Any) -> Answer:
        _check_has_model_spec(request)
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid_argument(f"Metadata field {name} is not supported")
        with self._models.use(_model_request(request.model_spec)) as servable:
            metadata = protos.metadata(servable.engine, servable.model_name, servable.version)
            return Answer(metadata)

    def _status(self, request: Any) -> Answer:
        _check_has_model_spec(request)
        response = GetModelStatusResponse()
        for status in self._models.statuses(_model_request(request.model_spec)):
            entry = response.model_version_status.add(
                version=status.version, state=int(status.state)
            )
            entry.status.error_code = int(status.code)
            entry.status.error_message = status.message
        return Answer(response)

    def _reload(self, request: Any) -> Answer:
        if not self._may_reload:
            raise RequestError(
                Code.PERMISSION_DENIED,
                "HandleReloadConfigRequest loads any directory that this server can read, and "
                "anybody may reach it. Start it with --auth_token_file, with client_verify in "
                "--ssl_config_file, or on a loopback --host.",
            )
        self._models.reload(request.config)
        response = ReloadConfigResponse()
        response.status.SetInParent()  # OK
        return Answer(response, may_block=True)  # until the new models have loaded


def _inference_answer(servable: Servable, function: Callable[..., Message], request: Any) -> Answer:
    """Runs a request on a model."""
    engine = servable.engine
    response = function(engine, servable.version, request)
    return Answer(response, may_block=engine.may_block)


def parse(method: Method, content: bytes) -> Any:
    """A request from its bytes.

    Raises:
      RequestError: INTERNAL, as gRPC for C++ has it.
    """
    try:
        return method.request_type.FromString(content)
    except DecodeError as error:
        raise RequestError(
            Code.INTERNAL,
            f"Wanted a {method.request_type.DESCRIPTOR.full_name}; the {len(content)} bytes that "
            "came are none. Check the proto files of the client.",
        ) from error


def kind(method: Method, request: Any) -> tuple[str, str, str]:
    """What requests have in common that take the same time: method, model and signature."""
    spec = getattr(request, "model_spec", _NO_MODEL)
    return method.name, spec.name, spec.signature_name


def has_more_elements(request: Any, limit: int) -> bool:
    """Whether a tensor in a request has more elements than `limit`: few bytes may ask for many."""
    if not isinstance(request, PredictRequest):
        return False
    return any(tensors.has_more_elements(proto, limit) for proto in request.inputs.values())


def _check_has_model_spec(request: Any) -> None:
    """Refuses a request that names no model."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


def _model_request(model_spec: ModelSpec) -> ModelRequest:
    """The model that a request names."""
    choice = model_spec.WhichOneof("version_choice")
    return ModelRequest(
        name=model_spec.name,
        version=model_spec.version.value if choice == "version" else None,
        label=model_spec.version_label if choice == "version_label" else None,
    )


def _cut(message: str) -> str:
    """A message of the length that TF Serving allows, in bytes."""
    content = message.encode("utf-8", "replace")
    if len(content) <= _MAXIMUM_MESSAGE_BYTES:
        return message
    return content[:_MAXIMUM_MESSAGE_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"
