"""Exporting a Keras model for TF Serving: SavedModel, model.tflite, warm-up requests.

The version directory serves unchanged from tensorflow_model_server and from `privet serve`, with
and without `--prefer_tflite_model`; serving_default has the same input and output names in both.
classify and regress parse tf.Examples, which TFLite cannot, so only the SavedModel has them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.compress.config import Scheme
from privet.components.compress.convert import PREDICTION_OUTPUT, predict_function
from privet.components.compress.quantize import pack_weights, quantize_weights
from privet.components.shared import signatures
from privet.components.shared.schema import Schema


def load_model(directory: str, scheme: Scheme) -> tf.keras.Model:
    """The trained Keras model with its weights rounded to what the scheme stores."""
    model = tf.keras.models.load_model(directory, compile=False)
    variables = model.trainable_variables
    weights = [variable.numpy() for variable in variables]
    names = [variable.name for variable in variables]
    for variable, value in zip(variables, quantize_weights(weights, names, scheme), strict=True):
        variable.assign(value)
    return model


def export_servable(model: tf.keras.Model, schema: Schema, scheme: Scheme, directory: str) -> None:
    """Writes a version directory.

    Args:
      model: with weights as `load_model` gives them for the same scheme.
      schema: of one example.
      scheme: how the TFLite file stores the weights.
      directory: is created; gets saved_model.pb, variables/, model.tflite and assets.extra/.
    """
    export_saved_model(model, schema, directory)
    path = Path(directory)
    path.joinpath(signatures.TFLITE_FILE).write_bytes(convert_tflite(directory, scheme))
    warm_up = path / signatures.WARM_UP_FILE
    warm_up.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(warm_up)) as writer:
        writer.write(_warm_up_request(schema).SerializeToString())


def export_saved_model(model: tf.keras.Model, schema: Schema, directory: str) -> None:
    """Writes the SavedModel with its signatures.

    serving_default takes the features by name and returns `scores` (softmax or sigmoid) or
    `prediction`. `classify` (classes and scores) or `regress` take serialized tf.Examples.
    """
    module = tf.Module()
    module.model = model  # tracked, so that its variables are saved
    predict = predict_function(model, schema)
    exported = {signatures.SERVING_DEFAULT: predict}
    if schema.task == "regression":
        exported[signatures.REGRESS] = _regress_function(predict, schema)
    else:
        exported[signatures.CLASSIFY] = _classify_function(predict, schema)
    tf.saved_model.save(module, directory, signatures=exported)


def convert_tflite(saved_model: str, scheme: Scheme) -> bytes:
    """The SavedModel's serving_default as TFLite, with TF Serving's signature metadata."""
    key = signatures.SERVING_DEFAULT
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[key])
    if scheme == "dynamic_range":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    tflite = converter.convert()
    if scheme in ("float16", "int8_weights"):
        tflite, _ = pack_weights(tflite, scheme)
    signature = signatures.tflite_signature(tflite, key)
    return signatures.with_signature_metadata(tflite, {key: signature})


def _parse(examples: tf.Tensor, schema: Schema) -> Mapping[str, tf.Tensor]:
    """Features of serialized tf.Examples: float_list for float32, int64_list for integers."""
    wire = {"float32": tf.float32, "int64": tf.int64, "uint8": tf.int64}
    parsed = tf.io.parse_example(
        examples,
        {
            name: tf.io.FixedLenFeature(feature.example_shape, wire[feature.dtype])
            for name, feature in schema.features.items()
        },
    )
    return {
        name: _to_uint8(name, values) if schema.features[name].dtype == "uint8" else values
        for name, values in parsed.items()
    }


def _to_uint8(name: str, values: tf.Tensor) -> tf.Tensor:
    """The same numbers as uint8; another number is an error, since a cast would wrap it."""
    fits = tf.reduce_all((values >= 0) & (values <= 255))
    # (Assert rather than the debugging helpers, which would show values of a batch's neighbours.)
    with tf.control_dependencies([tf.debugging.Assert(fits, [f"{name} must lie in 0 to 255"])]):
        return tf.cast(values, tf.uint8)


def _classify_function(predict: Any, schema: Schema) -> Any:
    names = tf.constant(schema.label.class_names)

    @tf.function(autograph=False)
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = predict(**_parse(inputs, schema))[signatures.SCORES_OUTPUT]
        if schema.task == "binary":
            scores = tf.concat([1.0 - scores, scores], axis=1)
        classes = tf.tile(names[None, :], [tf.shape(scores)[0], 1])
        return {signatures.CLASSES_OUTPUT: classes, signatures.SCORES_OUTPUT: scores}

    return _of_examples(classify)


def _regress_function(predict: Any, schema: Schema) -> Any:
    @tf.function(autograph=False)
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {signatures.REGRESSION_OUTPUT: predict(**_parse(inputs, schema))[PREDICTION_OUTPUT]}

    return _of_examples(regress)


def _of_examples(function: Any) -> Any:
    name = signatures.EXAMPLES_INPUT
    return function.get_concrete_function(tf.TensorSpec([None], tf.string, name=name))


def _warm_up_request(schema: Schema) -> Any:
    """One predict request of zeros: enough to build what the first request would wait for."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signatures.SERVING_DEFAULT
    for name, feature in schema.features.items():
        zeros = np.zeros((1, *feature.example_shape), feature.dtype)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(zeros))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
