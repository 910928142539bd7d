"""Settings of evaluation."""

import math

from privet.components.shared.configuration import Config, check


class PersonalizationConfig(Config, frozen=True):
    """Fine-tuning of the global model on each client, measured before and after.

    Attributes:
      epochs: passes over the examples that a client adapts to.
      batch_size: examples of one step; the last batch of a pass may be smaller.
      learning_rate, momentum: of stochastic gradient descent.
      share: share of a client's examples that it adapts to; the others measure. By default those
        that ingestion has set apart (data.split.personalization) and, where it has not, half.
    """

    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 0.1
    momentum: float = 0.0
    share: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be >= 1")
        check(
            0.0 < self.learning_rate < math.inf,
            f"learning_rate={self.learning_rate} must be > 0 and finite",
        )
        check(0.0 <= self.momentum < 1.0, f"momentum={self.momentum} must lie in [0, 1)")
        check(
            self.share is None or 0.0 < self.share < 1.0,
            f"share={self.share} must lie between 0 and 1: a client needs examples of both kinds",
        )


class EvaluateConfig(Config, frozen=True):
    """Evaluation on held-out clients.

    Attributes:
      personalization: see PersonalizationConfig; none by default.
    """

    personalization: PersonalizationConfig | None = None
