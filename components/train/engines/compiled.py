"""The `compiled` engine: blocks of clients, each trained by one call of a compiled program."""

from collections.abc import Iterator

import dp_accounting
import numpy as np
import tensorflow as tf

from privet.components.shared.prefetch import prefetched
from privet.components.shared.storage import ClientStore
from privet.components.train.aggregation import NoisedMeanQuery
from privet.components.train.blocks import Block, read_blocks
from privet.components.train.config import TrainConfig
from privet.components.train.engines import saving
from privet.components.train.reading import CohortReader
from privet.components.train.round import ServerState, build_programs, merge
from privet.components.train.work import Work, choose_xla, load_work


class CompiledEngine:
    """Federated averaging in this process.

    A block trains while a thread reads and packs the next one, also that of the next cohort.

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      store: the clients.
      query: the DP mechanism; None for the plain mean.
      seed: of the order of examples.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        model: tf.keras.Model,
        store: ClientStore,
        query: NoisedMeanQuery | None,
        seed: int,
    ):
        self._config, self._schema, self._seed = config, store.schema, seed
        self._reader = CohortReader(store)
        self._programs = build_programs(config, model, store.schema, query)
        self._update = self._programs.update.load()
        self._work: Work | None = None

    def initialize(self) -> ServerState:
        """The server state before the first round."""
        return self._programs.initial

    def read(self, cohort: np.ndarray, round_number: int) -> Iterator[Block]:
        """Begins to read and pack a cohort."""
        clients = self._reader.read(cohort.tolist())
        blocks = read_blocks(
            clients, self._schema, self._config, seed=self._seed, round_number=round_number
        )
        return prefetched(blocks)

    def next(
        self, state: ServerState, cohort: Iterator[Block]
    ) -> tuple[ServerState, dp_accounting.DpEvent]:
        """A round of the cohort."""
        prepared, total = self._programs.prepare(state), self._programs.nothing
        for block in cohort:
            if self._work is None:
                xla = choose_xla(self._config.xla, self._programs, prepared, block)
                self._work = load_work(self._programs, xla=xla)
            total = merge(total, self._work(prepared, block))
        return self._programs.finish(self._update, state, total)

    def weights(self, state: ServerState) -> list[np.ndarray]:
        """The trainable weights of the global model, in Keras' order."""
        return list(state.weights)

    def save(self, state: ServerState) -> bytes:
        """The state as bytes."""
        return saving.pack(state)

    def restore(self, content: bytes) -> ServerState:
        """The state that was saved."""
        return saving.unpack(content, self.initialize())

    def close(self) -> None:
        """There is nothing to end."""
