"""Requests to the gRPC API, and the errors that answer them."""

from typing import Any

import numpy as np
import pytest

INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"
NO_TENSORS = "input size does not match signature: "


def predict_request(signature_name: str = "", **inputs: Any) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature_name
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def error_of(method: Any, request: Any) -> tuple[str, str]:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=20)
    return caught.value.code().name, caught.value.details()


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)
