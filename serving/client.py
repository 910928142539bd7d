"""A small client of a serving process: REST by the standard library, gRPC by TF Serving's stubs.

It speaks to `privet serve` and to tensorflow/serving alike.
"""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from privet.components.shared.errors import ServingError


class RestClient:
    """REST requests to one server. Each opens its own connection, so threads may share it."""

    def __init__(self, host: str, port: int, timeout_seconds: float = 30.0) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds

    def predict(
        self,
        model_name: str,
        *,
        instances: Sequence[Any] | None = None,
        inputs: Any = None,
        signature_name: str | None = None,
        version: int | None = None,
    ) -> Any:
        """Predicts, in row format (`instances`) or column format (`inputs`).

        Returns:
          The value of `predictions` or of `outputs`.

        Raises:
          ServingError: the server cannot be reached or refuses, with its message.
        """
        if (instances is None) == (inputs is None):
            raise ServingError("Wanted one of instances and inputs; got both or neither.")
        body: dict[str, Any] = {"inputs": inputs} if instances is None else {"instances": instances}
        answer = self._infer(model_name, version, "predict", body, signature_name)
        return answer["outputs" if instances is None else "predictions"]

    def classify(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str | None = None,
        version: int | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Classifies examples (feature name -> value or flat list).

        Returns:
          For each example its (label, score) pairs.

        Raises:
          ServingError: the server cannot be reached or refuses, with its message.
        """
        answer = self._infer(
            model_name, version, "classify", _example_body(examples, context), signature_name
        )
        return [[(label, score) for label, score in example] for example in answer["results"]]

    def regress(
        self,
        model_name: str,
        examples: Sequence[Mapping[str, Any]],
        *,
        context: Mapping[str, Any] | None = None,
        signature_name: str | None = None,
        version: int | None = None,
    ) -> list[float]:
        """Regresses examples (feature name -> value or flat list).

        Returns:
          One number for each example.

        Raises:
          ServingError: the server cannot be reached or refuses, with its message.
        """
        answer = self._infer(
            model_name, version, "regress", _example_body(examples, context), signature_name
        )
        results: list[float] = answer["results"]
        return results

    def status(self, model_name: str, version: int | None = None) -> list[dict[str, Any]]:
        """The states of a model's versions, newest first.

        Returns:
          For each `{"version": "1", "state": "AVAILABLE", "status": {...}}`.

        Raises:
          ServingError: the server cannot be reached, or does not know the model.
        """
        answer = self._request("GET", _path(model_name, version))
        statuses: list[dict[str, Any]] = answer["model_version_status"]
        return statuses

    def metadata(self, model_name: str, version: int | None = None) -> dict[str, Any]:
        """The model's signatures: `{"model_spec": ..., "metadata": {"signature_def": ...}}`.

        Raises:
          ServingError: the server cannot be reached, or does not know the model.
        """
        answer: dict[str, Any] = self._request("GET", _path(model_name, version) + "/metadata")
        return answer

    def wait_until_available(
        self, model_name: str, timeout_seconds: float, version: int | None = None
    ) -> int:
        """Waits until a version of the model answers requests.

        Status alone is not enough: a server answers it while it still loads.

        Returns:
          The version that is AVAILABLE: the newest, or the one asked for.

        Raises:
          ServingError: none was in time, with what was last seen.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                statuses = self.status(model_name, version)
            except ServingError as error:
                seen = str(error)
            else:
                for status in statuses:
                    if status["state"] == "AVAILABLE":
                        return int(status["version"])
                seen = ", ".join(
                    f"version {status['version']} {status['state']} "
                    f"{status['status'].get('error_message', '')}".strip()
                    for status in statuses
                )
            if time.monotonic() >= deadline:
                raise ServingError(
                    f"Wanted model {model_name!r} to be AVAILABLE at {self._host}:{self._port} "
                    f"within {timeout_seconds} seconds; last seen: {seen}. Look at the server's "
                    "output, or wait longer."
                )
            time.sleep(0.05)

    def _infer(
        self,
        model_name: str,
        version: int | None,
        verb: str,
        body: dict[str, Any],
        signature_name: str | None,
    ) -> Any:
        """Sends an inference request."""
        if signature_name is not None:
            body["signature_name"] = signature_name
        return self._request("POST", f"{_path(model_name, version)}:{verb}", body)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        """Sends one request and returns the JSON of a response that is no error."""
        url = f"http://{self._host}:{self._port}{path}"
        connection = http.client.HTTPConnection(
            self._host, self._port, timeout=self._timeout_seconds
        )
        try:
            content = None if body is None else json.dumps(body, default=_plain).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            status, text = response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise ServingError(
                f"Wanted an answer from {method} {url}; {type(error).__name__}: {error}. Is the "
                "server running there?"
            ) from error
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if status != 200 or answer is None:
            message = answer.get("error", text) if isinstance(answer, dict) else text
            raise ServingError(f"{method} {url} answered {status}: {message}")
        return answer


@dataclass(frozen=True)
class GrpcPrediction:
    """The outputs of a predict call, and the version that gave them."""

    outputs: dict[str, np.ndarray]
    version: int


class GrpcClient:
    """gRPC requests to one server, over one channel. Also a context manager."""

    def __init__(self, address: str, timeout_seconds: float = 30.0) -> None:
        """Opens a channel to `host:port`; nothing is sent yet. Imports TensorFlow."""
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.address = address
        self._timeout_seconds = timeout_seconds
        unlimited = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ]
        self._channel = grpc.insecure_channel(address, options=unlimited)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        model_name: str,
        inputs: Mapping[str, np.ndarray],
        *,
        signature_name: str = "",
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> GrpcPrediction:
        """Predicts.

        Raises:
          ServingError: the server cannot be reached or refuses, with its message.
        """
        import tensorflow as tf
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        request = PredictRequest(output_filter=output_filter)
        request.model_spec.name = model_name
        request.model_spec.signature_name = signature_name
        if version is not None:
            request.model_spec.version.value = version
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self._call(self._prediction.Predict, request)
        return GrpcPrediction(
            outputs={name: tf.make_ndarray(proto) for name, proto in response.outputs.items()},
            version=response.model_spec.version.value,
        )

    def status(self, model_name: str) -> dict[int, str]:
        """The state of each version of a model.

        Raises:
          ServingError: the server cannot be reached, or does not know the model.
        """
        from tensorflow_serving.apis.get_model_status_pb2 import (
            GetModelStatusRequest,
            ModelVersionStatus,
        )

        request = GetModelStatusRequest()
        request.model_spec.name = model_name
        response = self._call(self._model.GetModelStatus, request)
        return {
            status.version: ModelVersionStatus.State.Name(status.state)
            for status in response.model_version_status
        }

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

    def _call(self, method: Any, request: Any) -> Any:
        """Sends one request."""
        import grpc

        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            raise ServingError(
                f"gRPC {self.address} answered {error.code().name}: {error.details()}"
            ) from error


def _path(model_name: str, version: int | None) -> str:
    """The path of a model or of one version."""
    path = f"/v1/models/{quote(model_name, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def _example_body(
    examples: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The body of a classify or regress request."""
    body: dict[str, Any] = {"examples": list(examples)}
    if context is not None:
        body["context"] = context
    return body


def _plain(value: Any) -> Any:
    """Arrays as lists, NumPy numbers as numbers, and bytes as TF Serving's base64 objects."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        import base64

        return {"b64": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
