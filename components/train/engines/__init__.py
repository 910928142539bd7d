"""Engines: who calls the round. Each trains the same algorithm and is held to the same tests."""

from collections.abc import Callable
from typing import Any, Protocol

import dp_accounting
import numpy as np

from privet.components.train.config import AUTO_BEAM_COHORT, TrainConfig


class Engine(Protocol):
    """Runs rounds of federated averaging over an opaque server state."""

    def initialize(self) -> Any:
        """The server state before the first round."""

    def read(self, cohort: np.ndarray, round_number: int) -> Any:
        """Begins to read a cohort (positions in the store), while another one may train.

        Returns:
          What `next` wants.
        """

    def next(self, state: Any, cohort: Any) -> tuple[Any, dp_accounting.DpEvent]:
        """A round of the cohort, which may be empty.

        Returns:
          The server state after it, and the mechanism that was applied to the cohort.
        """

    def weights(self, state: Any) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""

    def save(self, state: Any) -> bytes:
        """The state as bytes, for a checkpoint."""

    def restore(self, content: bytes) -> Any:
        """The state that `save` was given, to the bit; possibly in another process.

        Raises:
          StoreError: it is the state of another model or algorithm.
        """

    def close(self) -> None:
        """Ends the processes that the engine started."""


def build_engine(
    config: TrainConfig,
    *,
    make_pipeline: Callable[[], Any] | None = None,
    folder: str = "",
    expected_cohort: float = 0,
    **parts: Any,
) -> Engine:
    """The engine that the configuration names.

    Args:
      config: settings.
      make_pipeline: a new Beam pipeline, for the `beam` engine.
      folder: where Beam's workers and this process exchange files.
      expected_cohort: mean size of a cohort, by which `auto` goes.
      **parts: what every engine needs; see the engine's own class.
    """
    from privet.components.train.engines.beam import BeamEngine
    from privet.components.train.engines.compiled import CompiledEngine
    from privet.components.train.engines.tff_runtime import TffEngine

    name = config.engine
    if name == "auto":
        name = "beam" if expected_cohort > AUTO_BEAM_COHORT else "compiled"
    if name == "beam":
        assert make_pipeline is not None
        return BeamEngine(config, make_pipeline=make_pipeline, folder=folder, **parts)
    engines: dict[str, Callable[..., Engine]] = {"compiled": CompiledEngine, "tff": TffEngine}
    return engines[name](config, **parts)
