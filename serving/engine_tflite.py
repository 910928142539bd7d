"""The TFLite engine: pools of interpreters, each with one for every batch size it has met."""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from privet.serving.engine import (
    Signature,
    check_input_types,
    select_outputs,
    shape_text,
    signature_from_proto,
)
from privet.serving.status import Code, RequestError, WouldBlockError, invalid_argument
from privet.serving.tflite_model import Shape, TFLiteModel

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

# The sizes of the parts that a batch is run in, if its rows do not depend on each other. Larger
# parts are no faster on a core, and an interpreter keeps the memory that it once needed.
_PART_SIZES = (32, 16, 8, 4, 2, 1)

# Interpreters that a pool keeps: one for every size above, and some for models whose batches
# cannot be split, or with other dimensions of any size.
_KEPT_INTERPRETERS = 12

# Rows of the trial that finds out whether a batch may be split: parts of 4, 2 and 1.
_TRIAL_ROWS = 7

# How far rounding may move a result of the trial, as a share of the largest one. Floats are added
# up in another order for other batch sizes (measured: 1e-6 of it; a mean over the batch: 0.1).
_ROUNDING = 1e-4


@dataclass(frozen=True)
class _Input:
    """An input of a signature, and where it goes.

    Attributes:
      index: the tensor's in the interpreter.
      shape: what is accepted; -1 for a dimension of any size, None for any shape.
      row_shape: the shape without its first dimension, if that is the only one of any size.
    """

    name: str
    index: int
    dtype: np.dtype | None
    shape: Shape | None
    row_shape: Shape | None


@dataclass(frozen=True)
class _Plan:
    """How a signature runs: which tensors it has, and whether a batch may be split."""

    signature: Signature
    inputs: tuple[_Input, ...]
    outputs: Mapping[str, int]
    splits: bool = False


@dataclass(frozen=True)
class _Pool:
    """Interpreters for one call at a time, by signature and shapes; the last used come last."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    interpreters: dict[tuple[str, tuple[Shape, ...]], Any] = field(default_factory=dict)


class TFLiteEngine:
    """Runs a TFLite model under the signatures that TF Serving would find in it.

    An interpreter serves one call at a time, and changing its input shapes costs as much as many
    calls (XNNPACK packs the weights again). So a pool, which also serves one call at a time, has
    an interpreter for every shape it has met. That there be few of them, a batch runs in parts
    whose sizes are powers of two. No row is added to fill a part: that could double the time.
    Only a signature whose rows do not touch each other is split; a trial at load shows it.
    """

    kind = "tflite"
    may_block = False

    def __init__(self, model: bytes, num_pools: int | None = None) -> None:
        """Loads a TFLite model.

        Args:
          model: the file's bytes.
          num_pools: how many calls may run at once; by default one for each core.

        Raises:
          ServingError: TF Serving could not run this model.
        """
        self._model = TFLiteModel(model)
        self._pools = [_Pool() for _ in range(num_pools or os.cpu_count() or 1)]
        self._turns = itertools.count()
        self._signatures = {
            key: signature_from_proto(key, proto)
            for key, proto in self._model.signature_defs.items()
        }
        self._plans = {key: self._plan(signature) for key, signature in self._signatures.items()}

    @property
    def signature_defs(self) -> Mapping[str, "SignatureDef"]:
        return self._model.signature_defs

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        """Runs one signature; see `Engine.run`."""
        plan = self._plans[signature_name]
        arrays = [inputs[one.name] for one in plan.inputs]
        if not _fit_at_a_glance(plan, arrays):
            check_input_types(plan.signature, inputs)
            _check_shapes(plan, arrays)
        if plan.splits and _same_length(arrays):
            results = self._run_rows(plan, arrays)
        else:
            results = self._run_whole(plan, arrays)
        return select_outputs(results, output_filter)

    def close(self) -> None:
        """Frees the interpreters; see `Engine.close`."""
        for pool in self._pools:
            pool.interpreters.clear()

    def _run_rows(self, plan: _Plan, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch in parts."""
        rows = len(arrays[0])
        if rows in _PART_SIZES:
            return self._run_whole(plan, arrays)
        if rows == 0:
            # Operators are not made for none; what one row gives has the shape that is wanted.
            one = [np.zeros((1, *array.shape[1:]), array.dtype) for array in arrays]
            return {name: made[:0] for name, made in self._run_whole(plan, one).items()}
        parts = [
            self._run_whole(plan, [array[start:end] for array in arrays])
            for start, end in _parts(rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in plan.outputs}

    def _run_whole(self, plan: _Plan, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Runs arrays as they are."""
        key = (plan.signature.name, tuple([array.shape for array in arrays]))
        pool = self._take_pool()
        try:
            interpreters = pool.interpreters
            # One that fails is not put back.
            interpreter = interpreters.pop(key, None) or self._allocate(plan, arrays)
            results = _invoke(interpreter, plan, arrays)
            interpreters[key] = interpreter
            if len(interpreters) > _KEPT_INTERPRETERS:
                del interpreters[next(iter(interpreters))]
        finally:
            pool.lock.release()
        return results

    def _take_pool(self) -> _Pool:
        """Locks a pool: the first that is free, as it has most shapes, or else one in turn.

        Raises:
          WouldBlockError: none is free, and an event loop called. Long calls may be ahead of it.
        """
        for pool in self._pools:
            if pool.lock.acquire(blocking=False):
                return pool
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()  # raises where there is none
            raise WouldBlockError("All pools are busy")
        pool = self._pools[next(self._turns) % len(self._pools)]
        pool.lock.acquire()
        return pool

    def _allocate(self, plan: _Plan, arrays: Sequence[np.ndarray]) -> Any:
        """A new interpreter for arrays of these shapes."""
        if not all(array.size for array in arrays):
            raise invalid_argument(
                "TFLite cannot run on an input without elements; the shapes are "
                f"{_shapes_text(arrays)}"
            )
        interpreter = self._model.new_interpreter()
        try:
            for one, array in zip(plan.inputs, arrays, strict=True):
                interpreter.resize_tensor_input(one.index, array.shape)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            # The model left these sizes open, and its operators refuse them.
            raise invalid_argument(f"Failed to allocate tensors: {error}") from error
        if any(one.row_shape is None for one in plan.inputs):
            _check_layers(interpreter, arrays)
        return interpreter

    def _plan(self, signature: Signature) -> _Plan:
        """How to run a signature."""
        inputs = []
        for name, spec in signature.inputs.items():
            place = self._model.inputs[spec.tensor_name]
            inputs.append(
                _Input(name, place.index, spec.dtype, place.shape, _row_shape(place.shape))
            )
        made = {
            name: self._model.outputs[spec.tensor_name] for name, spec in signature.outputs.items()
        }
        plan = _Plan(signature, tuple(inputs), {name: one.index for name, one in made.items()})
        by_rows = bool(inputs) and all(one.row_shape is not None for one in inputs)
        if by_rows and all(one.shape and one.shape[0] == -1 for one in made.values()):
            return dataclasses.replace(plan, splits=self._is_independent(plan))
        return plan

    def _is_independent(self, plan: _Plan) -> bool:
        """Whether a row gives the same whichever rows are beside it.

        It would not if the model computes over the batch; say, if it subtracts the batch's mean.
        """
        generator = np.random.default_rng(0)
        arrays = [_trial_values(generator, one) for one in plan.inputs]
        try:
            whole = _invoke(self._allocate(plan, arrays), plan, arrays)
            parts = self._run_rows(plan, arrays)
        except (RequestError, ValueError):
            return False  # the values were none for this model, or its parts do not join
        return all(_agree(whole[name], parts[name]) for name in plan.outputs)


def _check_layers(interpreter: Any, arrays: Sequence[np.ndarray]) -> None:
    """Refuses inputs that leave a layer less than nothing, as a filter does on a smaller image.

    TFLite would run it, and write where it must not.
    """
    for tensor in interpreter.get_tensor_details():
        shape = tuple(tensor["shape"].tolist())
        if any(size < 0 for size in shape):
            raise invalid_argument(
                f"Inputs of shape {_shapes_text(arrays)} are too small for the model: tensor "
                f"{tensor['name']} would be of shape {shape_text(shape)}"
            )


def _invoke(interpreter: Any, plan: _Plan, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """One call of the model; the results are copies."""
    for one, array in zip(plan.inputs, arrays, strict=True):
        interpreter.set_tensor(one.index, array)
    try:
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise RequestError(
            Code.INTERNAL, f"Failed to invoke TfLite interpreter: {error}"
        ) from error
    return {name: interpreter.get_tensor(index) for name, index in plan.outputs.items()}


def _fit_at_a_glance(plan: _Plan, arrays: Sequence[np.ndarray]) -> bool:
    """Whether types and shapes are the usual ones; if not, they may still be right."""
    for one, array in zip(plan.inputs, arrays, strict=True):
        shape = array.shape
        if array.dtype is not one.dtype or shape[1:] != one.row_shape or not shape:
            return False
    return True


def _check_shapes(plan: _Plan, arrays: Sequence[np.ndarray]) -> None:
    """Refuses shapes other than the model's: some operators end the process on them."""
    for position, (one, array) in enumerate(zip(plan.inputs, arrays, strict=True)):
        shape, wanted = array.shape, one.shape
        if wanted is None or (
            len(shape) == len(wanted)
            and all(size == want or want == -1 for size, want in zip(shape, wanted, strict=True))
        ):
            continue
        raise invalid_argument(
            f"Expects arg[{position}] ({one.name}) to be of shape {shape_text(wanted)} but "
            f"{shape_text(shape)} is provided"
        )


def _same_length(arrays: Sequence[np.ndarray]) -> bool:
    """Whether all have as many rows."""
    return len(arrays) == 1 or len({len(array) for array in arrays}) == 1


def _parts(rows: int) -> list[tuple[int, int]]:
    """Start and end of the parts of a batch, the largest first.

    >>> _parts(37)
    [(0, 32), (32, 36), (36, 37)]
    """
    parts, start = [], 0
    for size in _PART_SIZES:
        while rows - start >= size:
            parts.append((start, start + size))
            start += size
    return parts


def _row_shape(shape: Shape | None) -> Shape | None:
    """The shape of a row, if the first dimension is the only one of any size."""
    return shape[1:] if shape and shape[0] == -1 and -1 not in shape[1:] else None


def _trial_values(generator: np.random.Generator, one: _Input) -> np.ndarray:
    """Rows that differ, of values that nearly every model accepts: 0 and 1, or between them."""
    assert one.row_shape is not None
    shape = (_TRIAL_ROWS, *one.row_shape)
    if one.dtype is not None and one.dtype.kind in "fc":
        return generator.random(shape, np.float32).astype(one.dtype)
    bits = generator.integers(0, 2, shape)
    if one.dtype == np.object_:
        return bits.astype("S1").astype(object)
    return bits.astype(one.dtype)


def _agree(whole: np.ndarray, parts: np.ndarray) -> bool:
    """Whether two results are the same, but for the rounding of sums added up in another order."""
    if whole.shape != parts.shape:
        return False
    if whole.dtype.kind not in "fc":
        return bool(np.array_equal(whole, parts))
    scale = np.max(np.abs(whole), initial=0.0)
    return bool(np.allclose(whole, parts, rtol=0, atol=_ROUNDING * scale, equal_nan=True))


def _shapes_text(arrays: Sequence[np.ndarray]) -> str:
    """The shapes of all inputs."""
    return ", ".join(shape_text(array.shape) for array in arrays)
