"""The two ways in which `PrivetClient` reaches a server, as one interface on arrays."""

import base64
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from privet.serving.client_errors import client_error
from privet.serving.client_grpc import GrpcClient
from privet.serving.client_rest import RestClient
from privet.serving.client_tls import ClientTls
from privet.serving.data_types import numpy_type_of
from privet.serving.engine import Signature, TensorSpec
from privet.serving.status import Code
from privet.serving.versions import State, VersionStatus


@dataclass(frozen=True)
class Target:
    """The model that a request is for, and at most one of version and label."""

    name: str
    version: int | None
    label: str | None

    def __str__(self) -> str:
        which = "" if self.version is None else f" version {self.version}"
        return f"model {self.name!r}{which}" + ("" if self.label is None else f" {self.label!r}")


class Protocol(typing.Protocol):
    """Single requests, each of which takes `seconds` at most and may raise ClientError."""

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        seconds: float,
    ) -> dict[str, np.ndarray]:
        """Runs a signature on inputs of its types; the outputs have its types."""

    def classify(
        self,
        target: Target,
        signature_name: str,
        examples: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None,
        seconds: float,
    ) -> list[list[tuple[str, float]]]:
        """For each example its (label, score) pairs; scores are exact float32."""

    def regress(
        self,
        target: Target,
        signature_name: str,
        examples: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None,
        seconds: float,
    ) -> list[float]:
        """A value for each example."""

    def status(self, target: Target, seconds: float) -> tuple[VersionStatus, ...]:
        """The states of versions, newest first."""

    def signatures(self, target: Target, seconds: float) -> dict[str, Signature]:
        """The model's signatures."""

    def close(self) -> None:
        """Closes the connections."""


class RestProtocol:
    """Requests in column format: `inputs` and `outputs`."""

    def __init__(self, address: str, *, token: str | None, tls: ClientTls | None) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise client_error(
                "Address", Code.INVALID_ARGUMENT, f"wanted host:port, got {address!r}."
            )
        self._client = RestClient(host.strip("[]"), int(port), token=token, tls=tls)

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        seconds: float,
    ) -> dict[str, np.ndarray]:
        for name, array in inputs.items():
            if array.dtype.kind == "c":
                raise client_error(
                    f"Input {name!r} of {target}",
                    Code.INVALID_ARGUMENT,
                    "complex numbers have no form in JSON. Use protocol='grpc'.",
                )
        answer = self._client.predict(
            target.name,
            inputs=dict(inputs),
            signature_name=signature.name,
            version=target.version,
            label=target.label,
            timeout_seconds=seconds,
        )
        if len(signature.outputs) == 1:  # TF Serving drops the name of an only output
            answer = {next(iter(signature.outputs)): answer}
        return {name: _array(answer[name], spec) for name, spec in signature.outputs.items()}

    def classify(
        self,
        target: Target,
        signature_name: str,
        examples: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None,
        seconds: float,
    ) -> list[list[tuple[str, float]]]:
        found = self._client.classify(
            target.name,
            examples,
            context=context,
            signature_name=signature_name,
            version=target.version,
            label=target.label,
            timeout_seconds=seconds,
        )
        return [
            [(label, float(np.float32(score))) for label, score in example] for example in found
        ]

    def regress(
        self,
        target: Target,
        signature_name: str,
        examples: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None,
        seconds: float,
    ) -> list[float]:
        return self._client.regress(
            target.name,
            examples,
            context=context,
            signature_name=signature_name,
            version=target.version,
            label=target.label,
            timeout_seconds=seconds,
        )

    def status(self, target: Target, seconds: float) -> tuple[VersionStatus, ...]:
        found = self._client.status(target.name, target.version, timeout_seconds=seconds)
        return tuple(
            VersionStatus(
                int(status["version"]),
                State[status["state"]],
                Code[status["status"]["error_code"]],
                status["status"]["error_message"],
            )
            for status in found
        )

    def signatures(self, target: Target, seconds: float) -> dict[str, Signature]:
        document = self._client.metadata(
            target.name, target.version, target.label, timeout_seconds=seconds
        )
        found = document["metadata"]["signature_def"]["signature_def"]
        return {name: _signature(name, content) for name, content in found.items()}

    def close(self) -> None:
        self._client.close()


class GrpcProtocol:
    """Requests of TF Serving's protos."""

    def __init__(self, address: str, *, token: str | None, tls: ClientTls | None) -> None:
        self._client = GrpcClient(address, token=token, tls=tls)

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        seconds: float,
    ) -> dict[str, np.ndarray]:
        prediction = self._client.predict(
            target.name,
            inputs,
            signature_name=signature.name,
            version=target.version,
            label=target.label,
            timeout_seconds=seconds,
        )
        return {name: prediction.outputs[name] for name in signature.outputs}

    def classify(
        self,
        target: Target,
        signature_name: str,
        examples: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None,
        seconds: float,
    ) -> list[list[tuple[str, float]]]:
        return self._client.classify(
            target.name,
            examples,
            context=context,
            signature_name=signature_name,
            version=target.version,
            label=target.label,
            timeout_seconds=seconds,
        )

    def regress(
        self,
        target: Target,
        signature_name: str,
        examples: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None,
        seconds: float,
    ) -> list[float]:
        return self._client.regress(
            target.name,
            examples,
            context=context,
            signature_name=signature_name,
            version=target.version,
            label=target.label,
            timeout_seconds=seconds,
        )

    def status(self, target: Target, seconds: float) -> tuple[VersionStatus, ...]:
        return self._client.statuses(target.name, target.version, timeout_seconds=seconds)

    def signatures(self, target: Target, seconds: float) -> dict[str, Signature]:
        from google.protobuf import json_format

        found = self._client.signature_defs(
            target.name, target.version, target.label, timeout_seconds=seconds
        )
        return {
            name: _signature(
                name,
                json_format.MessageToDict(
                    message, including_default_value_fields=True, preserving_proto_field_name=True
                ),
            )
            for name, message in found.items()
        }

    def close(self) -> None:
        self._client.close()


def _signature(name: str, content: Mapping[str, Any]) -> Signature:
    """A signature from the JSON of a SignatureDef."""
    return Signature(
        name=name,
        method_name=content.get("method_name", ""),
        inputs={key: _spec(info) for key, info in sorted(content.get("inputs", {}).items())},
        outputs={key: _spec(info) for key, info in sorted(content.get("outputs", {}).items())},
    )


def _spec(info: Mapping[str, Any]) -> TensorSpec:
    """A tensor's description from the JSON of a TensorInfo."""
    type_name = info["dtype"].removeprefix("DT_").lower()
    shape = info.get("tensor_shape", {"unknown_rank": True})
    return TensorSpec(
        tensor_name=info.get("name", ""),
        type_name=type_name,
        numpy_type=numpy_type_of(type_name),
        shape=None
        if shape.get("unknown_rank")
        else tuple(int(dimension["size"]) for dimension in shape.get("dim", [])),
    )


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    """An output's array from its JSON."""
    if spec.numpy_type is np.object_:
        return _strings(value)
    array = np.array(value, spec.numpy_type)
    if array.size == 0 and spec.shape is not None and array.ndim < len(spec.shape):
        # Lists that are empty do not tell what follows their dimension.
        return array.reshape([max(size, 0) for size in spec.shape])
    return array


def _strings(value: Any) -> np.ndarray:
    """An array of bytes from nested lists of JSON strings or base64 objects."""
    shape, level = [], value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat = [value]
    for _ in shape:
        flat = [element for row in flat for element in row]
    array = np.empty(len(flat), object)
    for index, element in enumerate(flat):
        array[index] = (
            base64.b64decode(element["b64"])
            if isinstance(element, dict)
            else element.encode("utf-8", "surrogateescape")
        )
    return array.reshape(shape)
