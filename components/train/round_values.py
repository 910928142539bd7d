"""What a round begins with and adds up: the server's state, and partial sums over clients."""

from typing import NamedTuple

import numpy as np

from privet.components.train.canaries import CanaryState
from privet.components.train.communication import NOTHING_SENT
from privet.components.train.programs import Arrays


class ServerState(NamedTuple):
    """What the server keeps between rounds, as plain arrays.

    Attributes:
      weights: the global model's trainable weights, in Keras' order.
      optimizer: the server optimizer's state.
      query: the DPQuery's global state: clip norm, noise.
      algorithm: of mime_lite the clients' optimizer state, of scaffold the mean control variate.
      noise: what is kept of the noise of earlier rounds, for noise that is correlated. It never
        leaves the server: with it one could take noise away.
      noise_rounds: since that noise began.
      rounds: that led here, of which the learning rates are a function.
      visited: where clients keep something, int32 [population]: the round in which each of them
        last wrote it, 0 for none.
      masks: where training prunes, of each of the weights: False for those that stay 0.
      sent: where the bytes of messages are measured, all that led here.
      canaries: where there are any, what is kept of them. It never leaves the server.
    """

    weights: Arrays
    optimizer: Arrays
    query: Arrays
    algorithm: Arrays
    noise: Arrays = ()
    noise_rounds: int = 0
    rounds: int = 0
    visited: np.ndarray | None = None
    masks: Arrays = ()
    sent: np.ndarray | None = None
    canaries: CanaryState | tuple[()] = ()

    @property
    def arrays(self) -> Arrays:
        """What the update changes."""
        return (*self.weights, *self.optimizer, *self.query, *self.algorithm, *self.noise)


class Partial(NamedTuple):
    """What some clients of a round add up to.

    Attributes:
      total: the leaves of a client_update.Total.
      rows: float32 [clients, weights], what has to be known of each client; else [clients, 0].
      sent: what the clients have sent, where it is measured.
    """

    total: Arrays
    rows: np.ndarray
    sent: np.ndarray = NOTHING_SENT

    def discounted(self, factor: float) -> "Partial":
        """The same updates at so much of their size."""
        *updates, weight = self.total
        updates = [np.asarray(factor * part, part.dtype) for part in updates]
        return Partial((*updates, weight), self.rows, self.sent)


NOBODY = Partial((), np.zeros((0, 0), np.float32))
"""What no client adds up to, in whatever form."""


def merge(one: Partial, other: Partial) -> Partial:
    """Partial sums added up: what DPQuery.merge_sample_states does for sums."""
    if not (one.total and other.total):
        return one if one.total else other
    total = tuple(a + b for a, b in zip(one.total, other.total, strict=True))
    rows = [part.rows for part in (one, other) if part.rows.size]
    together = np.concatenate(rows) if len(rows) > 1 else (rows or [one.rows])[0]
    return Partial(total, together, one.sent + other.sent)
