"""What the other methods of TF Serving's gRPC API answer, row by row of its source.

Sources: servables/tensorflow/{classifier, regressor, multi_inference, util,
get_model_metadata_impl}.cc and model_servers/{get_model_status_impl, model_service_impl,
server_core, grpc_status_util}.cc. Predict is in test_grpc_predict.py.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conformance.grpc_requests import (
    INVALID,
    NOT_FOUND,
    error_of,
    floats,
    predict_request,
)


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


def classification(**fields: Any) -> Any:
    from tensorflow_serving.apis.classification_pb2 import ClassificationRequest

    return ClassificationRequest(**fields)


def regression(**fields: Any) -> Any:
    from tensorflow_serving.apis.regression_pb2 import RegressionRequest

    return RegressionRequest(**fields)


@pytest.mark.parametrize(
    ("signature", "classify", "regress"),
    [
        ("nothing", *2 * ("No signature was found with the name: nothing",)),
        ("pair", *2 * ("Expected one input Tensor.",)),
        ("", "No classification inputs found in SignatureDef: ",
         "No regression inputs found in SignatureDef: "),
        ("regress", "Expected classification signature outputs to contain at least one of "
         '"classes" or "scores". Signature was: ', "Input is empty."),
        ("classify", "Input is empty.", "Expected one output Tensor."),
    ],
)  # fmt: skip
def test_signatures_that_do_not_fit_are_told_before_inputs_that_do_not(
    stubs: SimpleNamespace, signature: str, classify: str, regress: str
) -> None:
    spec = {"name": "m", "signature_name": signature}
    for method, request, message in (
        (stubs.prediction.Classify, classification(model_spec=spec), classify),
        (stubs.prediction.Regress, regression(model_spec=spec), regress),
    ):
        code, found = error_of(method, request)
        assert code == INVALID
        assert found.startswith(message)


def test_every_method_wants_a_model(engine: SimpleNamespace) -> None:
    for method, request in (
        (engine.prediction.Classify, classification()),
        (engine.prediction.Regress, regression()),
    ):
        assert error_of(method, request) == (INVALID, "Missing ModelSpec")
        request.model_spec.name = "n"
        assert error_of(method, request) == (
            NOT_FOUND,
            "Servable not found for request: Latest(n)",
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

    assert regressed.model_spec.signature_name == "regress"


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ((), INVALID, "ModelSpec has no name specified."),
        ((("regress", "regress"),) * 2, INVALID, "Duplicate evaluation of signature: regress"),
        ((("s", "classify"),), INVALID, "Requested signature not found in model graph: s"),
        ((("pair", "classify"),), INVALID, "Expected one input Tensor."),
        ((("classify", "regress"),), INVALID, "Expected one output Tensor."),
        (
            (("classify", "predict"),),
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_multi_inference_errors(
    stubs: SimpleNamespace, tasks: tuple[tuple[str, str], ...], code: str, message: str
) -> None:
    assert error_of(stubs.prediction.MultiInference, multi_request(*tasks)) == (code, message)


def test_multi_inference_is_of_one_model(stubs: SimpleNamespace) -> None:
    method = stubs.prediction.MultiInference
    request = multi_request(("classify", "classify"), ("regress", "regress"))
    request.tasks[1].model_spec.name = ""
    assert error_of(method, request) == (INVALID, "Found ModelSpec with an empty model name.")
    request.tasks[1].model_spec.name = "n"
    assert error_of(method, request) == (
        INVALID,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    )
    request.tasks[1].model_spec.name = "m"
    request.ClearField("input")
    assert error_of(method, request) == (INVALID, "Input is empty.")


def test_metadata(engine: SimpleNamespace) -> None:
    from tensorflow_serving.apis.get_model_metadata_pb2 import (
        GetModelMetadataRequest,
        SignatureDefMap,
    )

    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "m"
    response = engine.prediction.GetModelMetadata(request, timeout=20)
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 1
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == 1

    assert response.model_spec.name == "m"
    assert not response.model_spec.signature_name
    request.model_spec.name = "n"
    method = engine.prediction.GetModelMetadata
    assert error_of(method, request) == (NOT_FOUND, "Servable not found for request: Latest(n)")
    del request.metadata_field[:]
    assert "at least one metadata_field" in error_of(method, request)[1]
    request.metadata_field.append("other")
    assert error_of(method, request)[1] == "Metadata field other is not supported"
    request.ClearField("model_spec")
    assert error_of(method, request) == (INVALID, "Missing ModelSpec")


def test_status(engine: SimpleNamespace) -> None:
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

    method, request = engine.model.GetModelStatus, GetModelStatusRequest()
    assert error_of(method, request) == (INVALID, "Missing ModelSpec")
    request.model_spec.signature_name = "s"
    assert error_of(method, request) == (NOT_FOUND, "Could not find any versions of model ")
    request.model_spec.name = "m"
    (status,) = method(request, timeout=20).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)
    request.model_spec.version_label = "any"  # it does not count
    assert len(method(request, timeout=20).model_version_status) == 1
    request.model_spec.version.value = 4
    assert error_of(method, request) == (NOT_FOUND, "Could not find version 4 of model m")


def test_reload_replaces_the_models(
    publish: Callable[..., Path], stubs_of: Callable[..., Any], tmp_path: Path
) -> None:
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    first, second = tmp_path / "first", tmp_path / "second"
    publish(first, 1)
    publish(second, 5, 3.0)
    config = ServerConfig(first, "m", port=free_port(), rest_api_port=0)
    request = ReloadConfigRequest()
    with RunningServer(config) as running, stubs_of(str(running.grpc_address)) as stubs:
        method = stubs.model.HandleReloadConfigRequest
        assert error_of(method, request) == (
            INVALID,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported",
        )
        added = request.config.model_config_list.config.add(
            name="k", base_path=str(second), model_platform="tensorflow"
        )
        added.version_labels["stable"] = 4
        # The request that may wait does not run in the event loop, however short the last one was.
        assert error_of(method, request)[0] == "FAILED_PRECONDITION"
        asked = predict_request(x=floats(1))
        assert list(stubs.prediction.Predict(asked).outputs["y"].float_val) == [2.5]
        del added.version_labels["stable"]
        assert method(request, timeout=60).status.error_code == 0

        assert error_of(stubs.prediction.Predict, asked)[0] == NOT_FOUND
        asked.model_spec.name = "k"
        assert list(stubs.prediction.Predict(asked).outputs["y"].float_val) == [3.5]
