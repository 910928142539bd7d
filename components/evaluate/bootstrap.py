"""Confidence intervals by the Poisson bootstrap over clients.

Each replicate counts each client a Poisson(1) number of times (Chamandy, Muralidharan, Najmi and
Naidu, 2012, "Estimating Uncertainty for Massive Data Streams"). How often depends on the seed and
the client alone, so any division of the clients among workers gives the same replicates, and all
that is kept of them are sums.
"""

import math
from collections.abc import Sequence

import numpy as np

from privet.components.shared.storage import stable_hashes

CONFIDENCE = 0.95

_STEP = np.uint64(0x9E37_79B9_7F4A_7C15)
_FIRST, _SECOND = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)
_CUMULATIVE = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])


def client_weights(client_ids: Sequence[str], replicates: int, seed: int) -> np.ndarray:
    """How often each client counts.

    Args:
      client_ids: of the clients.
      replicates: of the bootstrap.
      seed: of the replicates.

    Returns:
      float64 [1 + replicates, clients]; the first row is all ones, the sample itself.
    """
    hashes = stable_hashes("bootstrap", seed, each=[one.encode() for one in client_ids])
    steps = np.arange(1, replicates + 1, dtype=np.uint64)[:, None] * _STEP
    uniform = (_mixed(hashes + steps) >> np.uint64(11)) * 2.0**-53
    counts = np.searchsorted(_CUMULATIVE, uniform.ravel(), side="right").reshape(uniform.shape)
    return np.concatenate([np.ones((1, len(client_ids))), counts])


def interval(replicates: np.ndarray, clients: int) -> list[float] | None:
    """The percentile interval of a figure.

    Args:
      replicates: [1 + replicates], the figure itself first; NaN where it is not defined.
      clients: that it is of.

    Returns:
      Low and high end; None without replicates, for one client alone, of whom all replicates are
      the same, and for a figure that most replicates do not have.
    """
    figures = replicates[1:][np.isfinite(replicates[1:])]
    if clients < 2 or 2 * len(figures) < len(replicates) or not len(figures):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return [float(low), float(high)]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea and Flood, 2014, "Fast Splittable
    Pseudorandom Number Generators"): uint64 to uint64."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _SECOND
    return numbers ^ (numbers >> np.uint64(31))
