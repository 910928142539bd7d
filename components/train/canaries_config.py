"""Settings of canaries: synthetic clients that are put into training to audit it."""

import math

from privet.components.shared.configuration import Config, check

MOST_CANARIES = 2000
"""A canary takes 64 KiB of memory; and more of them, all included, would be felt as noise."""


class CanariesConfig(Config, frozen=True):
    """Synthetic clients, half of which take part; see canaries.py.

    Attributes:
      count: how many there are, included or not.
      norm: L2 norm of their updates in a run without privacy, by default 1. With privacy it is the
        clip norm.
    """

    count: int = 200
    norm: float | None = None

    def __post_init__(self) -> None:
        check(
            1 <= self.count <= MOST_CANARIES,
            f"count={self.count} must lie between 1 and {MOST_CANARIES} (typical: 200, of which "
            "about 100 are included; fewer certify less)",
        )
        check(
            self.norm is None or 0 < self.norm < math.inf,
            f"norm={self.norm} must be > 0 and finite",
        )

    @property
    def norm_in_use(self) -> float:
        """The L2 norm of updates where none are clipped."""
        return 1.0 if self.norm is None else self.norm
