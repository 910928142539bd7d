"""How long one example, or a batch, takes on one thread: variants in turns, medians.

What a variant takes is measured on this machine and in this process; only the order of variants
that were measured together means anything.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from privet.components.shared import signatures

BATCHES = (1, 32)

_SECONDS = 0.25  # for each variant and batch, about
_TURNS = 15


def measure(
    files: Mapping[str, bytes], features: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Median microseconds of a call, for each variant and batch.

    Args:
      files: name -> TFLite model.
      features: by name, at least as many examples as the largest batch.

    Returns:
      name -> batch size (as text) -> microseconds of the whole batch.
    """
    measured: dict[str, dict[str, float]] = {name: {} for name in files}
    for batch in BATCHES:
        taken = {name: values[:batch] for name, values in features.items()}
        calls = {name: prepared(content, taken) for name, content in files.items()}
        repeats = {name: _repeats(call) for name, call in calls.items()}
        seconds: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(_TURNS):
            for name, call in calls.items():
                seconds[name].append(_seconds(call, repeats[name]))
        for name, values in seconds.items():
            measured[name][str(batch)] = round(1e6 * statistics.median(values), 2)
    return measured


def prepared(content: bytes, features: Mapping[str, np.ndarray]) -> Callable[[], None]:
    """A call of the interpreter alone: inputs are set once, outputs not copied."""
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    named = signatures.tflite_signature(content, signatures.SERVING_DEFAULT).inputs
    indices = {entry["name"]: entry["index"] for entry in interpreter.get_input_details()}
    for name, values in features.items():
        interpreter.resize_tensor_input(indices[named[name].name], values.shape)
    interpreter.allocate_tensors()
    for name, values in features.items():
        interpreter.set_tensor(indices[named[name].name], values)
    return interpreter.invoke


def _repeats(call: Callable[[], None]) -> int:
    call()
    return max(1, min(1000, int(_SECONDS / _TURNS / max(_seconds(call, 1), 1e-7))))


def _seconds(call: Callable[[], None], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats
