"""The `compiled` engine: blocks of clients, each trained by one call of a compiled program."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dp_accounting
import numpy as np
import tensorflow as tf

from privet.components.shared.prefetch import prefetched
from privet.components.shared.storage import ClientStore
from privet.components.train.aggregation import MeanQuery
from privet.components.train.blocks import Block, read_blocks
from privet.components.train.client_states import ClientStates
from privet.components.train.client_update import keeps_state
from privet.components.train.config import (
    TrainConfig,
)
from privet.components.train.engines import Late, saving
from privet.components.train.programs import Arrays
from privet.components.train.reading import CohortReader
from privet.components.train.round import Partial, ServerState, build_programs, merge
from privet.components.train.work import Work, choose_xla, load_work


class Cohort(NamedTuple):
    """A cohort that is being read."""

    positions: np.ndarray
    blocks: Iterator[Block]


class CompiledEngine:
    """Federated averaging in this process.

    A block trains while a thread reads and packs the next one, also that of the next cohort. States
    of clients are read when it is their turn: the round before may write them.

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      store: the clients.
      query: the DP mechanism; None for the plain mean.
      seed: of the order of examples.
      states: folder for what clients keep from round to round.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: tf.keras.Model,
        store: ClientStore,
        query: MeanQuery | None,
        seed: int,
        states: str = "",
    ):
        self._config, self._schema, self._seed = config, store.schema, seed
        self._reader = CohortReader(store)
        self._programs = build_programs(config, model, store.schema, query, len(store))
        self._update = self._programs.update.load()
        self._work: Work | None = None
        self._states: ClientStates | None = None
        if keeps_state(config):
            self._states = ClientStates.of(self._programs, states)

    def initialize(self) -> ServerState:
        """The server state before the first round."""
        return self._programs.initial

    def read(self, cohort: np.ndarray, round_number: int) -> Cohort:
        """Begins to read and pack a cohort."""
        clients = self._reader.read(cohort.tolist())
        blocks = read_blocks(
            clients, self._schema, self._config, seed=self._seed, round_number=round_number
        )
        return Cohort(cohort, prefetched(blocks))

    def next(
        self, state: ServerState, cohort: Cohort, late: Sequence[Late] = ()
    ) -> tuple[ServerState, dp_accounting.DpEvent]:
        """A round of the cohort."""
        partial = self._train(state, cohort)
        for group in late:
            stale = self._train(group.state, group.cohort)
            partial = merge(partial, stale.discounted(group.discount))
        return self._programs.finish(self._update, state, partial, cohort.positions)

    def weights(self, state: ServerState) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""
        return list(state.weights)

    def save(self, state: ServerState) -> bytes:
        """The state as bytes."""
        return saving.pack(state)

    def restore(self, content: bytes) -> ServerState:
        """The state that was saved."""
        return saving.unpack(content, self.initialize())

    def forget_before(self, state: ServerState) -> None:
        """Removes the states of clients that are no longer needed."""
        if self._states is not None:
            assert state.visited is not None
            self._states.keep_only(state.visited)

    def close(self) -> None:
        """There is nothing to end."""

    def _train(self, state: ServerState, cohort: Cohort) -> Partial:
        prepared, partial = self._programs.prepare(state), self._programs.nothing
        first = 0
        for block in cohort.blocks:
            positions = cohort.positions[first : first + block.clients]
            first += block.clients
            partial = merge(partial, self._block(state, prepared, block, positions))
        return partial

    def _block(
        self, state: ServerState, prepared: Arrays, block: Block, positions: np.ndarray
    ) -> Partial:
        if self._states is not None:
            assert state.visited is not None
            block = self._states.given(block, positions, state.visited[positions])
        if self._work is None:
            xla = choose_xla(self._config.xla, self._programs, prepared, block)
            self._work = load_work(self._programs, xla=xla)
        partial = self._work(prepared, block)
        if self._states is not None:
            partial = self._states.kept(partial, positions, state.rounds + 1)
        return partial
