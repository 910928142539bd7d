"""gRPC requests to a serving process, by TF Serving's own stubs: arrays in and out.

It speaks to `privet serve` and to tensorflow/serving alike. Making a client imports TensorFlow, by
way of tensorflow_serving.apis; importing this module does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from privet.components.shared.errors import ServingError
from privet.serving import tensors
from privet.serving.client_errors import client_error
from privet.serving.client_tls import ClientTls, channel_credentials
from privet.serving.status import Code
from privet.serving.versions import State, VersionStatus

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # By itself a channel waits up to two minutes before it tries a server again that was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class GrpcPrediction:
    """The outputs of a predict call, and the version that gave them."""

    outputs: dict[str, np.ndarray]
    version: int


class GrpcClient:
    """gRPC requests to one server, over one channel, which threads may share."""

    def __init__(
        self,
        address: str,
        timeout_seconds: float = 30.0,
        *,
        token: str | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        """Opens a channel to `host:port`; nothing is sent yet."""
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.address = address
        self._timeout_seconds = timeout_seconds
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._channel = (
            grpc.insecure_channel(address, _OPTIONS)
            if tls is None
            else grpc.secure_channel(address, channel_credentials(tls), _OPTIONS)
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        model_name: str,
        inputs: Mapping[str, np.ndarray],
        *,
        signature_name: str = "",
        version: int | None = None,
        label: str | None = None,
        output_filter: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> GrpcPrediction:
        """Predicts.

        Raises:
          ClientError: the server cannot be reached or refuses, with its message.
        """
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        request = PredictRequest(output_filter=output_filter)
        _fill_model_spec(request.model_spec, model_name, version, label, signature_name)
        for name, array in inputs.items():
            try:
                tensors.pack_proto(request.inputs[name], np.asarray(array))
            except ValueError as error:
                raise client_error(
                    f"Input {name!r} of {model_name!r}", Code.INVALID_ARGUMENT, str(error)
                ) from error
        response = self._call(self._prediction.Predict, request, timeout_seconds)
        return GrpcPrediction(
            outputs={
                name: tensors.array_from_proto(proto) for name, proto in response.outputs.items()
            },
            version=response.model_spec.version.value,
        )

    def classify(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Classifies examples (feature name -> value or flat list).

        Returns:
          For each example its (label, score) pairs.

        Raises:
          ClientError: the server cannot be reached or refuses, with its message.
        """
        from tensorflow_serving.apis.classification_pb2 import ClassificationRequest

        request = ClassificationRequest()
        _fill_model_spec(request.model_spec, model_name, version, label, signature_name)
        _fill_input(request.input, examples, context)
        response = self._call(self._prediction.Classify, request, timeout_seconds)
        return [
            [(found.label, found.score) for found in classifications.classes]
            for classifications in response.result.classifications
        ]

    def regress(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str = "",
        version: int | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
    ) -> list[float]:
        """Regresses examples (feature name -> value or flat list).

        Returns:
          One number for each example.

        Raises:
          ClientError: the server cannot be reached or refuses, with its message.
        """
        from tensorflow_serving.apis.regression_pb2 import RegressionRequest

        request = RegressionRequest()
        _fill_model_spec(request.model_spec, model_name, version, label, signature_name)
        _fill_input(request.input, examples, context)
        response = self._call(self._prediction.Regress, request, timeout_seconds)
        return [regression.value for regression in response.result.regressions]

    def status(self, model_name: str) -> dict[int, str]:
        """The state of each version of a model.

        Raises:
          ClientError: the server cannot be reached, or does not know the model.
        """
        return {status.version: status.state.name for status in self.statuses(model_name)}

    def statuses(
        self,
        model_name: str,
        version: int | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """The same with the reasons, newest first, or of one version.

        Raises:
          ClientError: the server cannot be reached, or does not know the model.
        """
        from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

        request = GetModelStatusRequest()
        _fill_model_spec(request.model_spec, model_name, version, None)
        response = self._call(self._model.GetModelStatus, request, timeout_seconds)
        return tuple(
            VersionStatus(
                status.version,
                State(status.state),
                Code(status.status.error_code),
                status.status.error_message,
            )
            for status in response.model_version_status
        )

    def signature_defs(
        self,
        model_name: str,
        version: int | None = None,
        label: str | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> dict[str, Any]:
        """The model's signatures: name -> SignatureDef message.

        Raises:
          ClientError: the server cannot be reached, or does not know the model.
        """
        from tensorflow_serving.apis.get_model_metadata_pb2 import (
            GetModelMetadataRequest,
            SignatureDefMap,
        )

        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_model_spec(request.model_spec, model_name, version, label)
        response = self._call(self._prediction.GetModelMetadata, request, timeout_seconds)
        signatures = SignatureDefMap()
        if not response.metadata["signature_def"].Unpack(signatures):
            raise ServingError(
                f"Wanted a SignatureDefMap from gRPC {self.address}; got "
                f"{response.metadata['signature_def'].type_url!r}. Is this TF Serving?"
            )
        return dict(signatures.signature_def)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout_seconds: float | None) -> Any:
        """Sends one request."""
        import grpc

        timeout = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            code = Code(error.code().value[0])
            where = f"gRPC {self.address} answered {code.name}"
            raise client_error(where, code, error.details() or "") from error


def _fill_model_spec(
    target: Any, name: str, version: int | None, label: str | None, signature_name: str = ""
) -> None:
    """Names a model."""
    target.name = name
    target.signature_name = signature_name
    if version is not None:
        target.version.value = version
    elif label is not None:
        target.version_label = label


def _fill_input(
    target: Any, examples: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None
) -> None:
    """Writes examples as tf.Examples."""
    kind = target.example_list if context is None else target.example_list_with_context
    if context is not None:
        _fill_example(kind.context, context)
    for example in examples:
        _fill_example(kind.examples.add(), example)


def _fill_example(target: Any, features: Mapping[str, Any]) -> None:
    """Writes a tf.Example; as in REST, a feature's values say which list it is.

    Raises:
      ClientError: a feature mixes kinds.
    """
    for name, value in features.items():
        values = np.ravel(value).tolist() if isinstance(value, np.ndarray) else value
        values = values if isinstance(values, Sequence) and not _is_text(values) else [values]
        lists = target.features.feature[name]
        try:
            if all(isinstance(element, int | np.integer | np.bool_) for element in values):
                lists.int64_list.value.extend(map(int, values))
            elif all(isinstance(element, float | np.floating) for element in values):
                lists.float_list.value.extend(map(float, values))
            else:
                lists.bytes_list.value.extend(
                    element.encode() if isinstance(element, str) else element for element in values
                )
        except (TypeError, ValueError) as error:
            raise client_error(
                f"Feature {name!r}",
                Code.INVALID_ARGUMENT,
                f"wanted all integers, all floats or all strings; {error}",
            ) from error


def _is_text(value: Any) -> bool:
    """Whether a value is one string, and not a list of them."""
    return isinstance(value, str | bytes)
