"""Warm-up: requests that run before a version serves, so that no client's is the slow first one.

A version that carries requests gets those; any other gets made-up ones.
"""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from privet.components.shared.errors import ServingError
from privet.components.shared.signatures import WARM_UP_FILE
from privet.serving.engine import Engine, Signature, TensorSpec
from privet.serving.installed import has_request_protos
from privet.serving.status import RequestError

MAXIMUM_RECORDS = 1000


@dataclass(frozen=True)
class WarmUp:
    """What warmed a version up.

    Attributes:
      requests: how many requests ran; made-up ones count if they succeeded.
      made_up: whether they were made up, not the version's own.
      seconds: how long all of them took.
    """

    requests: int
    made_up: bool
    seconds: float


def warm_up(
    engine: Engine, version_path: Path, version: int, batch_sizes: Iterable[int] = (1,)
) -> WarmUp:
    """Replays the warm-up file of a version; runs made-up requests if it has none.

    Reading the file needs TensorFlow. Where it is not installed the requests are made up.

    Args:
      engine: the version's.
      version_path: its directory.
      version: its number.
      batch_sizes: the sizes of the made-up requests.

    Raises:
      ServingError: a record of the file cannot be read, or its request fails; the version must
        not serve. A made-up request may fail: its shapes are guesses.
    """
    start = time.perf_counter()
    path = version_path / WARM_UP_FILE
    made_up = not (path.is_file() and has_request_protos())
    requests = run_made_up(engine, batch_sizes) if made_up else replay(engine, path, version)
    return WarmUp(requests, made_up, time.perf_counter() - start)


def replay(engine: Engine, path: Path, version: int) -> int:
    """Runs the requests in a TFRecord file of PredictionLogs.

    Returns:
      How many there were.

    Raises:
      ServingError: see `warm_up`.
    """
    import tensorflow as tf

    from privet.serving import protos

    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            if count == MAXIMUM_RECORDS:
                raise ServingError(
                    f"Number of warmup records exceeds the maximum ({MAXIMUM_RECORDS}) at "
                    f"{path}. Write fewer."
                )
            protos.replay(engine, version, protos.parse_log(record))
            count += 1
    except (RequestError, tf.errors.OpError) as error:
        raise ServingError(
            f"Wanted every record of {path} to run; record {count} failed: "
            f"{getattr(error, 'message', error)}. Write the file again from requests that this "
            "model answers, or start with --enable_model_warmup=false."
        ) from error
    return count


def run_made_up(engine: Engine, batch_sizes: Iterable[int]) -> int:
    """Runs every signature on zeros and empty strings of its shape.

    Left out are signatures without inputs, those that may change the model, as a training step
    would, and in TFLite all but those where no size other than the batch's is free: where
    TensorFlow refuses an image that is too small for its filters, TFLite may write beyond its
    memory. (A TFLite model without signature metadata gives 1 for every free size.)

    Returns:
      How many requests succeeded.
    """
    count = 0
    for signature, batch_size in itertools.product(engine.signatures.values(), batch_sizes):
        inputs = dict(_made_up_inputs(signature, batch_size))
        if not inputs or len(inputs) < len(signature.inputs) or signature.may_change_state:
            continue
        if engine.kind == "tflite" and not _is_known_but_for_batch(signature):
            continue
        try:
            engine.run(signature.name, inputs)
        except Exception:  # whatever it is: clients may well send what works
            continue
        count += 1
    return count


def _is_known_but_for_batch(signature: Signature) -> bool:
    """Whether of every input's sizes the first one is free, and no other."""
    return all(
        spec.shape and spec.shape[0] == -1 and -1 not in spec.shape[1:]
        for spec in signature.inputs.values()
    )


def _made_up_inputs(signature: Signature, batch_size: int) -> Iterator[tuple[str, np.ndarray]]:
    """An array for each input that NumPy can hold."""
    for name, spec in signature.inputs.items():
        if spec.dtype is not None:
            fill = b"" if spec.dtype.kind == "O" else 0
            yield name, np.full(_made_up_shape(spec, batch_size), fill, spec.dtype)


def _made_up_shape(spec: TensorSpec, batch_size: int) -> tuple[int, ...]:
    """The shape with the batch's size first, if that is free, and 1 where any other size is.

    A tensor of any rank is taken for a list of numbers.
    """
    if spec.shape is None:
        return (batch_size,)
    return tuple(
        size if size >= 0 else 1 if dimension else batch_size
        for dimension, size in enumerate(spec.shape)
    )
