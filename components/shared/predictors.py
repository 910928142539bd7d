"""Calling a model for its scores: the trained Keras model, or a servable's TFLite file."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from privet.components.shared import signatures, tasks
from privet.components.shared.schema import Schema

Predict = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Features by name, each [examples, *shape], to scores, float32 [examples, units]."""


def load_keras(directory: str, schema: Schema) -> Predict:
    """The trained model, before compression."""
    model = tf.keras.models.load_model(directory, compile=False)

    def predict(features: Mapping[str, np.ndarray]) -> np.ndarray:
        inputs = next(iter(features.values())) if len(features) == 1 else dict(features)
        return tasks.scores(schema.task, model(inputs, training=False).numpy())

    return predict


def servable_fits(directory: str, schema: Schema) -> bool:
    """Whether a servable takes these features; one of an earlier schema need not."""
    content = Path(directory, signatures.TFLITE_FILE).read_bytes()
    inputs = signatures.tflite_signature(content, signatures.SERVING_DEFAULT).inputs
    taken = {
        name: (
            tuple(dim.size for dim in info.tensor_shape.dim[1:]),
            tf.dtypes.as_dtype(info.dtype).name,
        )
        for name, info in inputs.items()
    }
    return taken == {
        name: (feature.example_shape, feature.dtype) for name, feature in schema.features.items()
    }


def load_servable(directory: str) -> Predict:
    """The compressed model as it is on the smallest device: the servable's TFLite file."""
    content = Path(directory, signatures.TFLITE_FILE).read_bytes()
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()  # or its signature runs without XNNPACK, and rounds otherwise
    signature = interpreter.get_signature_runner(signatures.SERVING_DEFAULT)
    lock = threading.Lock()  # Beam may run several threads, an interpreter only one at a time

    def predict(features: Mapping[str, np.ndarray]) -> np.ndarray:
        with lock:
            (scores,) = signature(**features).values()
        return scores

    return predict
