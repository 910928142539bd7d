"""Noise that is correlated over rounds (DP-FTRL): what one round adds, later ones take away.

Independent noise adds up in the weights, which are a sum over rounds. Noise that is drawn so that
its own sums stay small leaves them nearer to where they would be, and it asks for no sampling of
clients: all that is assumed is that a client comes back no sooner than `rounds_between` rounds
later. Two mechanisms are here, both as rows of a recurrence over a few kept noises (see Row):

- TreeNoise: tree aggregation that restarts every epoch (Kairouz, McMahan, Song, Thakkar,
  Thakurta, Xu, 2021, "Practical and Private (Deep) Learning without Sampling or Shuffling"), with
  the estimator of Honaker, 2015, "Efficient Use of Differentially Private Binary Trees".
- BandedNoise: a banded matrix factorization (Choquette-Choo, Ganesh, McKenna, McMahan, Rush,
  Thakurta, Xu, 2023, "(Amplified) Banded Matrix Factorization"), with the coefficients of
  Kalinin, Lampert, 2024, "Banded Square Root Matrix Factorization for Differentially Private
  Model Training".

The guarantee. Let x hold the sums of the rounds (one row each), A be the matrix of ones on and
below the diagonal, so that A x are the sums of the first rounds, and A = B C. Then A x + B z =
B (C x + z) is computed from C x + z: one Gaussian mechanism, whose sensitivity to a client is the
largest norm of C (x - x') over neighbouring x and x', which differ in the client's contributions,
zeroed out in one of them. Both mechanisms are causal: noise and sum of a round are made of what
came until then. That later updates depend on earlier releases costs nothing (Denisov, McMahan,
Rush, Smith, Thakurta, 2022, "Improved Differential Privacy for SGD via Optimal Private Linear
Operators on Adaptive Streams", theorem 2.1, for lower-triangular A and Gaussian z; of the tree
already Kairouz et al.).
"""

import dataclasses
import functools
import math
from typing import NamedTuple, Protocol

import numpy as np

from privet.components.shared.errors import ConfigError


class Row(NamedTuple):
    """How the noise of a round is made of fresh noise z and of kept noises.

        added = scale * z + added_weights @ kept
        kept[slot] = scale * z + kept_weights @ kept

    z is standard normal, times noise multiplier and clip norm; `added` goes into the round's sum;
    `kept`, [slots, ...], is zero before the first round, and both lines read what earlier rounds
    kept.

    Attributes:
      scale: of the fresh noise.
      added: float64 [slots], the weights of the noise that is added.
      kept: float64 [slots], the weights of the noise that is kept for later rounds.
      slot: where it is kept, or -1: nowhere.
    """

    scale: float
    added: np.ndarray
    kept: np.ndarray
    slot: int


class CorrelatedNoise(Protocol):
    """Says how the noise of each round is made, and what all rounds tell of a client."""

    @property
    def slots(self) -> int:
        """How many kept noises there are, each of the size of the model."""

    def row(self, step: int) -> Row:
        """Of the round `step`, counted from 0 since the noise began."""

    def sensitivity(self, rounds: int) -> float:
        """L2 sensitivity of so many rounds to a client, in units of the clip norm.

        The client takes part in the rounds i, i + rounds_between, i + 2 rounds_between and so on,
        for whichever i tells most. All rounds together are one Gaussian mechanism of noise
        multiplier noise_multiplier / sensitivity(rounds).
        """


@dataclasses.dataclass(frozen=True)
class TreeNoise:
    """Tree aggregation: each node of a binary tree over rounds has a noise of its own.

    The sum of the first rounds is put together from few nodes, as many as its number has binary
    ones. A tree runs for rounds_between rounds, so that a client is in it once, and what its last
    sum has for noise stays while the next tree begins.

    Honaker's estimate of the sum over a node weighs the node itself and the estimates of its two
    halves by their precision, the inverse of the variance: 1 for the node and half that of one
    half for both. Of a node of 2**level rounds it is

        precision(level) = 1 + precision(level - 1) / 2 = 2 - 2**-level

    The noise of a node is drawn when its last round is done, and read in no other way than as part
    of the largest node that ends there. Independent Gaussian noises that only ever show as one
    sum are one Gaussian noise, so a single draw a round is enough. What is kept are the estimates
    of the nodes that are left halves. (tensorflow_privacy's EfficientTreeAggregator, which draws
    each node, has the same covariances.)

    Attributes:
      rounds_between: from one participation of a client to its next: the rounds of a tree.

    >>> round(TreeNoise(rounds_between=4).sensitivity(8) ** 2, 9)  # two trees: leaf, pair and root
    6.0
    """

    rounds_between: int

    def __post_init__(self) -> None:
        _check_rounds_between(self.rounds_between)

    @property
    def slots(self) -> int:
        """One for each level but that of the largest node, which no other node has as a half."""
        return self.rounds_between.bit_length() - 1

    def row(self, step: int) -> Row:
        """Of the round `step`, counted from 0 since the noise began."""
        done = step % self.rounds_between + 1  # rounds of this tree, with this one
        level = (done & -done).bit_length() - 1  # of the largest node that it completes
        levels = np.arange(level + 1)
        shares = 0.5 ** (level - levels)  # of the nodes that end here, until divided by precision
        precision = 2 - 0.5**levels
        kept = np.zeros(self.slots)
        kept[:level] = (shares * precision / precision[level])[:level]
        added = kept.copy()
        added[:level] -= 1  # the halves leave the sum that the whole takes over
        scale = float(np.linalg.norm(shares) / precision[level])
        return Row(scale, added, kept, level if level < self.slots else -1)

    def sensitivity(self, rounds: int) -> float:
        """L2 sensitivity of so many rounds to a client: the root of the number of its nodes.

        A client at one place of each tree is in one complete node of each level; the first place
        is in most of them: in all levels that a tree of so many rounds has reached. It is that of
        the nodes' noisy sums, as published (Kairouz et al., 2021, appendix D; what is released is
        computed from them and tells less), and holds for any place in each tree, provided that a
        client is in each tree at most once.
        """
        trees, last = divmod(rounds, self.rounds_between)
        return math.sqrt(trees * self.rounds_between.bit_length() + last.bit_length())


@dataclasses.dataclass(frozen=True)
class BandedNoise:
    """Banded square root factorization: the last rounds' noises are partly taken back.

    C is lower-triangular and constant along its diagonals, of which the first `bands` are not
    zero. They are the square root of the matrix that maps updates to weights, the sums of the
    first rounds under the momentum of the server's optimizer, cut to so many bands: the
    coefficients of x**0, x**1 ... in ((1 - x) (1 - momentum x))**-1/2, which are

        sum over i <= j of a(j - i) a(i) momentum**i,    a(k) = binomial(2k, k) / 4**k

    (Kalinin, Lampert, 2024, section 3.1 and theorem 1, without weight decay; with no momentum and
    all bands those of Fichtenberger, Henzinger, Upadhyay, 2023, "Constant Matters"), divided by
    their norm: a single participation then has a sensitivity of 1, as with independent noise,
    which one band is. The noise of the rounds is C**-1 z, row by row

        y(t) = (z(t) - c(1) y(t - 1) - ... - c(bands - 1) y(t - bands + 1)) / c(0)

    The coefficients fall, so that by the theorem of Eneström and Kakeya this dies away: rounding
    errors do not grow.

    Attributes:
      rounds_between: from one participation of a client to its next, at least.
      bands: at most rounds_between; bands - 1 noises of the size of the model are kept.
      momentum: of the server's optimizer; 0 if it has none.

    >>> round(BandedNoise(rounds_between=10, bands=4).sensitivity(25) ** 2, 9)  # participations
    3.0
    """

    rounds_between: int
    bands: int
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check_rounds_between(self.rounds_between)
        if not 1 <= self.bands <= self.rounds_between:
            raise ConfigError(
                f"bands={self.bands} must lie between 1 and rounds_between={self.rounds_between}: "
                "the noise of a client's participation is spread over `bands` rounds, and the "
                "client must not be back by then. Lower bands, or let clients come back later."
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"momentum={self.momentum} must be >= 0 and < 1. Give that of the server's "
                "optimizer, or 0 if it has none."
            )

    @property
    def slots(self) -> int:
        """The noises of the last rounds that a round takes back from."""
        return self.bands - 1

    def row(self, step: int) -> Row:
        """Of the round `step`, counted from 0 since the noise began."""
        coefficients = _coefficients(self.bands, self.momentum)
        weights = np.zeros(self.slots)
        if not self.slots:
            return Row(1.0, weights, weights, -1)
        rounds_ago = np.arange(1, self.bands)
        weights[(step - rounds_ago) % self.slots] = -coefficients[1:] / coefficients[0]
        return Row(float(1 / coefficients[0]), weights, weights, step % self.slots)

    def sensitivity(self, rounds: int) -> float:
        """L2 sensitivity of so many rounds to a client.

        The columns of C that belong to its participations overlap in no row, as there are at most
        rounds_between bands: their squared norms add up, whatever the directions of its updates
        (Choquette-Choo et al., 2023). A column that the last round cuts is shorter, so
        a client that begins in the first round has most. Of clients that come back later, or take
        part less often, no more is told.
        """
        squared_norms = np.cumsum(_coefficients(self.bands, self.momentum) ** 2)
        left = rounds - np.arange(0, rounds, self.rounds_between)  # rounds, from a participation on
        return math.sqrt(squared_norms[np.minimum(left, self.bands) - 1].sum())


def noise_matrix(noise: CorrelatedNoise, rounds: int) -> np.ndarray:
    """What each fresh noise brings into each round: C**-1 of the banded noise.

    Args:
      noise: of which mechanism.
      rounds: how many; up to some thousand.

    Returns:
      float64 [rounds, rounds], lower-triangular: a row for each round, a column for each fresh
      noise.
    """
    added, kept = np.zeros((rounds, rounds)), np.zeros((noise.slots, rounds))
    for step in range(rounds):
        row = noise.row(step)
        fresh = np.zeros(rounds)
        fresh[step] = row.scale
        added[step] = fresh + row.added @ kept
        if row.slot >= 0:
            kept[row.slot] = fresh + row.kept @ kept
    return added


def errors(noise: CorrelatedNoise, rounds: int) -> np.ndarray:
    """Standard deviation of the noise in the sum of the first 1, 2 ... rounds.

    Times noise.sensitivity(rounds) it compares mechanisms that tell the same of a client.

    Args:
      noise: of which mechanism.
      rounds: how many; up to some thousand.

    Returns:
      float64 [rounds], in units of noise multiplier and clip norm.

    >>> (errors(TreeNoise(rounds_between=4), 4) ** 2).round(3).tolist()  # 1, 2/3, 2/3 + 1, 4/7
    [1.0, 0.667, 1.667, 0.571]
    """
    return np.linalg.norm(np.cumsum(noise_matrix(noise, rounds), axis=0), axis=1)


@functools.lru_cache(8)
def _coefficients(bands: int, momentum: float) -> np.ndarray:
    """The first column of C, float64 [bands], of norm 1; see BandedNoise."""
    index = np.arange(1, bands)
    root = np.cumprod(np.append(1.0, (2 * index - 1) / (2 * index)))  # of (1 - x)**-1/2
    column = np.convolve(root, root * momentum ** np.arange(bands))[:bands]
    column /= np.linalg.norm(column)
    column.flags.writeable = False  # the cache hands it to all
    return column


def _check_rounds_between(rounds_between: int) -> None:
    """Refuses a client that comes back at once."""
    if rounds_between < 1:
        raise ConfigError(
            f"rounds_between={rounds_between} must be >= 1: the rounds from one participation of a "
            "client to its next. 1 is a client in every round."
        )
