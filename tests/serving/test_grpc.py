"""The gRPC API, through a real channel on loopback."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ServingError
from privet.serving.client import GrpcClient


@pytest.fixture(scope="module")
def stubs(server: SimpleNamespace) -> Iterator[SimpleNamespace]:
    import grpc
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    with grpc.insecure_channel(server.grpc_address) as channel:
        yield SimpleNamespace(
            prediction=prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model=model_service_pb2_grpc.ModelServiceStub(channel),
        )


def predict_request(signature_name: str = "", **inputs: Any) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature_name
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def example_request(kind: Any, signature_name: str, *values: list[float]) -> Any:
    request = kind()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature_name
    add_examples(request.input, *values)
    return request


def add_examples(target: Any, *values: list[float]) -> None:
    for value in values:
        example = target.example_list.examples.add()
        example.features.feature["x"].float_list.value.extend(value)


def error_of(method: Any, request: Any) -> tuple[str, str]:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=20)
    return caught.value.code().name, caught.value.details()


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_predict_fills_typed_fields_and_model_spec(stubs: SimpleNamespace) -> None:
    response = stubs.prediction.Predict(predict_request(x=floats(1, 2, 5)), timeout=20)

    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert [d.size for d in response.outputs["y"].tensor_shape.dim] == [3]
    assert response.model_spec.name == "m"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_client_predicts_and_reads_states(server: SimpleNamespace) -> None:
    with GrpcClient(server.grpc_address) as client:
        prediction = client.predict("m", {"x": floats(1)}, version=1)
        text = client.predict("m", {"text": np.array([b"\xff"])}, signature_name="text")
        filtered = client.predict(
            "m", {"a": floats(2), "b": floats(3)}, signature_name="pair", output_filter=["sum"]
        )

        assert prediction.version == 1
        assert prediction.outputs["y"].tolist() == [2.5]
        assert text.outputs["copy"].tolist() == [b"\xff"]
        assert {name: value.tolist() for name, value in filtered.outputs.items()} == {"sum": [5.0]}
        assert client.status("m") == {1: "AVAILABLE"}
        with pytest.raises(ServingError, match="NOT_FOUND: Servable not found"):
            client.predict("n", {})


def test_fewer_values_than_elements_repeat_the_last(stubs: SimpleNamespace) -> None:
    request = predict_request(x=floats(1, 2, 3))
    request.inputs["x"].ClearField("tensor_content")
    request.inputs["x"].float_val[:] = [4, 6]
    assert list(stubs.prediction.Predict(request).outputs["y"].float_val) == [4.0, 5.0, 5.0]

    request.inputs["x"].ClearField("float_val")
    assert list(stubs.prediction.Predict(request).outputs["y"].float_val) == [2.0, 2.0, 2.0]


def test_predict_errors(stubs: SimpleNamespace) -> None:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    def predict(**changes: Any) -> tuple[str, str]:
        request = changes.pop("request", None) or predict_request(x=floats(1))
        for name, value in changes.items():
            setattr(request.model_spec, name, value)
        return error_of(stubs.prediction.Predict, request)

    no_version = predict_request(x=floats(1))
    no_version.model_spec.version.value = 7
    filtered = predict_request(x=floats(1))
    filtered.output_filter.append("z")
    twice = predict_request(x=floats(1))
    twice.output_filter.extend(["y", "y"])
    broken = predict_request(x=floats(1, 2))
    broken.inputs["x"].tensor_content = b"123"

    invalid = "INVALID_ARGUMENT"
    assert predict(request=PredictRequest()) == (invalid, "Missing ModelSpec")
    assert predict(name="") == (invalid, "ModelSpec has no name specified.")
    assert predict(version_label="a") == (invalid, "Unrecognized servable version label: a")
    assert predict(name="n") == ("NOT_FOUND", "Servable not found for request: Latest(n)")
    assert predict(request=no_version) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(m, 7)",
    )
    assert predict(signature_name="s") == (
        "FAILED_PRECONDITION",
        'Serving signature key "s" not found.',
    )
    assert predict(request=predict_request()) == (
        invalid,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. "
        "Missing but required: {x}.",
    )
    assert predict(request=predict_request(z=floats(1)))[1].startswith(
        "Signature input alias: x(feed name: serving_default_x:0) not found in request"
    )
    assert predict(request=predict_request(x=[1.0, 2.0], z=floats(1)))[0] == invalid
    assert predict(request=filtered) == (
        invalid,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    )
    assert predict(request=twice) == (invalid, "duplicate output tensor alias: y")
    assert predict(request=predict_request(x=np.array([1.0]))) == (
        invalid,
        "Expects arg[0] to be float but double is provided",
    )
    assert predict(request=broken) == (invalid, "tensor parsing error: x")


def test_long_messages_are_cut_off(stubs: SimpleNamespace) -> None:
    request = predict_request("s" * 2000, x=floats(1))
    _, message = error_of(stubs.prediction.Predict, request)

    assert len(message) == 1024 + len("...TRUNCATED")
    assert message.endswith("...TRUNCATED")


def test_classify_and_regress(stubs: SimpleNamespace) -> None:
    from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
    from tensorflow_serving.apis.regression_pb2 import RegressionRequest

    classify = example_request(ClassificationRequest, "classify", [0.25, 0.75])
    response = stubs.prediction.Classify(classify, timeout=20)
    ((low, high),) = [c.classes for c in response.result.classifications]
    assert [(low.label, low.score), (high.label, high.score)] == [("low", 0.25), ("high", 0.75)]
    assert response.model_spec.signature_name == "classify"

    regress = example_request(RegressionRequest, "regress", [1, 2], [3, 4])
    response = stubs.prediction.Regress(regress, timeout=20)
    assert [r.value for r in response.result.regressions] == [3.0, 7.0]

    empty = example_request(RegressionRequest, "regress")
    assert error_of(stubs.prediction.Regress, empty) == ("INVALID_ARGUMENT", "Input is empty.")
    unknown = example_request(RegressionRequest, "s", [1, 2])
    assert error_of(stubs.prediction.Regress, unknown) == (
        "INVALID_ARGUMENT",
        "No signature was found with the name: s",
    )


def test_examples_with_context(stubs: SimpleNamespace) -> None:
    from tensorflow_serving.apis.regression_pb2 import RegressionRequest

    request = example_request(RegressionRequest, "regress")
    with_context = request.input.example_list_with_context
    with_context.context.features.feature["x"].float_list.value.extend([1, 5])
    with_context.examples.add()

    response = stubs.prediction.Regress(request, timeout=20)
    assert [r.value for r in response.result.regressions] == [6.0]


def multi_request(*tasks: tuple[str, str]) -> Any:
    from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest

    request = MultiInferenceRequest()
    for name, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "m"
        task.model_spec.signature_name = name
    add_examples(request.input, [1, 2])
    return request


def test_multi_inference(stubs: SimpleNamespace) -> None:
    both = multi_request(("classify", "classify"), ("regress", "regress"))
    classified, regressed = stubs.prediction.MultiInference(both, timeout=20).results

    assert len(classified.classification_result.classifications) == 1
    assert regressed.regression_result.regressions[0].value == 3.0
    assert regressed.model_spec.version.value == 1

    method = stubs.prediction.MultiInference
    assert error_of(method, multi_request(("regress", "regress"), ("regress", "regress"))) == (
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: regress",
    )
    assert error_of(method, multi_request(("classify", "predict"))) == (
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    )
    assert error_of(method, multi_request())[0] == "INVALID_ARGUMENT"


def test_metadata(stubs: SimpleNamespace) -> None:
    from tensorflow_serving.apis.get_model_metadata_pb2 import (
        GetModelMetadataRequest,
        SignatureDefMap,
    )

    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "m"
    response = stubs.prediction.GetModelMetadata(request, timeout=20)
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 1
    assert signatures.signature_def["serving_default"].inputs["x"].name == "serving_default_x:0"

    del request.metadata_field[:]
    method = stubs.prediction.GetModelMetadata
    assert "at least one metadata_field" in error_of(method, request)[1]
    request.metadata_field.append("other")
    assert error_of(method, request)[1] == "Metadata field other is not supported"


def test_status_and_reload(stubs: SimpleNamespace) -> None:
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

    request = GetModelStatusRequest()
    assert error_of(stubs.model.GetModelStatus, request)[1] == "Missing ModelSpec"
    request.model_spec.name = "m"
    (status,) = stubs.model.GetModelStatus(request, timeout=20).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)
    request.model_spec.version.value = 4
    assert error_of(stubs.model.GetModelStatus, request) == (
        "NOT_FOUND",
        "Could not find version 4 of model m",
    )
    code, _ = error_of(stubs.model.HandleReloadConfigRequest, ReloadConfigRequest())
    assert code == "UNIMPLEMENTED"
