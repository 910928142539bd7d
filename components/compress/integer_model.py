"""An int8 TFLite file as a TensorFlow model that gives the same answers.

A SavedModel of the float model would answer otherwise than the int8 file: its activations are not
rounded. `IntegerModel` computes what the file computes, on the same integers, in plain TensorFlow
ops: saved as a SavedModel, the same variant is served by both engines.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from privet.components.compress import integer_ops
from privet.components.compress.integer_graph import read_graph
from privet.components.shared import signatures
from privet.components.shared.errors import ModelError

_BATCH = 256  # examples that `agreement` compares at a time


class IntegerModel(tf.Module):
    """A TFLite file, int8 inside and float outside, as TensorFlow ops.

    Every int8 tensor equals that of `tf.lite.Interpreter` with its XNNPACK delegate (exceptions:
    docs/compression_int8.md). What the file computes in float (softmax, sigmoid) may differ in the
    last digits. Weights are saved as int8 and widened when the model runs.

    Args:
      tflite: the file's bytes, with a `serving_default` signature of one output.

    Raises:
      ModelError: the file has an operator, a type or an option that is not known here.
    """

    def __init__(self, tflite: bytes) -> None:
        super().__init__()
        graph = read_graph(tflite)
        self._graph = graph
        specs = {
            name: tf.TensorSpec([None, *info.shape[1:]], info.dtype, name=name)
            for name, info in graph.inputs.items()
        }
        # One concrete function: what is not known shows now, and weights are saved only once.
        self._predict = tf.function(self._output, autograph=False).get_concrete_function(specs)

    def __call__(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What the file's serving_default signature answers, for any number of examples."""
        return self._predict(
            {name: tf.convert_to_tensor(features[name]) for name in self._graph.inputs}
        )

    def tensors(self, features: Mapping[str, tf.Tensor]) -> dict[int, tf.Tensor]:
        """All values that are computed on the way, by the indices of their tensors in the file."""
        values: dict[int, Any] = {
            info.index: features[name] for name, info in self._graph.inputs.items()
        }
        for operator in self._graph.operators:
            given = [
                None if info is None else values.get(info.index, info.constant)
                for info in operator.inputs
            ]
            values[operator.output.index] = integer_ops.compute(operator, given)
        return values

    def _output(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.tensors(features)[self._graph.output.index]


def agreement(
    predict: Callable[[Mapping[str, tf.Tensor]], tf.Tensor],
    tflite: bytes,
    features: Mapping[str, np.ndarray],
) -> float:
    """The largest absolute difference between a model's answers and those of a TFLite file.

    Args:
      predict: called with a batch of features by name; returns one tensor.
      tflite: a file whose serving_default signature has those inputs and one output.
      features: of at least one example.

    Returns:
      Infinity when one of the two answers is no number and the other is.
    """
    examples = {len(values) for values in features.values()}
    if len(examples) != 1 or not min(examples):
        raise ModelError(
            f"Wanted features of the same examples, at least one; got {sorted(examples)} examples. "
            "Pass the same number of values for every feature."
        )
    interpreter = tf.lite.Interpreter(model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()  # else the signature's own allocation leaves XNNPACK out
    run = interpreter.get_signature_runner(signatures.SERVING_DEFAULT)
    largest = 0.0
    for start in range(0, min(examples), _BATCH):
        batch = {name: values[start : start + _BATCH] for name, values in features.items()}
        (wanted,) = run(**batch).values()
        got = predict({name: tf.constant(values) for name, values in batch.items()}).numpy()
        difference = np.abs(got.astype(np.float64) - wanted)
        difference[np.isnan(got) & np.isnan(wanted)] = 0
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
    return largest
