"""Engines: who calls the round. Each trains the same algorithm and is held to the same tests."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import dp_accounting
import numpy as np

from privet.components.train.canaries import CanaryScores
from privet.components.train.config import AUTO_BEAM_COHORT, TrainConfig
from privet.components.train.sampling import Draws


class Late(NamedTuple):
    """Clients that began with the weights of an earlier round.

    Attributes:
      state: the server state of that round.
      cohort: what `Engine.read` gave.
      discount: how much their updates count.
    """

    state: Any
    cohort: Any
    discount: float


class Engine(Protocol):
    """Runs rounds over an opaque server state."""

    def initialize(self) -> Any:
        """The server state before the first round."""

    def read(self, cohort: np.ndarray, round_number: int) -> Any:
        """Begins to read a cohort (positions in the store), while another one may train.

        Returns:
          What `next` wants.
        """

    def next(
        self, state: Any, cohort: Any, late: Sequence[Late] = ()
    ) -> tuple[Any, dp_accounting.DpEvent]:
        """A round of the cohort, which may be empty, and of clients that report late.

        Returns:
          The server state after it, and the mechanism that was applied to the cohort.
        """

    def weights(self, state: Any) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""

    def sent(self, state: Any) -> np.ndarray | None:
        """Messages of clients that led to the state and their bytes, int64 [2], where measured."""

    def canaries(self, state: Any) -> CanaryScores | None:
        """What the rounds that led to the state tell of its canaries, if there are any."""

    def save(self, state: Any) -> bytes:
        """The state as bytes, for a checkpoint."""

    def restore(self, content: bytes) -> Any:
        """The state that `save` was given, to the bit; possibly in another process.

        Raises:
          StoreError: it is the state of another model or algorithm.
        """

    def begin_stretch(self, state: Any) -> Any:
        """The state with nothing left of noise that is correlated over rounds."""

    def forget_before(self, state: Any) -> None:
        """Lets go of what is kept elsewhere for states before this one: it is in a checkpoint."""

    def close(self) -> None:
        """Ends the processes that the engine started."""


def build_engine(
    config: TrainConfig,
    *,
    make_pipeline: Callable[[], Any] | None = None,
    folder: str = "",
    states: str | None = None,
    expected_cohort: float = 0,
    draws: Draws | None = None,
    **parts: Any,
) -> Engine:
    """The engine that the configuration names.

    Args:
      config: settings.
      make_pipeline: a new Beam pipeline, for the `beam` engine.
      folder: where Beam's workers and this process exchange files.
      states: folder for what clients keep from round to round; `folder` by default.
      expected_cohort: mean size of a cohort, by which `auto` goes.
      draws: how cohorts are drawn, by which canaries go.
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
        return BeamEngine(
            config,
            make_pipeline=make_pipeline,
            folder=folder,
            states=states or folder,
            draws=draws,
            **parts,
        )
    if name == "tff":
        return TffEngine(config, **parts)
    return CompiledEngine(config, states=states or folder, draws=draws, **parts)
