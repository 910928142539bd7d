"""The user's Keras model: built, checked against the schema, handed to TFF and back."""

import atexit
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from privet.components.shared.errors import ModelError
from privet.components.shared.fake_quant import initial_ranges, with_fake_quant
from privet.components.shared.keras_models import (
    build_loss,
    input_specs,
    label_dtype,
    model_inputs,
)
from privet.components.shared.schema import Schema
from privet.components.train.config import TrainConfig

_TFMOT = "tensorflow_model_optimization"

Inputs = np.ndarray | tf.Tensor | Mapping[str, Any]


def build_keras_model(
    build_model: Callable[[], tf.keras.Model], schema: Schema, seed: int
) -> tf.keras.Model:
    """Calls the user's function and checks that the model fits the data.

    Args:
      build_model: the user's function; returns an uncompiled model whose output is logits
        (classification) or values (regression).
      schema: of one example.
      seed: of the initial weights.

    Raises:
      ModelError: the model cannot be trained on these data, or not federated.
    """
    tf.keras.utils.set_random_seed(seed)
    model = build_model()
    if not isinstance(model, tf.keras.Model):
        raise ModelError(f"the model function must return a tf.keras.Model, not {type(model)}")
    if model.optimizer is not None:
        raise ModelError("the model must not be compiled: optimizers and loss come from the config")
    if not getattr(model, "inputs", None):
        raise ModelError(
            "the model has no inputs yet: begin it with tf.keras.Input, whose shape says what one "
            "example looks like (a subclassed model has none)"
        )
    _check_inputs(model, schema)
    _check_output(model, schema)
    _check_layers(model)
    return model


def load_initial_weights(model: tf.keras.Model, path: str) -> None:
    """Starts the model from the weights of a saved one, trainable and not.

    Args:
      model: gets the weights.
      path: of a Keras model: a SavedModel folder, .keras or .h5.

    Raises:
      ModelError: it cannot be read, or has other weights.
    """
    try:
        saved = tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # each format raises others
        raise ModelError(
            f"train.initial_weights={path} cannot be read as a Keras model: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Give a SavedModel "
            "folder, or a .keras or .h5 file that holds the whole model."
        ) from error
    shapes, wanted = ([tuple(weight.shape) for weight in one.weights] for one in (saved, model))
    if shapes != wanted:
        raise ModelError(
            f"train.initial_weights={path} has weights of shapes {shapes}, but the model function "
            f"makes a model with {wanted}. Save the model that the function returns."
        )
    model.set_weights(saved.get_weights())


def build_trainee(
    model: tf.keras.Model, config: TrainConfig, schema: Schema, seed: int
) -> tf.keras.Model:
    """What clients train: the model itself, or its form that rounds as int8 does.

    Args:
      model: the user's, with its initial weights.
      config: settings.
      schema: of one example.
      seed: of the made-up examples that the initial ranges are from.
    """
    if config.quantization_aware is None:
        return model
    return with_fake_quant(model, initial_ranges(model, schema, seed))


def check_exportable(model: tf.keras.Model) -> None:
    """Converts the untrained model to TFLite and runs it once.

    A model that cannot be exported must be found out before its training spends privacy.

    Raises:
      ModelError: TFLite cannot convert or cannot run the model.
    """
    try:
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
        for entry in interpreter.get_input_details():
            interpreter.resize_tensor_input(entry["index"], (2, *entry["shape"][1:]))
        interpreter.allocate_tensors()
        for entry in interpreter.get_input_details():  # else it runs on what lies in memory
            interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
        interpreter.invoke()
    except Exception as error:  # the converter and the interpreter each raise many kinds
        raise ModelError(
            "the model cannot be exported to TFLite (nothing has been trained): "
            f"{type(error).__name__}: {' '.join(str(error).split())[:500]}. Replace the layer; "
            "LSTM and GRU (unless unrolled) and GroupNormalization of images are known to fail."
        ) from error


def to_functional(model: tf.keras.Model, schema: Schema) -> tff.learning.models.FunctionalModel:
    """The model as TFF's pure functions of its weights, starting from the weights it has.

    Making and tracing them leaves `model` in need of restore_keras.
    """
    _drop_runtime_at_exit()
    labels = tf.TensorSpec((None, 1), label_dtype(schema))
    return tff.learning.models.functional_model_from_keras(
        model, build_loss(schema), input_spec=(model_inputs(input_specs(schema)), labels)
    )


class _NoRuntime(tff.framework.SyncContext):
    """In place of the runtime that importing TFF makes ready to start."""

    def invoke(self, comp: Any, arg: Any) -> Any:
        """Nothing is to run any more."""
        raise RuntimeError(f"no TFF runtime is installed that could run {comp}")


@contextlib.contextmanager
def unfused_normalization() -> Iterator[None]:
    """While a program is traced: LayerNormalization by its plain formula, which is the same.

    Keras' fast form goes through FusedBatchNorm, whose oneDNN kernel (TensorFlow 2.14) writes
    beyond its memory when it runs within tf.while_loop on batches of several sizes. There is no
    public switch but an epsilon below 1e-5.
    """
    layer = tf.keras.layers.LayerNormalization
    can_be_fused = layer._fused_can_be_used
    layer._fused_can_be_used = lambda self, ndims: False
    try:
        yield
    finally:
        layer._fused_can_be_used = can_be_fused


@functools.cache
def _drop_runtime_at_exit() -> None:
    """TFF's default runtime complains on stderr if it is still there when modules go."""
    atexit.register(lambda: tff.framework.set_default_context(_NoRuntime()))


def restore_keras(model: tf.keras.Model) -> None:
    """Undoes what copying the model inside a graph did to it.

    Such a copy switches Keras' classes (not only that copy) to their TF1 bases. Making any model
    outside a graph switches them back; without it the caller's model is "in an invalid state".
    """
    tf.keras.models.clone_model(model)


def assign_weights(model: tf.keras.Model, trainable: Sequence[np.ndarray]) -> None:
    """Puts trained weights into the model."""
    for variable, value in zip(model.trainable_variables, trainable, strict=True):
        variable.assign(value)


def _check_inputs(model: tf.keras.Model, schema: Schema) -> None:
    wanted = {name: (None, *feature.example_shape) for name, feature in schema.features.items()}
    inputs = {tensor.name.split(":")[0]: tensor for tensor in model.inputs}
    if len(wanted) > 1:
        inputs = dict(_named_inputs(model))
    elif len(inputs) == 1:  # a single input may have any name: it is fed by position
        inputs = dict(zip(wanted, inputs.values(), strict=True))
    shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    if shapes != wanted:
        raise ModelError(
            f"the model takes {_shown(shapes)}, but data.features gives {_shown(wanted)}. Make "
            "the names and shapes of its tf.keras.Input layers equal to data.features."
        )
    for name, feature in schema.features.items():
        _check_input_dtype(name, feature.dtype, inputs[name].dtype)


def _check_input_dtype(name: str, stored: str, taken: tf.DType) -> None:
    """Refuses an input that Keras would feed by a cast that cuts values off."""
    if not (taken.is_floating or np.can_cast(stored, taken.as_numpy_dtype, "safe")):
        raise ModelError(
            f"the model takes {name} as {taken.name}, but data.features.{name} is {stored}, of "
            f'which a cast would cut values off. Use tf.keras.Input(…, dtype="{stored}").'
        )


def _named_inputs(model: tf.keras.Model) -> Mapping[str, Any]:
    return dict(zip(model.input_names, model.inputs, strict=True))


def _check_output(model: tf.keras.Model, schema: Schema) -> None:
    if len(model.outputs) != 1 or tuple(model.outputs[0].shape) != (None, schema.output_units):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.outputs)
        meaning = {
            "multiclass": f"one logit for each of label classes={schema.label.classes}",
            "binary": "one logit (label classes=2)",
            "regression": "one value (the label has no classes)",
        }[schema.task]
        raise ModelError(
            f"the model's output is {shapes}, but the label wants (None, {schema.output_units}): "
            f"{meaning}. Change the last layer, or data.label.classes."
        )
    last = model.layers[-1]
    name = getattr(getattr(last, "activation", None), "__name__", "linear")
    if isinstance(last, tf.keras.layers.Softmax):
        name = "softmax"
    if schema.task != "regression" and name in ("softmax", "sigmoid"):
        raise ModelError(
            f"the last layer {last.name!r} has activation={name}, but the loss wants "
            "logits. Remove the activation; the exported model applies it."
        )


def _check_layers(model: tf.keras.Model) -> None:
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            raise ModelError(
                f"layer {layer.name!r} is a BatchNormalization: its moving statistics are taken "
                "from client data without noise and are not aggregated. Use LayerNormalization."
            )
        if any(_TFMOT in kind.__module__ for kind in type(layer).__mro__):
            raise ModelError(
                f"layer {layer.name!r} is tensorflow_model_optimization's {type(layer).__name__} "
                "(nothing has been trained). What it learns is not trainable, so federated "
                "training would leave it as it is, or fail. Return the plain model, and set "
                "train.quantization_aware, train.pruning or compress.variants."
            )
        if getattr(layer, "seed", None) is not None:
            raise ModelError(
                f"layer {layer.name!r} has seed={layer.seed}: client after client would draw from "
                "one known stream, so that one more client changes what all later ones draw. Leave "
                "the seed out."
            )
    if model.losses:
        raise ModelError(
            "the model adds losses of its own (a regularizer or add_loss), which federated "
            "training would silently leave out. Remove them."
        )
    if not model.trainable_variables:
        raise ModelError("the model has no trainable weights")


def _shown(shapes: Mapping[str, tuple[int | None, ...]]) -> str:
    return ", ".join(f"{name}{list(shape)}" for name, shape in shapes.items())
