"""What the engines that run compiled programs have in common: all but who calls them."""

import abc
import time
from collections.abc import Sequence
from typing import Any

import dp_accounting
import numpy as np
import tensorflow as tf

from privet.components.shared.storage import ClientStore
from privet.components.train.aggregation import MeanQuery
from privet.components.train.canaries import Canaries, CanaryScores, CanaryState
from privet.components.train.client_noise import ClientNoiseQuery
from privet.components.train.client_states import ClientStates
from privet.components.train.client_update import keeps_state
from privet.components.train.config import TrainConfig
from privet.components.train.engines import Late, saving
from privet.components.train.round import build_programs
from privet.components.train.round_values import Partial, ServerState, merge
from privet.components.train.sampling import Draws


class ProgramEngine(abc.ABC):
    """Rounds by the compiled functions of round.py.

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      store: the clients.
      query: the DP mechanism; None for the plain mean.
      seed: of the order of examples.
      states: folder for what clients keep from round to round.
      draws: how cohorts are drawn; what canaries go by, if there are any.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: tf.keras.Model,
        store: ClientStore,
        query: MeanQuery | ClientNoiseQuery | None,
        seed: int,
        states: str,
        draws: Draws | None = None,
    ):
        self._config, self._store, self._seed = config, store, seed
        self._programs = build_programs(config, model, store.schema, query, len(store))
        self._update = self._programs.update.load()
        self._canaries: Canaries | None = None
        if config.canaries is not None:
            assert draws is not None
            shapes = [weight.shape for weight in self._programs.initial.weights]
            self._canaries = Canaries(config.canaries, draws, shapes)
        self._states: ClientStates | None = None
        if keeps_state(config):
            self._states = ClientStates.of(self._programs, states)

    def initialize(self) -> ServerState:
        """The server state before the first round; with canaries, new ones."""
        initial = self._programs.initial
        if self._canaries is None:
            return initial
        return initial._replace(canaries=self._canaries.initial())

    @abc.abstractmethod
    def read(self, cohort: np.ndarray, round_number: int) -> Any:
        """Begins to read a cohort; gives something with its `positions`."""

    def next(
        self, state: ServerState, cohort: Any, late: Sequence[Late] = ()
    ) -> tuple[ServerState, dp_accounting.DpEvent]:
        """A round of the cohort, and of clients that report late."""
        partial = self._train(state, cohort)
        for group in late:
            stale = self._train(group.state, group.cohort)
            partial = merge(partial, stale.discounted(group.discount))
        if self._canaries is None:
            after, event, _ = self._programs.finish(self._update, state, partial, cohort.positions)
            return after, event
        return self._next_with(self._canaries, state, partial, cohort.positions)

    def _next_with(
        self, canaries: Canaries, state: ServerState, partial: Partial, positions: np.ndarray
    ) -> tuple[ServerState, dp_accounting.DpEvent]:
        """The end of a round whose sum canaries are added to, and looked for in the mean of it."""
        kept, norm = state.canaries, self._programs.clip_norm(state)
        assert isinstance(kept, CanaryState)
        started = time.perf_counter()
        total = canaries.add(
            kept, partial.total, norm=norm, masks=state.masks, round_number=state.rounds + 1
        )
        spent = time.perf_counter() - started
        partial = partial._replace(total=total)
        after, event, mean = self._programs.finish(self._update, state, partial, positions)
        started = time.perf_counter()
        kept = canaries.observe(kept, mean, state.masks)
        spent += time.perf_counter() - started
        return after._replace(canaries=kept.spent(spent)), event

    def weights(self, state: ServerState) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""
        return list(state.weights)

    def sent(self, state: ServerState) -> np.ndarray | None:
        """What clients have sent, where it is measured."""
        return state.sent

    def canaries(self, state: ServerState) -> CanaryScores | None:
        """What the rounds that led to the state tell of its canaries."""
        if self._canaries is None:
            return None
        assert isinstance(state.canaries, CanaryState)
        fall = [
            first - last
            for first, last in zip(self._programs.initial.weights, state.weights, strict=True)
        ]
        return self._canaries.scores(state.canaries, fall, state.masks)

    def save(self, state: ServerState) -> bytes:
        """The state as bytes."""
        return saving.pack(state)

    def restore(self, content: bytes) -> ServerState:
        """The state that was saved."""
        return saving.unpack(content, self.initialize())

    def begin_stretch(self, state: ServerState) -> ServerState:
        """The state with nothing left of noise that is correlated over rounds."""
        return self._programs.begin_stretch(state)

    def forget_before(self, state: ServerState) -> None:
        """Removes the states of clients that are no longer needed."""
        if self._states is not None:
            assert state.visited is not None
            self._states.keep_only(state.visited)

    @abc.abstractmethod
    def close(self) -> None:
        """Ends what was started."""

    @abc.abstractmethod
    def _train(self, state: ServerState, cohort: Any) -> Partial:
        """The sum over a cohort, which may be empty."""
