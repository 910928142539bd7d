"""Inference requests as TF Serving's protos, answered by one engine; gRPC and warm-up end here.

Importing this imports TensorFlow, by way of tensorflow_serving.apis.
"""

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.classification_pb2 import (
    ClassificationRequest,
    ClassificationResponse,
    ClassificationResult,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.apis.regression_pb2 import (
    RegressionRequest,
    RegressionResponse,
    RegressionResult,
)

from privet.components.shared.signatures import (
    CLASSIFY_METHOD_NAME,
    REGRESS_METHOD_NAME,
    SERVING_DEFAULT,
)
from privet.serving import inference, tensors
from privet.serving.engine import Engine, Signature
from privet.serving.inference import Classifications
from privet.serving.status import Code, RequestError, invalid_argument

# DataTypes that messages can carry and arrays cannot.
_OTHER_TYPES = {
    11: "qint8",
    12: "quint8",
    13: "qint32",
    15: "qint16",
    16: "quint16",
    20: "resource",
    21: "variant",
}

_LOG_TYPES = ("predict_log", "classify_log", "regress_log", "multi_inference_log")


def predict(engine: Engine, version: int, request: PredictRequest) -> PredictResponse:
    """Answers a predict request; `model_spec` names the signature that ran.

    Raises:
      RequestError: the inputs or the filter do not fit the signature, or the model failed.
    """
    signature = inference.predict_signature(engine, request.model_spec.signature_name)
    # Names come before values, and values before the filter: TF Serving checks in this order.
    inference.check_input_names(signature, request.inputs)
    inputs = _read_inputs(signature, request)
    output_filter = tuple(request.output_filter)
    inference.check_output_filter(signature, output_filter)
    outputs = engine.run(signature.name, inputs, output_filter)
    response = PredictResponse()
    _fill_model_spec(response.model_spec, request.model_spec, version)
    for name, array in outputs.items():
        tensors.fill_proto(response.outputs[name], array)
    return response


def classify(
    engine: Engine, version: int, request: ClassificationRequest
) -> ClassificationResponse:
    """Answers a classify request.

    Raises:
      RequestError: see `inference.classify`.
    """
    response = ClassificationResponse()
    _fill_model_spec(response.model_spec, request.model_spec, version)
    name = request.model_spec.signature_name
    # A wrong signature is told before a wrong input.
    inference.check_classify_signature(inference.example_signature(engine, name))
    result = inference.classify(engine, name, examples_from_proto(request.input))
    _fill_classifications(response.result, result)
    return response


def regress(engine: Engine, version: int, request: RegressionRequest) -> RegressionResponse:
    """Answers a regress request.

    Raises:
      RequestError: see `inference.regress`.
    """
    response = RegressionResponse()
    _fill_model_spec(response.model_spec, request.model_spec, version)
    name = request.model_spec.signature_name
    inference.check_regress_signature(inference.example_signature(engine, name))
    values = inference.regress(engine, name, examples_from_proto(request.input))
    _fill_regressions(response.result, values)
    return response


def multi_inference(
    engine: Engine, version: int, request: MultiInferenceRequest
) -> MultiInferenceResponse:
    """Answers several classify and regress tasks on the same examples.

    Raises:
      RequestError: a task is wrong, or fails.
    """
    _check_tasks(engine, request)
    examples = examples_from_proto(request.input)
    response = MultiInferenceResponse()
    for task in request.tasks:
        result = response.results.add()
        _fill_model_spec(result.model_spec, task.model_spec, version)
        name = task.model_spec.signature_name
        if task.method_name == CLASSIFY_METHOD_NAME:
            classifications = inference.classify(engine, name, examples)
            _fill_classifications(result.classification_result, classifications)
        else:
            _fill_regressions(result.regression_result, inference.regress(engine, name, examples))
    return response


def metadata(engine: Engine, model_name: str, version: int) -> GetModelMetadataResponse:
    """The answer to a metadata request: the model's SignatureDefs."""
    signature_map = SignatureDefMap()
    for name, signature in engine.signature_defs.items():
        # Its message may be one of signature_protos, whose fields are the same.
        signature_map.signature_def[name].MergeFromString(signature.SerializeToString())
    response = GetModelMetadataResponse()
    response.model_spec.name = model_name
    response.model_spec.version.value = version
    response.metadata["signature_def"].Pack(signature_map)
    return response


def replay(engine: Engine, version: int, log: PredictionLog) -> None:
    """Runs one logged request, as warm-up does.

    Raises:
      RequestError: the request fails, or is of a kind that cannot be replayed.
    """
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict(engine, version, log.predict_log.request)
    elif kind == "classify_log":
        classify(engine, version, log.classify_log.request)
    elif kind == "regress_log":
        regress(engine, version, log.regress_log.request)
    elif kind == "multi_inference_log":
        multi_inference(engine, version, log.multi_inference_log.request)
    else:
        raise RequestError(
            Code.UNIMPLEMENTED,
            f"Unsupported log_type for warmup: {kind}. Use one of {', '.join(_LOG_TYPES)}.",
        )


def examples_from_proto(source: Input) -> np.ndarray:
    """The serialized tf.Examples of an Input, bytes as objects [examples].

    Raises:
      RequestError: INVALID_ARGUMENT, there are none.
    """
    kind = source.WhichOneof("kind")
    given = getattr(source, kind) if kind else None
    if given is None or not given.examples:
        raise invalid_argument("Input is empty.")
    context = given.context if kind == "example_list_with_context" else None
    return inference.serialize_examples(given.examples, context)


def parse_log(record: bytes) -> PredictionLog:
    """A PredictionLog from its bytes.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    try:
        return PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid_argument(
            f"Failed to parse warmup record: {record[:80]!r} ({len(record)} bytes)"
        ) from error


def _read_inputs(signature: Signature, request: PredictRequest) -> dict[str, np.ndarray]:
    """The arrays of a predict request that has the signature's inputs."""
    inputs = {}
    for position, (name, spec) in enumerate(signature.inputs.items()):
        proto = request.inputs[name]
        if proto.dtype in _OTHER_TYPES:
            # The runtime would read these, to refuse them for any signature that is served.
            raise invalid_argument(
                f"Expects arg[{position}] to be {spec.type_name} but "
                f"{_OTHER_TYPES[proto.dtype]} is provided"
            )
        try:
            inputs[name] = tensors.array_from_proto(proto)
        except (ValueError, MemoryError) as error:
            raise invalid_argument(f"tensor parsing error: {name}") from error
    return inputs


def _check_tasks(engine: Engine, request: MultiInferenceRequest) -> None:
    """Refuses tasks that do not go together."""
    model_name = ""
    seen: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if model_name not in ("", task.model_spec.name):
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        model_name = task.model_spec.name
        name = task.model_spec.signature_name or SERVING_DEFAULT
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in engine.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name == CLASSIFY_METHOD_NAME:
            inference.check_classify_signature(engine.signatures[name])
        elif task.method_name == REGRESS_METHOD_NAME:
            inference.check_regress_signature(engine.signatures[name])
        else:
            raise RequestError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )


def _fill_model_spec(target: ModelSpec, asked: ModelSpec, version: int) -> None:
    """Says which model, version and signature answered."""
    target.name = asked.name
    target.signature_name = asked.signature_name or SERVING_DEFAULT
    target.version.value = version


def _fill_classifications(target: ClassificationResult, result: Classifications) -> None:
    """Translates the result of a classify request."""
    for example in result.examples():
        classes = target.classifications.add().classes
        for label, score in example:
            # The field is text; what is not UTF-8 could not be sent.
            classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_regressions(target: RegressionResult, values: np.ndarray) -> None:
    """Translates the result of a regress request."""
    for value in values.tolist():
        target.regressions.add(value=value)
