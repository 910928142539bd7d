"""Noise that clients add themselves, for an aggregator that is not trusted.

The mechanism `local` noises a client's update, `example` the gradients that its steps take. Either
way a vector of a bounded norm gets Gaussian noise before anything is computed of it that leaves the
client (Dwork and Roth, 2014, "The Algorithmic Foundations of Differential Privacy", theorem A.1).
"""

from typing import Any, Literal, NamedTuple

import dp_accounting
import tensorflow as tf
import tensorflow_privacy

from privet.components.train.aggregation import BoundedGaussianSumQuery
from privet.components.train.noise import standard_normal

Kind = Literal["local", "example"]
"""What is noised: a client's update, or the gradients of each of its batches."""

_CLIP = BoundedGaussianSumQuery(l2_norm_clip=1.0, stddev=0.0)  # is told the norm in each call


class NoiseState(NamedTuple):
    """What clients are told, and what the event is read from.

    Attributes:
      clip_norm: L2 norm that an update, or the gradient of an example, is scaled down to.
      stddev: of the noise on every coordinate.
    """

    clip_norm: Any
    stddev: Any


class ClientNoise(NamedTuple):
    """The noise of a block's clients, inside a program.

    Attributes:
      kind: what is noised.
      state: how much.
      seeds: int64 [places, tensors, 2]. A place is a client (local) or a batch (example).
    """

    kind: Kind
    state: NoiseState
    seeds: Any

    def clipped(self, record: Any) -> Any:
        """The record with an L2 norm of at most the clip norm, whatever is in it."""
        return _CLIP.preprocess_record(self.state.clip_norm, record)

    def noised(self, record: Any, place: Any) -> Any:
        """The record with noise on every coordinate, by the seeds of a place."""

        def one(index: int, value: Any) -> Any:
            normal = standard_normal(value.shape, self.seeds[place, index], value.dtype)
            return value + self.state.stddev * normal

        values = [one(*each) for each in enumerate(tf.nest.flatten(record))]
        return tf.nest.pack_sequence_as(record, values)


class ClientNoiseQuery(tensorflow_privacy.SumAggregationDPQuery):
    """Sums of what clients have clipped and noised: the server does neither.

    Clients take clip norm and noise from the global state, and the event is read from it: it is
    that of what they did.

    Attributes:
      kind: what clients noise.
      denominator: what a sum is divided by; of `example` None, for the number of clients, which is
        known to the server and no secret.
    """

    def __init__(
        self, kind: Kind, clip_norm: float, noise_multiplier: float, denominator: float | None
    ):
        self.kind, self.denominator = kind, denominator
        self._state = NoiseState(clip_norm, clip_norm * noise_multiplier)

    def initial_global_state(self) -> NoiseState:
        """Clip norm and noise, float32 both."""
        return NoiseState(*(tf.constant(value, tf.float32) for value in self._state))

    def get_noised_result(self, sample_state: Any, global_state: NoiseState) -> Any:
        """The sum, divided by the denominator if there is one, the state, and the event."""
        event = dp_accounting.GaussianDpEvent(global_state.stddev / global_state.clip_norm)
        divisor = 1.0 if self.denominator is None else self.denominator
        result = tf.nest.map_structure(lambda value: value / divisor, sample_state)
        return result, global_state, event


def build_client_noise(
    kind: Kind, clip_norm: float, noise_multiplier: float, expected_reports: float
) -> ClientNoiseQuery:
    """The query of a mechanism whose noise clients add.

    - local: each client's update is clipped to clip_norm and noised with standard deviation
      clip_norm * noise_multiplier; two updates of a client are up to twice clip_norm apart. The
      server divides their sum by expected_reports.
    - example: see example_gradients.py. The server takes the plain mean of the updates.

    Args:
      kind: what clients noise.
      clip_norm: L2 norm of what is noised, at most.
      noise_multiplier: noise in units of clip_norm.
      expected_reports: mean number of clients that report in a round.
    """
    denominator = expected_reports if kind == "local" else None
    return ClientNoiseQuery(kind, clip_norm, noise_multiplier, denominator)
