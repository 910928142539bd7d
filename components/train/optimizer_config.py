"""Settings of an optimizer, of a client or of the server."""

import math
from typing import Literal

from privet.components.shared.configuration import Config, check


class ScheduleConfig(Config, frozen=True):
    """How a learning rate changes over the rounds.

    Attributes:
      kind: `constant`; `linear` or `cosine`, which fall such that a round after the last one would
        have `final` of the rate; or `exponential`, which falls by the factor `decay` over every
        `decay_rounds`.
      warmup_rounds: rounds over which the rate rises from 0 to the rate itself, before all that.
      final: fraction of the rate, for linear and cosine.
      decay, decay_rounds: for exponential.
    """

    kind: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    warmup_rounds: int = 0
    final: float = 0.0
    decay: float | None = None
    decay_rounds: int = 1

    def __post_init__(self) -> None:
        check(self.warmup_rounds >= 0, f"warmup_rounds={self.warmup_rounds} must be >= 0")
        check(0 <= self.final <= 1, f"final={self.final} must lie in [0, 1]")
        check(self.decay_rounds >= 1, f"decay_rounds={self.decay_rounds} must be >= 1")
        if self.kind == "exponential":
            check(
                self.decay is not None and 0 < self.decay <= 1,
                f"decay={self.decay} must lie in (0, 1] with kind=exponential",
            )
        else:
            check(
                self.decay is None and self.decay_rounds == 1,
                f"decay={self.decay} and decay_rounds={self.decay_rounds} apply to "
                f"kind=exponential only, not to {self.kind}",
            )
        check(
            self.final == 0 or self.kind in ("linear", "cosine"),
            f"final={self.final} applies to kind=linear and cosine only, not to {self.kind}",
        )


class OptimizerConfig(Config, frozen=True):
    """An optimizer of tff.learning.optimizers, by name.

    Attributes:
      learning_rate: step size.
      name: sgd, adam, adagrad, rmsprop or yogi; by default sgd, or what `algorithm` names.
      momentum: for sgd only.
      adaptivity: what is added to the denominator of an adaptive step (tau of Reddi et al.,
        2021; Keras' epsilon); by default the optimizer's own.
      schedule: of the learning rate, over rounds.
    """

    learning_rate: float
    name: Literal["sgd", "adam", "adagrad", "rmsprop", "yogi"] | None = None
    momentum: float = 0.0
    adaptivity: float | None = None
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        check(
            0 < self.learning_rate < math.inf,
            f"learning_rate={self.learning_rate} must be > 0 and finite",
        )
        check(0.0 <= self.momentum < 1.0, f"momentum={self.momentum} must lie in [0, 1)")
        check(
            self.momentum == 0.0 or self.name in (None, "sgd"),
            f"momentum={self.momentum} applies to sgd only, not to {self.name}",
        )
        check(
            self.adaptivity is None or (self.adaptivity > 0 and self.name != "sgd"),
            f"adaptivity={self.adaptivity} must be > 0, and does not apply to sgd",
        )
