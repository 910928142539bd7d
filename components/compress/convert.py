"""Keras models as finished TFLite files: float weights in fewer bits, or integer arithmetic.

Every file has one float output, `scores` or `prediction`, and TF Serving's signature metadata, so
that a server needs to know nothing of the integers inside.

In the integer forms softmax and sigmoid stay float: the converter gets the model up to its logits,
and a float SOFTMAX or LOGISTIC goes behind the DEQUANTIZE that ends the graph. The converter's own
int8 softmax gives scores in steps of 1/256, so that all below 1/512 become 0.

The same weights give the same bytes, whatever else the process has built before; see
`_fresh_names`.
"""

import collections
import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from privet.components.compress.quantize import operator_code, pack_weights
from privet.components.compress.static_shapes import with_static_shapes
from privet.components.shared import signatures
from privet.components.shared.errors import DataError, ModelError
from privet.components.shared.keras_models import model_inputs, scores_of
from privet.components.shared.schema import Schema

FloatScheme = Literal["float32", "float16", "int8_weights", "dynamic_range"]
IntegerScheme = Literal["int8", "int16"]

_LOCATION = re.compile(r"^.*loc\(.*\): ")  # where in the converter's own graph
_LOGITS = "logits"
_OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}


def convert_float(model: tf.keras.Model, schema: Schema, quantization: FloatScheme) -> bytes:
    """The model in float arithmetic (dynamic_range apart), its weights in fewer bits.

    Args:
      model: with weights as `quantize.quantize_weights` rounds them for this scheme.
      schema: of one example.
      quantization: how the file stores the weights.

    Raises:
      ModelError: TFLite has no form of the model.
    """

    def configure(converter: tf.lite.TFLiteConverter) -> None:
        if quantization == "dynamic_range":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]

    output = signatures.predict_output(schema.task)
    function = _traced(model, schema, lambda outputs: {output: scores_of(outputs, schema.task)})
    tflite = _converted(model, function, quantization, configure)
    if quantization in ("float16", "int8_weights"):
        tflite, _ = pack_weights(tflite, quantization)
    return _with_metadata(tflite)


def convert_integer(
    model: tf.keras.Model,
    schema: Schema,
    quantization: IntegerScheme,
    examples: Mapping[str, np.ndarray],
) -> bytes:
    """The model in integer arithmetic, with the ranges of activations that examples give.

    Operators of which TFLite has no integer form stay float; see `float_operators`.

    Args:
      model: with float weights; the converter rounds them, to a scale per output channel of a
        convolution and to one scale of a dense kernel.
      schema: of one example.
      quantization: int8 throughout, or int8 weights with int16 activations.
      examples: feature name -> array [n, …]: synthetic or public, never of clients.

    Raises:
      DataError: examples are missing.
      ModelError: TFLite has no form of the model.
    """
    sizes = {name: len(examples[name]) if name in examples else 0 for name in schema.features}
    if 0 in sizes.values() or len(set(sizes.values())) != 1:
        raise DataError(
            f"the ranges of activations for {quantization} want examples of every feature, equally "
            f"many; got {sizes}. Give a row for each."
        )

    def representative() -> Iterator[dict[str, np.ndarray]]:
        for row in range(next(iter(sizes.values()))):
            yield {
                name: np.asarray(examples[name][row : row + 1], feature.dtype)
                for name, feature in schema.features.items()
            }

    def configure(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [
            _OPERATORS[quantization],
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]

    return _converted_integer(model, schema, quantization, configure)


def convert_fake_quantized(model: tf.keras.Model, schema: Schema) -> bytes:
    """The model in int8, with the ranges that its fake-quantization holds.

    Args:
      model: with fake-quantization of kernels and activations in its graph, as
        `quantization_aware.fine_tuned` makes it. Operators between activations without ranges
        stay float.
      schema: of one example.

    Raises:
      ModelError: TFLite has no form of the model.
    """

    def configure(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    return _converted_integer(model, schema, "int8", configure)


def float_operators(tflite: bytes) -> list[str]:
    """Operators that compute on floats, in order: what integer conversion left over.

    Args:
      tflite: an integer model of this module. Its QUANTIZE, DEQUANTIZE and CAST, and the softmax
        or sigmoid at its end, are not listed.
    """
    from tensorflow.lite.python import schema_py_generated as tflite_schema

    model = _unpacked(tflite)
    graph = model.subgraphs[0]
    names = {code: name for name, code in vars(tflite_schema.BuiltinOperator).items()}
    found = []
    for operator in graph.operators:
        name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        results = {graph.tensors[index].type for index in operator.outputs}
        ends = name in ("SOFTMAX", "LOGISTIC") and list(operator.outputs) == list(graph.outputs)
        if name in ("QUANTIZE", "DEQUANTIZE", "CAST") or ends:
            continue
        if tflite_schema.TensorType.FLOAT32 in results:
            found.append(name)
    return found


def _traced(
    model: tf.keras.Model, schema: Schema, answer: Callable[[tf.Tensor], dict[str, tf.Tensor]]
) -> Any:
    specs = {
        name: tf.TensorSpec((None, *feature.example_shape), feature.dtype, name=name)
        for name, feature in schema.features.items()
    }

    @tf.function(autograph=False)
    def predict(**features: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(model(model_inputs(features), training=False))

    with _fresh_names(model):
        return predict.get_concrete_function(**specs)


def _converted(
    model: tf.keras.Model,
    function: Any,
    quantization: str,
    configure: Callable[[tf.lite.TFLiteConverter], None],
) -> bytes:
    key = signatures.SERVING_DEFAULT
    module = tf.Module()
    module.model = model  # tracked, so that its variables are saved
    try:
        with tempfile.TemporaryDirectory() as directory:
            tf.saved_model.save(module, directory, signatures={key: function})
            converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=[key])
            configure(converter)
            tflite = bytes(converter.convert())
    except Exception as error:  # the converter raises many kinds
        cause = _LOCATION.sub("", (str(error).splitlines() or [""])[0])[:500]
        raise ModelError(
            f"the model cannot be converted to TFLite as {quantization}: {type(error).__name__}: "
            f"{cause}. Replace the layer, or if it is not named, see whether quantization: float32 "
            "works, which rounds nothing."
        ) from error
    return with_static_shapes(tflite)


def _converted_integer(
    model: tf.keras.Model,
    schema: Schema,
    quantization: str,
    configure: Callable[[tf.lite.TFLiteConverter], None],
) -> bytes:
    output = signatures.PREDICTION_OUTPUT if schema.task == "regression" else _LOGITS
    function = _traced(model, schema, lambda outputs: {output: outputs})
    tflite = _converted(model, function, quantization, configure)
    if schema.task != "regression":
        tflite = _with_scores(tflite, "SOFTMAX" if schema.task == "multiclass" else "LOGISTIC")
    return _with_metadata(tflite)


def _with_scores(tflite: bytes, operator: Literal["SOFTMAX", "LOGISTIC"]) -> bytes:
    """Adds the operator behind the only output, and makes its result the output `scores`."""
    from tensorflow.lite.python import schema_py_generated as tflite_schema

    model = _unpacked(tflite)
    graph = model.subgraphs[0]
    (logits,) = graph.outputs
    scores = tflite_schema.TensorT()
    scores.name = signatures.SCORES_OUTPUT
    scores.shape = graph.tensors[logits].shape
    scores.shapeSignature = graph.tensors[logits].shapeSignature
    scores.hasRank = True
    scores.type = tflite_schema.TensorType.FLOAT32
    scores.buffer = 0  # TFLite's convention: computed, not constant
    graph.tensors.append(scores)

    added = tflite_schema.OperatorT()
    code = getattr(tflite_schema.BuiltinOperator, operator)
    added.opcodeIndex = operator_code(model, code, version=1)
    added.inputs, added.outputs = [logits], [len(graph.tensors) - 1]
    if operator == "SOFTMAX":
        added.builtinOptionsType = tflite_schema.BuiltinOptions.SoftmaxOptions
        added.builtinOptions = tflite_schema.SoftmaxOptionsT()
        added.builtinOptions.beta = 1.0
    graph.operators.append(added)

    graph.outputs = list(added.outputs)
    (entry,) = model.signatureDefs[0].outputs
    entry.name, entry.tensorIndex = signatures.SCORES_OUTPUT, graph.outputs[0]
    return _repacked(model)


@contextlib.contextmanager
def _fresh_names(model: tf.keras.Model) -> Iterator[None]:
    """Meanwhile the model and its layers have the names of a process that builds nothing else.

    Keras numbers models and layers without a name of their own as it makes them (`model_3`,
    `dense_7`). The converter names tensors after them, and even orders constants by these names.
    """
    counts: collections.Counter[str] = collections.Counter()
    names = {id(model): (model, model.name, "model")}
    for layer in model._flatten_layers(include_self=False):
        stem = re.sub(r"_\d+$", "", layer.name)
        if id(layer) not in names and _is_default(stem, layer):
            fresh = f"{stem}_{counts[stem]}" if counts[stem] else stem
            names[id(layer)] = (layer, layer.name, fresh)
            counts[stem] += 1
    try:
        for layer, _, fresh in names.values():
            layer._name = fresh
        yield
    finally:
        for layer, name, _ in names.values():
            layer._name = name


def _is_default(stem: str, layer: tf.keras.layers.Layer) -> bool:
    """Whether Keras would name a layer so: `max_pooling2d` of MaxPooling2D, `tf.math.add`.

    Or one that stands for it in a model with fake-quantization: tfmot's wrapper, `quant_dense` of
    Dense, or a class of a longer name, as FakeQuantDense.
    """
    inner = getattr(layer, "layer", layer)
    words = stem.removeprefix("quant_").replace("_", "")
    return stem.startswith("tf.") or type(inner).__name__.lower().endswith(words)


def _with_metadata(tflite: bytes) -> bytes:
    """Adds the signature in the form that TF Serving reads."""
    key = signatures.SERVING_DEFAULT
    return signatures.with_signature_metadata(
        tflite, {key: signatures.tflite_signature(tflite, key)}
    )


def _unpacked(tflite: bytes) -> Any:
    """The file as an object that can be changed."""
    from tensorflow.lite.tools import flatbuffer_utils

    return flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))


def _repacked(model: Any) -> bytes:
    """The object as a file; the metadata, which comes last, aligns its buffers."""
    from tensorflow.lite.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
