"""Noise that is correlated over rounds (placeholder interface while it is being built)."""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np


class Row(NamedTuple):
    scale: float
    added: np.ndarray
    kept: np.ndarray
    slot: int


class CorrelatedNoise(Protocol):
    @property
    def slots(self) -> int: ...

    def row(self, step: int) -> Row: ...

    def sensitivity(self, rounds: int) -> float: ...


@dataclasses.dataclass(frozen=True)
class TreeNoise:
    rounds_between: int


@dataclasses.dataclass(frozen=True)
class BandedNoise:
    rounds_between: int
    bands: int
    momentum: float = 0.0
