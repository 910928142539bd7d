"""Settings of aggregates that a few arbitrary updates cannot move far."""

import math
from typing import Literal

from privet.components.shared.configuration import Config, check


class RobustConfig(Config, frozen=True):
    """An aggregate that a few arbitrary updates cannot move far, in place of the mean.

    Attributes:
      kind: `median` or `trimmed_mean`, of each weight by itself (Yin et al., 2018, "Byzantine-
        Robust Distributed Learning"), or `norm_filter`: the mean of the updates that are not far
        longer than the median one.
      trim: fraction of the clients that trimmed_mean leaves out at either end.
      largest_norm: norm above which norm_filter leaves an update out, in units of the cohort's
        median norm.
    """

    kind: Literal["median", "trimmed_mean", "norm_filter"]
    trim: float | None = None
    largest_norm: float | None = None

    def __post_init__(self) -> None:
        for name, kind in (("trim", "trimmed_mean"), ("largest_norm", "norm_filter")):
            given = getattr(self, name) is not None
            check(given == (self.kind == kind), f"{name} is for kind={kind}, which needs it")
        check(
            self.trim is None or 0 < self.trim < 0.5,
            f"trim={self.trim} must lie between 0 and 0.5",
        )
        check(
            self.largest_norm is None or 1 < self.largest_norm < math.inf,
            f"largest_norm={self.largest_norm} must be > 1 (typical: 3)",
        )
