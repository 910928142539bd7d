"""Calling a model for its scores: the trained Keras model, or a servable's TFLite file.

Both take any number of examples and work on a few hundred at a time, whose activations fit into
the processor's caches.
"""

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.shared import signatures
from privet.components.shared.keras_models import input_specs, model_inputs, scores_of
from privet.components.shared.schema import Schema

Predict = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Features by name, each [examples, *shape], to scores, float32 [examples, units]."""


_KERAS_BATCH = 512
_TFLITE_BATCHES = (256, 16, 1)


def load_keras(directory: str, schema: Schema) -> Predict:
    """The trained model, before compression."""
    model = tf.keras.models.load_model(directory, compile=False)

    @tf.function(input_signature=[input_specs(schema)])
    def forward(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return scores_of(model(model_inputs(features), training=False), schema.task)

    def predict(features: Mapping[str, np.ndarray]) -> np.ndarray:
        scores = [
            forward(_part(features, start, _KERAS_BATCH)).numpy()
            for start in range(0, _length(features), _KERAS_BATCH)
        ]
        return np.concatenate(scores)

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
    """The compressed model as it is on the smallest device: the servable's TFLite file.

    The examples of a call go through in batches of few sizes, the largest that they fill first.
    """
    content = Path(directory, signatures.TFLITE_FILE).read_bytes()
    lock = threading.Lock()  # Beam may run several threads, an interpreter only one at a time

    @functools.cache
    def runner_of(size: int) -> Any:
        """Of its own for each size: TensorFlow Lite plans memory for one size at a time."""
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()  # or its signature has no XNNPACK, and rounds otherwise
        return interpreter.get_signature_runner(signatures.SERVING_DEFAULT)

    def predict(features: Mapping[str, np.ndarray]) -> np.ndarray:
        found, start, count = [], 0, _length(features)
        with lock:
            while start < count:
                size = next(size for size in _TFLITE_BATCHES if size <= count - start)
                (scores,) = runner_of(size)(**_part(features, start, size)).values()
                found.append(scores)
                start += size
        return np.concatenate(found)

    return predict


def predict_with_all(
    models: Mapping[str, Predict], features: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The scores of each model for the same examples.

    The models run side by side, each in a thread: TensorFlow Lite works on one core, and leaves
    the others to TensorFlow.
    """
    with ThreadPoolExecutor(len(models)) as pool:
        scores = pool.map(lambda predict: predict(features), models.values())
        return dict(zip(models, scores, strict=True))


def _part(features: Mapping[str, np.ndarray], start: int, size: int) -> dict[str, np.ndarray]:
    return {name: values[start : start + size] for name, values in features.items()}


def _length(features: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(features.values())))
