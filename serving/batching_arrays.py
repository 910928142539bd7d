"""Joining the inputs of several requests into one batch, and cutting its outputs up again.

What may not be batched, and the words for it, are those of TF Serving's batching_session.cc.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from privet.serving.engine import Signature
from privet.serving.status import Code, RequestError, invalid_argument

Arrays = Mapping[str, np.ndarray]

_HIGHEST_PADDED_RANK = 6


def count_examples(inputs: Arrays) -> int:
    """How many examples a request holds: the size of its inputs' first dimension.

    Raises:
      RequestError: INVALID_ARGUMENT, its inputs have no common first dimension.
    """
    if not inputs:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    shapes = [array.shape for array in inputs.values()]
    if not all(shapes):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    if len(shapes) > 1 and any(shape[0] != shapes[0][0] for shape in shapes):
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return shapes[0][0]


def has_batch_dimension(signature: Signature) -> bool:
    """Whether the first dimension of every input and output may be of any size.

    One of a fixed size may be something else than a batch: it happens to fit some batches, and
    cutting it up would give each caller a part of what belongs to all.
    """
    specs = (*signature.inputs.values(), *signature.outputs.values())
    return all(spec.shape is None or spec.shape[:1] == (-1,) for spec in specs)


def join_inputs(requests: Sequence[Arrays], size: int) -> dict[str, np.ndarray]:
    """Joins requests into one batch.

    Args:
      requests: of the same names and ranks. Where shapes differ behind the first dimension, each
        is filled up to the longest with its own first value.
      size: the examples of the batch; it is filled up to them with the last request's first.

    Raises:
      RequestError: INVALID_ARGUMENT, inputs cannot be filled up.
    """
    joined = {}
    for name in requests[0]:
        parts = _of_one_shape([request[name] for request in requests])
        missing = size - sum(len(part) for part in parts)
        if missing:
            parts.append(np.repeat(parts[-1][:1], missing, axis=0))
        joined[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return joined


def split_outputs(outputs: Arrays, sizes: Sequence[int], size: int) -> list[dict[str, np.ndarray]]:
    """Cuts a batch's outputs into those of its requests.

    Args:
      outputs: what the batch gave.
      sizes: the examples of each request, in order.
      size: the examples of the batch, at least the sum of `sizes`.

    Raises:
      RequestError: FAILED_PRECONDITION, an output has not one row for each example.
    """
    for array in outputs.values():
        if array.ndim == 0:
            raise RequestError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if array.shape[0] != size:
            raise RequestError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors",
            )
    if len(sizes) == 1 and sizes[0] == size:
        return [dict(outputs)]
    results, start = [], 0
    for rows in sizes:
        stop = start + rows
        results.append({name: array[start:stop] for name, array in outputs.items()})
        start = stop
    return results


def _of_one_shape(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays, filled up where they are shorter than others behind the first dimension."""
    if len({array.shape[1:] for array in arrays}) == 1:
        return arrays
    if arrays[0].ndim > _HIGHEST_PADDED_RANK:
        raise invalid_argument("Only tensors with rank from 1 to 6 can be padded.")
    longest = np.max([array.shape[1:] for array in arrays], axis=0)
    filled = []
    for array in arrays:
        if array.size == 0:
            raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
        widths = [
            (0, 0),
            *((0, most - own) for most, own in zip(longest, array.shape[1:], strict=True)),
        ]
        filled.append(np.pad(array, widths, constant_values=array.flat[0]))
    return filled
