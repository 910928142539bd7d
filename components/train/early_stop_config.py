"""Settings of when to end training early."""

import math
from typing import Literal

from privet.components.shared.configuration import Config, check


class EarlyStopConfig(Config, frozen=True):
    """Ends training when the global model no longer improves on the eval clients.

    Attributes:
      metric: accuracy (higher is better), loss or mae (lower is better).
      patience: evaluations without an improvement after which training ends.
      min_improvement: what a value must be better by than the best before it to count as one.
    """

    metric: Literal["accuracy", "loss", "mae"]
    patience: int = 5
    min_improvement: float = 0.0

    def __post_init__(self) -> None:
        check(self.patience >= 1, f"patience={self.patience} must be >= 1")
        check(
            0 <= self.min_improvement < math.inf,
            f"min_improvement={self.min_improvement} must be >= 0 and finite",
        )
