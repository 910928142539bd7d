"""What training and fine-tuning share of a Keras model: its loss, and what it is called with."""

import collections
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.shared.schema import Schema, Task


def build_loss(schema: Schema) -> tf.keras.losses.Loss:
    """Cross entropy from logits, or squared error for regression."""
    if schema.task == "multiclass":
        return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if schema.task == "binary":
        return tf.keras.losses.BinaryCrossentropy(from_logits=True)
    return tf.keras.losses.MeanSquaredError()


def scores_of(outputs: tf.Tensor, task: Task) -> tf.Tensor:
    """What is served: softmax or sigmoid of the model's logits, or for regression its output."""
    if task == "multiclass":
        return tf.nn.softmax(outputs)
    return tf.nn.sigmoid(outputs) if task == "binary" else outputs


def input_specs(schema: Schema) -> dict[str, tf.TensorSpec]:
    """Batches of the features, by name."""
    return {
        name: tf.TensorSpec((None, *feature.example_shape), tf.dtypes.as_dtype(feature.dtype))
        for name, feature in schema.features.items()
    }


def model_inputs(features: Mapping[str, Any]) -> Any:
    """What the model is called with: the only feature itself, or several by name.

    Several are ordered by name, since TFF takes no mapping whose order could be ambiguous.
    """
    if len(features) == 1:
        return next(iter(features.values()))
    return collections.OrderedDict(sorted(features.items()))


def label_dtype(schema: Schema) -> tf.DType:
    """Dtype of the labels in training; Keras' binary cross entropy wants floats."""
    return tf.int64 if schema.task == "multiclass" else tf.float32


def with_weights(model: tf.keras.Model, trainable: Sequence[np.ndarray]) -> tf.keras.Model:
    """A copy of the model with other trainable weights; the model stays as it is."""
    copied = _copy(model)
    for variable, value in zip(copied.trainable_variables, trainable, strict=True):
        variable.assign(value)
    return copied


def _copy(model: tf.keras.Model) -> tf.keras.Model:
    """A model of the same layers and weights.

    Keras clones what it can make anew from its configuration; layers of a user's own classes, which
    it cannot once they come from a file, take the way through a file again.
    """
    try:
        copied = tf.keras.models.clone_model(model)
        copied.set_weights(model.get_weights())
        return copied
    except (NotImplementedError, TypeError, ValueError):
        with tempfile.TemporaryDirectory() as directory:
            model.save(directory, include_optimizer=False, save_format="tf")
            return tf.keras.models.load_model(directory, compile=False)
