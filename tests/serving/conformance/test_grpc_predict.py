"""What TF Serving's Predict answers over gRPC, row by row of its source, on both engines.

Sources: servables/tensorflow/{predict_impl, predict_util}.cc, model_servers/server_core.cc and
TensorFlow's Tensor::FromProto and GetInputValues.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conformance.grpc_requests import (
    INVALID,
    NO_TENSORS,
    NOT_FOUND,
    error_of,
    floats,
    predict_request,
)


def test_predict_fills_typed_fields_and_model_spec(engine: SimpleNamespace) -> None:
    response = engine.prediction.Predict(predict_request(x=floats(1, 2, 5)), timeout=20)

    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert [d.size for d in response.outputs["y"].tensor_shape.dim] == [3]
    assert response.model_spec.name == "m"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_fewer_values_than_elements_repeat_the_last(engine: SimpleNamespace) -> None:
    request = predict_request(x=floats(1, 2, 3))
    request.inputs["x"].ClearField("tensor_content")
    request.inputs["x"].float_val[:] = [4, 6]
    assert list(engine.prediction.Predict(request).outputs["y"].float_val) == [4.0, 5.0, 5.0]

    request.inputs["x"].ClearField("float_val")
    assert list(engine.prediction.Predict(request).outputs["y"].float_val) == [2.0, 2.0, 2.0]


def x(*values: float) -> Any:
    return predict_request(x=floats(*values))


# What is changed in a good request -> code and message, in the order of TF Serving's checks.
PREDICT_ERRORS: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "no model_spec": (lambda r: r.ClearField("model_spec"), INVALID, "Missing ModelSpec"),
    "no name": (
        lambda r: setattr(r.model_spec, "name", ""), INVALID, "ModelSpec has no name specified.",
    ),
    "unknown model": (
        lambda r: setattr(r.model_spec, "name", "n"),
        NOT_FOUND, "Servable not found for request: Latest(n)",
    ),
    "unknown version": (
        lambda r: setattr(r.model_spec.version, "value", 7),
        NOT_FOUND, "Servable not found for request: Specific(m, 7)",
    ),
    "unknown label": (
        lambda r: setattr(r.model_spec, "version_label", "a"),
        INVALID, "Unrecognized servable version label: a",
    ),
    "unknown label of an unknown model": (
        lambda r: (setattr(r.model_spec, "name", "n"), setattr(r.model_spec, "version_label", "a")),
        INVALID, "Unrecognized servable version label: a",
    ),
    "unknown signature": (
        lambda r: setattr(r.model_spec, "signature_name", "s"),
        "FAILED_PRECONDITION", 'Serving signature key "s" not found.',
    ),
    "no inputs": (
        lambda r: r.inputs.clear(), INVALID,
        NO_TENSORS + "0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    "an input too many": (
        lambda r: r.inputs["a"].CopyFrom(r.inputs["x"]), INVALID,
        NO_TENSORS + "2!=1 len({a,x}) != len({x}). Sent extra: {a}. Missing but required: {}.",
    ),
    "another input": (
        lambda r: (r.inputs["a"].CopyFrom(r.inputs["x"]), r.inputs.pop("x")), INVALID,
        "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
        "default value provided. Inputs expected to be in the request {a}, or default input alias "
        "set: ",
    ),
    "a tensor without type": (
        lambda r: r.inputs["x"].ClearField("dtype"), INVALID, "tensor parsing error: x",
    ),
    "bytes of another length": (
        lambda r: setattr(r.inputs["x"], "tensor_content", b"123"),
        INVALID, "tensor parsing error: x",
    ),
    "a negative dimension": (
        lambda r: setattr(r.inputs["x"].tensor_shape.dim[0], "size", -1),
        INVALID, "tensor parsing error: x",
    ),
    "bytes before the filter": (
        lambda r: (setattr(r.inputs["x"], "tensor_content", b"123"), r.output_filter.append("z")),
        INVALID, "tensor parsing error: x",
    ),
    "unknown output": (
        lambda r: r.output_filter.append("z"), INVALID,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "an output twice": (
        lambda r: r.output_filter.extend(["y", "y"]), INVALID, "duplicate output tensor alias: y",
    ),
    "the filter before the type": (
        lambda r: (setattr(r.inputs["x"], "dtype", 3), r.output_filter.append("z")), INVALID,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "another type": (
        lambda r: setattr(r.inputs["x"], "dtype", 3),
        INVALID, "Expects arg[0] to be float but int32 is provided",
    ),
    "a string": (
        lambda r: (r.inputs["x"].ClearField("tensor_content"), setattr(r.inputs["x"], "dtype", 7)),
        INVALID, "Expects arg[0] to be float but string is provided",
    ),
    "a resource": (
        lambda r: setattr(r.inputs["x"], "dtype", 20),
        INVALID, "Expects arg[0] to be float but resource is provided",
    ),
    "a variant": (
        lambda r: setattr(r.inputs["x"], "dtype", 21),
        INVALID, "Expects arg[0] to be float but variant is provided",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PREDICT_ERRORS)
def test_predict_errors(engine: SimpleNamespace, case: str) -> None:
    change, code, message = PREDICT_ERRORS[case]
    request = x(1)
    change(request)
    found = error_of(engine.prediction.Predict, request)
    # TensorFlow's names of feeds end in :0, those of TFLite need not.
    assert (found[0], found[1].replace("serving_default_x)", "serving_default_x:0)")) == (
        code,
        message,
    )


def test_predict_names_what_answered(stubs: SimpleNamespace) -> None:
    request = predict_request("pair", a=floats(2), b=floats(3))
    request.model_spec.version.value = 1
    request.output_filter.append("sum")
    response = stubs.prediction.Predict(request, timeout=20)

    assert {name: list(proto.float_val) for name, proto in response.outputs.items()} == {
        "sum": [5.0]
    }
    assert response.model_spec.signature_name == "pair"
    assert response.model_spec.WhichOneof("version_choice") == "version"


@pytest.mark.parametrize(
    ("signature", "inputs", "field", "wanted"),
    [
        ("integers", {"count": np.array([3, -4], np.int32)}, "int_val", [6, -8]),
        ("text", {"text": np.array([b"\xff\0a", b""])}, "string_val", [b"\xff\0a", b""]),
        ("total", {"x": np.array([1, 2], np.float32)}, "float_val", [3.0]),
    ],
)
def test_outputs_are_in_the_field_of_their_type(
    stubs: SimpleNamespace, signature: str, inputs: dict[str, Any], field: str, wanted: list[Any]
) -> None:
    response = stubs.prediction.Predict(predict_request(signature, **inputs), timeout=20)
    for proto in response.outputs.values():
        assert list(getattr(proto, field)) == wanted
        assert not proto.tensor_content
        assert proto.HasField("tensor_shape")


def test_what_operators_refuse_has_the_runtimes_code(stubs: SimpleNamespace) -> None:
    request = predict_request("dense", x=np.zeros((1, 3), np.float32))
    code, message = error_of(stubs.prediction.Predict, request)

    assert code == INVALID
    assert "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]" in message
