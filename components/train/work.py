"""The work of a block by the faster of its two programs, with or without XLA."""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from privet.components.shared.errors import ModelError
from privet.components.train.blocks import Block
from privet.components.train.communication import measured
from privet.components.train.programs import Arrays, Program
from privet.components.train.round import Programs
from privet.components.train.round_values import NOBODY, Partial

Work = Callable[[Arrays, Block], Partial]
"""(prepared, block) -> partial sum."""

_LOG = logging.getLogger(__name__)

_PROBE_BATCHES = 64
_SLOW_BATCH = 0.01  # seconds; a slower model is tried on a single batch


def load_work(programs: Programs, *, xla: bool) -> Work:
    """The work of a block, ready to be called; loaded once in a process."""
    program = programs.work_xla if xla else programs.work
    assert program is not None  # choose_xla sees to it
    call = _loaded(program)
    config, shapes = programs.config, [part.shape for part in programs.initial.weights]

    def work(prepared: Arrays, block: Block) -> Partial:
        fed = block.padded(rows=programs.row_bytes > 0) if xla else block
        *total, rows = call((*prepared, *fed.arrays(), *programs.noise_seeds(block)))
        rows = rows[: block.clients]
        if config.update_code is None:
            return Partial(tuple(total), rows)
        return Partial(tuple(total), NOBODY.rows, measured(config, shapes, rows, block.seeds))

    return work


def choose_xla(
    setting: Literal["auto", "on", "off"], programs: Programs, prepared: Arrays, block: Block
) -> bool:
    """Whether XLA is to compile the work.

    `auto` times both on the first clients of a block, after a first call each. On CPUs XLA is
    several times faster than TensorFlow on small dense models and up to 30 times slower on
    convolutions; which of them it is depends on the model and the machine.

    Raises:
      ModelError: `on`, and XLA cannot compile the model, or would train it differently.
    """
    if setting == "off" or programs.work_xla is None:
        return False
    plain, compiled = (load_work(programs, xla=xla) for xla in (False, True))
    sample = block.head(1)
    plain(prepared, sample)
    if _seconds(plain, prepared, sample) < _SLOW_BATCH:
        sample = block.head(_PROBE_BATCHES)
    problem = _problem(programs, plain, compiled, prepared, sample)
    if problem and setting == "on":
        raise ModelError(f"train.xla=on, but {problem}. Set train.xla: auto or off.")
    if problem:
        _LOG.info("without XLA: %s", problem)
        return False
    if setting == "on":
        return True
    faster = _seconds(compiled, prepared, sample) < _seconds(plain, prepared, sample)
    # No numbers: those of batches and seconds tell how many clients came, which may be a secret.
    _LOG.info("with XLA: it is faster" if faster else "without XLA: it is slower")
    return faster


def _problem(
    programs: Programs, plain: Work, compiled: Work, prepared: Arrays, block: Block
) -> str | None:
    """Why XLA's program cannot stand in for the other one, if so.

    It is tried on batches that are half full, and so padded.
    """
    half = dataclasses.replace(block, sizes=np.maximum(1, block.sizes // 2))
    try:
        got = compiled(prepared, half)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if programs.config.privacy.mechanism == "none":  # it may tell shapes: how many clients came
            _LOG.info("XLA: %s", error.message)
        return "XLA cannot compile the model (Dropout and other random layers are known to fail)"
    wanted = plain(prepared, half)
    *updates, _ = (np.abs(part).max(initial=0) for part in wanted.total)  # the last: the weight
    rounding = 1e-5 * max(updates)
    # Where updates are rounded at random, the least difference can lead to the next level, which a
    # rotation spreads over all values of a tensor.
    enough = 1.0 if programs.config.update_bits is None else 0.99
    far = 1e-3 if programs.config.update_rotation is None else 1e-2
    for a, b in zip(wanted.total, got.total, strict=True):
        near = np.isclose(a, b, rtol=1e-3, atol=rounding + far * np.abs(a).max(initial=0))
        if a.size and near.mean() < enough:
            return (
                "the model's output for an example depends on the other examples of the batch, "
                "which XLA's program pads"
            )
    return None


def _seconds(work: Work, prepared: Arrays, block: Block) -> float:
    """The least of three calls (one, where it is slow)."""
    least = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        work(prepared, block)
        least = min(least, time.perf_counter() - started)
        if least > 1.0:
            break
    return least


@functools.lru_cache(8)
def _loaded(program: Program) -> Callable[[Arrays], Arrays]:
    return program.load()
