"""Exporting a model for TF Serving: SavedModel, model.tflite, warm-up requests.

The version directory serves unchanged from tensorflow_model_server and from `privet serve`, with
and without `--prefer_tflite_model`; serving_default has the same input and output names in both.
classify and regress parse tf.Examples, which TFLite cannot, so only the SavedModel has them.

What is exported is a tf.Module. It is called with the features by name, each [examples, ...] of the
schema's dtype, and gives float32 [examples, units]: the scores (after softmax or sigmoid) or the
prediction. The same module gives the same bytes in whichever process.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from privet.components.compress.reproducible import make_reproducible
from privet.components.shared import signatures
from privet.components.shared.keras_models import model_inputs, scores_of
from privet.components.shared.schema import Schema

WARM_UP_BATCHES = (1, 32)
"""Examples of each warm-up request: one, as most clients ask, and as many as a batch may hold."""


class KerasPredictor(tf.Module):
    """A Keras model that gives logits, as a predictor that gives scores (or the prediction).

    Args:
      model: called with the only feature, or with several by name.
      schema: whose task says what follows the logits: softmax, sigmoid or nothing.
    """

    def __init__(self, model: tf.keras.Model, schema: Schema):
        super().__init__()
        self.model = model
        self._task = schema.task

    def __call__(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return scores_of(self.model(model_inputs(features), training=False), self._task)


def export_servable(predict: tf.Module, tflite: bytes, schema: Schema, directory: str) -> None:
    """Writes a version directory.

    Args:
      predict: gives the scores or the prediction, see above.
      tflite: the same model as a TFLite file, with signature metadata.
      schema: of one example.
      directory: is created; gets saved_model.pb, variables/, model.tflite and assets.extra/.
    """
    export_saved_model(predict, schema, directory)
    path = Path(directory)
    path.joinpath(signatures.TFLITE_FILE).write_bytes(tflite)
    warm_up = path / signatures.WARM_UP_FILE
    warm_up.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(warm_up)) as writer:
        for examples in WARM_UP_BATCHES:
            request = _warm_up_request(schema, examples)
            writer.write(request.SerializeToString(deterministic=True))


def export_saved_model(predict: tf.Module, schema: Schema, directory: str) -> None:
    """Writes the SavedModel with its signatures, and of the weights only those that they read.

    serving_default takes the features by name and returns `scores` (softmax or sigmoid) or
    `prediction`. `classify` (classes and scores) or `regress` take serialized tf.Examples.
    """
    function = _predict_function(predict, schema)
    exported = {signatures.SERVING_DEFAULT: function}
    if schema.task == "regression":
        exported[signatures.REGRESS] = _regress_function(function, schema)
    else:
        exported[signatures.CLASSIFY] = _classify_function(function, schema)
    module = tf.Module()
    module.state = _state(predict, function)  # tracked, and so saved
    tf.saved_model.save(module, directory, signatures=exported)
    make_reproducible(directory)


def _predict_function(predict: tf.Module, schema: Schema) -> Any:
    specs = {
        name: tf.TensorSpec((None, *feature.example_shape), feature.dtype, name=name)
        for name, feature in schema.features.items()
    }
    output = signatures.predict_output(schema.task)

    @tf.function(autograph=False)
    def serving_default(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output: predict(features)}

    return serving_default.get_concrete_function(**specs)


def _state(predict: tf.Module, function: Any) -> list[Any]:
    """The variables and tables that a function reads, in the order in which the module holds them.

    Nothing else is saved: no optimizer's state, and no Python structure of Keras layers.
    """
    read = {variable.ref() for variable in function.variables}
    return [
        node
        for node in tf.train.TrackableView(predict).descendants()
        if (isinstance(node, tf.Variable) and node.ref() in read)
        or isinstance(node, tf.saved_model.experimental.TrackableResource)
    ]


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
        return {
            signatures.REGRESSION_OUTPUT: predict(**_parse(inputs, schema))[
                signatures.PREDICTION_OUTPUT
            ]
        }

    return _of_examples(regress)


def _of_examples(function: Any) -> Any:
    name = signatures.EXAMPLES_INPUT
    return function.get_concrete_function(tf.TensorSpec([None], tf.string, name=name))


def _warm_up_request(schema: Schema, examples: int) -> Any:
    """A predict request of zeros.

    Never one of classify or regress: TF Serving replays every record on whichever engine it
    starts, and one whose signature is missing, as these are in TFLite, fails the load.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signatures.SERVING_DEFAULT
    for name, feature in schema.features.items():
        shape = (examples, *feature.example_shape)
        # A single value, which stands for all.
        request.inputs[name].CopyFrom(tf.make_tensor_proto(0, feature.dtype, shape))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
