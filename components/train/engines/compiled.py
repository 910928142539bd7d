"""The `compiled` engine: blocks of clients, each trained by one call of a compiled program."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from privet.components.shared.prefetch import prefetched
from privet.components.shared.storage import ClientStore
from privet.components.train.blocks import Block, read_blocks
from privet.components.train.config import TrainConfig
from privet.components.train.engines.program_engine import ProgramEngine
from privet.components.train.programs import Arrays
from privet.components.train.reading import CohortReader
from privet.components.train.round_values import Partial, ServerState, merge
from privet.components.train.work import Work, choose_xla, load_work


class Cohort(NamedTuple):
    """A cohort that is being read."""

    positions: np.ndarray
    blocks: Iterator[Block]


class CompiledEngine(ProgramEngine):
    """Rounds in this process; see ProgramEngine for the arguments.

    A block trains while a thread reads and packs the next one, also that of the next cohort. States
    of clients are read when it is their turn: the round before may write them.
    """

    def __init__(self, config: TrainConfig, *, store: ClientStore, states: str = "", **parts: Any):
        super().__init__(config, store=store, states=states, **parts)
        self._reader = CohortReader(store)
        self._readers = ThreadPoolExecutor(max_workers=2)  # of this cohort, and of the next one
        self._work: Work | None = None

    def read(self, cohort: np.ndarray, round_number: int) -> Cohort:
        """Begins to read and pack a cohort."""
        clients = self._reader.read(cohort.tolist())
        blocks = read_blocks(
            clients,
            self._store.schema,
            self._config,
            seed=self._seed,
            round_number=round_number,
            row_bytes=self._programs.row_bytes,
        )
        return Cohort(cohort, prefetched(blocks, self._readers))

    def close(self) -> None:
        """Ends the threads that read."""
        self._readers.shutdown(wait=False, cancel_futures=True)

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
            block = self._states.with_states(block, positions, state.visited[positions])
        if self._work is None:
            xla = choose_xla(self._config.xla, self._programs, prepared, block)
            self._work = load_work(self._programs, xla=xla)
        partial = self._work(prepared, block)
        if self._states is not None:
            partial = self._states.keep(partial, positions, state.rounds + 1)
        return partial
