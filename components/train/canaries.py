"""Canaries: synthetic clients of pure chance, whose trace in a run shows how much of one it keeps.

Each canary is included in the training by a fair coin, or left out. An included one takes part in
rounds as a client does, with a random direction for an update. How near the noised mean updates
come to it is measured for all of them, included or not. How well the two kinds can be told apart
bounds what anybody could tell about a client, from below:

- Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar, 2024, "One-shot Empirical Privacy Estimation for
  Federated Learning": canaries in one run, the cosine with the final model, and with the updates of
  all rounds, of which the largest counts (their all-iterates attack).
- Steinke, Nasr, Jagielski, 2023, "Privacy Auditing with One (1) Training Run": why the coins are
  independent and fair: a valid lower bound of epsilon rests on them.

The direction. A canary is a vector of random signs on a random support, which all canaries share,
scaled to the norm that updates are clipped to. That is as good as a point of the sphere. Noise is
the same in all directions, so it hides every update of that norm equally well. What clients add
along random signs has a random sign itself, and mean zero. Each other canary in the round adds a
variance of 1 / support, in squared clip norms: 0.012 for 100 on 8,192 coordinates, where noise has
noise_multiplier squared. In exchange a round takes two products of a vector with one matrix of
signs, whatever the size of the model.

What is read. Sums get canaries before there is noise; the scores are made of noised means and of
chance alone. In a private run they are post-processing of what the ledger accounts for.
"""

import itertools
import math
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from privet.components.train.aggregation import clipped_value
from privet.components.train.canaries_config import CanariesConfig
from privet.components.train.programs import Arrays
from privet.components.train.sampling import Draws

MOST_COORDINATES = 8_192
"""Of a canary's support."""

_SEED_BYTES = 32


class CanaryState(NamedTuple):
    """What is kept of canaries between rounds, as plain arrays. A secret until training has ended.

    Attributes:
      seed: uint8 [32], from the operating system: of directions, and of who is in which round.
      included: bool [canaries], a fair coin of the operating system each.
      all_iterates: float64 [canaries], the largest cosine with the mean update of a round so far;
        -1 before the first.
      seconds: spent on them so far.
    """

    seed: np.ndarray
    included: np.ndarray
    all_iterates: np.ndarray
    seconds: np.ndarray

    def spent(self, seconds: float) -> "CanaryState":
        """The same with so many seconds more."""
        return self._replace(seconds=np.asarray(self.seconds + seconds))


class CanaryScores(NamedTuple):
    """What training tells of canaries.

    Attributes:
      included: bool [canaries].
      all_iterates: float64 [canaries], the largest cosine with the mean update of a round.
      final: float64 [canaries], the cosine with what all rounds together have moved the weights by.
      seconds: spent on them.
    """

    included: np.ndarray
    all_iterates: np.ndarray
    final: np.ndarray
    seconds: float


class _Drawn(NamedTuple):
    """The canaries of a seed.

    Attributes:
      support: of each tensor, the places in it, int64.
      signs: float32 [canaries, support], 1 or -1.
      turns: int64 [canaries]; where clients come in groups, the group of each.
    """

    support: list[np.ndarray]
    signs: np.ndarray
    turns: np.ndarray


class Canaries:
    """The canaries of a run: pure functions of a CanaryState, and a matrix that is kept for them.

    Args:
      config: how many, and their norm without privacy.
      draws: how cohorts are drawn. Canaries are in a round with the probability that clients are
        (fixed_size: by a coin each, since nothing is claimed of that draw), or in a group. They
        neither drop out nor count towards max_cohort_size.
      shapes: of the tensors of an update.
    """

    def __init__(self, config: CanariesConfig, draws: Draws, shapes: Sequence[tuple[int, ...]]):
        self._config, self._draws = config, draws
        self._sizes = [int(np.prod(shape)) for shape in shapes]
        self._last: tuple[bytes, _Drawn] | None = None

    def initial(self) -> CanaryState:
        """New canaries, of the operating system's chance."""
        count = self._config.count
        bits = np.frombuffer(secrets.token_bytes(-(-count // 8)), np.uint8)
        return CanaryState(
            seed=np.frombuffer(secrets.token_bytes(_SEED_BYTES), np.uint8),
            included=np.unpackbits(bits)[:count].astype(bool),
            all_iterates=np.full(count, -1.0),
            seconds=np.zeros(()),
        )

    def present(self, state: CanaryState, round_number: int) -> np.ndarray:
        """Who takes part in a round, from 1: bool [canaries]."""
        draws = self._draws
        if draws.kind == "fixed_order":
            return state.included & (
                self._drawn(state).turns == (round_number - 1) % draws.rounds_between
            )
        chances = _generator(state, round_number).random(len(state.included))
        return state.included & (chances < probability(draws))

    def add(
        self,
        state: CanaryState,
        total: Arrays,
        *,
        norm: float | None,
        masks: Arrays,
        round_number: int,
    ) -> Arrays:
        """A round's sum over clients, and the updates of the canaries that take part in it.

        A canary moves the sum as a client whose update points its way and is clipped: what is
        pruned is left out, and the rest has the whole norm. What adaptive clipping counts stays as
        it is, so that canaries have no say in the clip norm, and so does the weight of a plain
        mean.

        Args:
          state: of the canaries.
          total: the leaves of a client_update.Total, of which the first are of the update's shapes.
          norm: that clients' updates are clipped to in the round; None for the configured one.
          masks: of the update, where training prunes; else ().
          round_number: from 1.
        """
        drawn = self._drawn(state)
        kept = self._kept(drawn, masks)
        if not kept.any():
            return total
        signs = self.present(state, round_number).astype(np.float32) @ drawn.signs
        signs *= kept
        value = clipped_value(
            self._config.norm_in_use if norm is None else norm,
            np.count_nonzero(kept),
            total[0].dtype,
        )
        added = signs.astype(total[0].dtype) * value  # sums of signs are whole numbers
        parts = np.split(added, np.cumsum([len(places) for places in drawn.support])[:-1])
        sums = [
            _with_added(part, places, values)
            for part, places, values in zip(total, drawn.support, parts, strict=False)
        ]
        return (*sums, *total[len(sums) :])

    def observe(self, state: CanaryState, mean: Arrays, masks: Arrays) -> CanaryState:
        """The state after a round.

        Args:
          state: before it.
          mean: update of the round, noised in a private run. Of it and not of the change of the
            weights, in which a server's optimizer mixes the updates of earlier rounds.
          masks: as in `add`.
        """
        cosines = self._cosines(state, mean, masks)
        return state._replace(all_iterates=np.maximum(state.all_iterates, cosines))

    def scores(self, state: CanaryState, fall: Sequence[np.ndarray], masks: Arrays) -> CanaryScores:
        """What a run tells of its canaries.

        Args:
          state: after the last round.
          fall: initial weights less final ones, which is the way that updates point: clients send
            by how much their weights fall.
          masks: of the final weights.
        """
        final = self._cosines(state, fall, masks)
        return CanaryScores(state.included, state.all_iterates, final, float(state.seconds))

    def _cosines(self, state: CanaryState, update: Sequence[np.ndarray], masks: Arrays) -> Any:
        """Of an update with each canary; 0 of an update that is zero or not finite."""
        drawn = self._drawn(state)
        kept = self._kept(drawn, masks)
        norm = np.sqrt(sum(float(np.vdot(part, part)) for part in update))
        if not (0 < norm < np.inf and kept.any()):
            return np.zeros(len(state.included))
        there = np.concatenate(
            [part.reshape(-1)[places] for part, places in zip(update, drawn.support, strict=True)]
        )
        along = drawn.signs @ (there * kept)
        return along.astype(np.float64) / (np.sqrt(np.count_nonzero(kept)) * norm)

    def _kept(self, drawn: _Drawn, masks: Arrays) -> np.ndarray:
        """Which coordinates of the support are not pruned."""
        if not masks:
            return np.ones(drawn.signs.shape[1], bool)
        places = zip(masks, drawn.support, strict=True)
        return np.concatenate([mask.reshape(-1)[there] for mask, there in places])

    def _drawn(self, state: CanaryState) -> _Drawn:
        """The canaries of the state's seed, drawn once."""
        seed = state.seed.tobytes()
        if self._last is None or self._last[0] != seed:
            self._last = seed, self._draw(state)
        return self._last[1]

    def _draw(self, state: CanaryState) -> _Drawn:
        generator, count = _generator(state, 0), len(state.included)
        dimension = sum(self._sizes)
        width = min(dimension, MOST_COORDINATES)
        support = np.sort(generator.choice(dimension, width, replace=False))
        starts = list(itertools.accumulate(self._sizes, initial=0))
        ends = np.searchsorted(support, starts[1:-1])
        places = zip(np.split(support, ends), starts[:-1], strict=True)
        bits = np.frombuffer(generator.bytes(count * -(-width // 8)), np.uint8)
        signs = np.unpackbits(bits.reshape(count, -1), axis=1)[:, :width].astype(np.float32)
        signs *= 2
        signs -= 1
        turns = generator.integers(self._draws.rounds_between, size=count)
        return _Drawn([part - start for part, start in places], signs, turns)


def probability(draws: Draws) -> float:
    """The chance of an included canary to be in a round.

    >>> probability(Draws("poisson", clients=400, expected_cohort=100.0, probability=0.25))
    0.25
    """
    return draws.expected_cohort / draws.clients


def canary_report(
    scores: CanaryScores,
    *,
    private: bool,
    norm: float,
    dimension: int,
    draws: Draws,
    round_seconds: Sequence[float],
) -> dict[str, Any]:
    """The content of canaries.json.

    Args:
      scores: of the run.
      private: as in the ledger.
      norm: of the updates of canaries.
      dimension: number of weights.
      draws: of the cohorts.
      round_seconds: of all rounds.
    """
    return {
        "schema": 1,
        "private": private,
        "count": len(scores.included),
        "norm": norm,
        "dimension": dimension,
        "rounds": len(round_seconds),
        "participation": {"kind": draws.kind, "probability": probability(draws)},
        "included": scores.included.tolist(),
        "all_iterates": scores.all_iterates.tolist(),
        "final": scores.final.tolist(),
        "seconds": round(scores.seconds, 4),
        "seconds_of_rounds": round(math.fsum(round_seconds), 4),
    }


def _with_added(part: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy with values added at places of the flat tensor, each of which comes once."""
    if not len(places):
        return part
    part = part.copy()
    part.reshape(-1)[places] += values
    return part


def _generator(state: CanaryState, stream: int) -> np.random.Generator:
    """Of directions (0), or of a round."""
    return np.random.default_rng([int.from_bytes(state.seed.tobytes(), "little"), stream])
