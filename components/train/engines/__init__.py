"""Engines: who calls the round. Each trains the same algorithm and is held to the same tests."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import dp_accounting
import numpy as np

from privet.components.shared.storage import ClientData
from privet.components.train.config import TrainConfig


class Engine(Protocol):
    """Runs rounds of federated averaging over an opaque server state."""

    def initialize(self) -> Any:
        """The server state before the first round."""

    def next(self, state: Any, cohort: Sequence[ClientData], round_number: int) -> Any:
        """The server state after a round of the cohort, which may be empty."""

    def weights(self, state: Any) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""

    def event(self, state: Any) -> dp_accounting.DpEvent:
        """The mechanism that the aggregator of this state applies to a cohort."""

    def close(self) -> None:
        """Ends the processes that the engine started."""


def build_engine(config: TrainConfig, **parts: Any) -> Engine:
    """The engine that the configuration names.

    Args:
      config: settings.
      **parts: what every engine needs; see the engine's own class.
    """
    from privet.components.train.engines.tff_runtime import TffEngine

    engines: dict[str, Callable[..., Engine]] = {"tff": TffEngine}
    return engines[config.engine](config, **parts)
