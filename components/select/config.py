"""Settings of the choice among variants, and of the card that goes with the one chosen."""

import math
from typing import Literal

from privet.components.shared.configuration import Config, check


class SelectConfig(Config, frozen=True):
    """Which variant is served.

    Attributes:
      by: `smallest` (gzipped TFLite file) or `fastest` (median time of one example), of those that
        are good enough and that both serving engines can answer with.
      within: by how much the primary metric on the held-out clients may be worse than the trained
        model's: 0.005 of an accuracy is half a point. In the metric's own unit for regression.
      variant: the name of the one to serve, whatever its size and metric; the gate still judges it.
    """

    by: Literal["smallest", "fastest"] = "smallest"
    within: float = 0.005
    variant: str | None = None

    def __post_init__(self) -> None:
        check(0 <= self.within < math.inf, f"within={self.within} must be >= 0 and finite")


class CardConfig(Config, frozen=True):
    """What only its makers know of a model; the rest of model_card.md is of the run.

    Attributes:
      intended_use: what the model is for.
      out_of_scope: what it is not for.
      data: where the clients' data come from, and who the clients are.
      limitations: what is known to be wrong or missing.
      license: of the model.
      contact: whom to ask.
    """

    intended_use: str | None = None
    out_of_scope: str | None = None
    data: str | None = None
    limitations: str | None = None
    license: str | None = None
    contact: str | None = None
