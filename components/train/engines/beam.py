"""The `beam` engine: the compiled program in Beam's workers, a job per round."""

import pickle
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from privet.components.shared import files
from privet.components.shared.errors import PrivetError
from privet.components.train import transforms
from privet.components.train.blocks import read_blocks
from privet.components.train.config import TrainConfig
from privet.components.train.engines.program_engine import ProgramEngine
from privet.components.train.reading import CohortReader
from privet.components.train.round_values import Partial, ServerState, merge
from privet.components.train.work import choose_xla

_GROUPS, _LARGEST_GROUP = 64, 512
"""Parts of a cohort at least, and clients of a part at most: what is spread over the workers."""

_PROBED_CLIENTS = 16
"""Clients on which the faster program is found."""


class Cohort(NamedTuple):
    """A cohort that workers will read."""

    positions: np.ndarray
    round_number: int


class BeamEngine(ProgramEngine):
    """Rounds in Beam's workers; see ProgramEngine for the other arguments.

    Weights go out and sums come back as files in `folder`, which workers must reach. Noise on a sum
    is added by the process that drives the rounds, once the sum is there: workers, the folder and
    the runner (which learns the cohort) are inside the trust boundary, as the client store is. Of
    clients that add noise themselves, workers play the part.

    Args:
      config: settings.
      make_pipeline: a new Beam pipeline.
      folder: for files that workers read and write.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        make_pipeline: Callable[[], Any],
        folder: str,
        states: str = "",
        **parts: Any,
    ):
        super().__init__(config, states=states, **parts)
        self._make_pipeline = make_pipeline
        self._folder = files.join(folder, f"rounds-{uuid.uuid4().hex}")
        files.make_private_folder(self._folder)
        self._job: transforms.Job | None = None

    def read(self, cohort: np.ndarray, round_number: int) -> Cohort:
        """Nothing is read here: workers do."""
        return Cohort(cohort, round_number)

    def close(self) -> None:
        """Removes the files of the rounds."""
        files.remove_folder(self._folder)
        transforms.kept.cache_clear()  # where workers are threads of this process

    def _train(self, state: ServerState, cohort: Cohort) -> Partial:
        if not len(cohort.positions):
            return self._programs.nothing
        if self._job is None:
            self._job = self._prepare_job(self._programs.prepare(state), cohort)
        sent, received = (
            files.join(self._folder, f"{cohort.round_number}-{name}") for name in ("sent", "sum")
        )
        try:
            files.write_bytes(sent, pickle.dumps(self._given(state, cohort.positions)))
            with self._make_pipeline() as pipeline:
                transforms.train_cohort(
                    pipeline,
                    self._job,
                    _groups(cohort.positions),
                    cohort.round_number,
                    sent,
                    received,
                )
            total = pickle.loads(files.read_bytes(received))
        finally:
            for path in (sent, received):
                files.remove(path)
        if isinstance(total, PrivetError):
            raise total
        return merge(self._programs.nothing, total)

    def _given(self, state: ServerState, positions: np.ndarray) -> transforms.Given:
        rounds: dict[int, int] = {}
        if state.visited is not None:
            rounds = dict(zip(positions.tolist(), state.visited[positions].tolist(), strict=True))
        return transforms.Given(self._programs.prepare(state), rounds, state.rounds + 1)

    def _prepare_job(self, prepared: Any, cohort: Cohort) -> transforms.Job:
        """Writes the programs, having found the faster one on some clients of the cohort."""
        clients = CohortReader(self._store).read(cohort.positions[:_PROBED_CLIENTS].tolist())
        blocks = read_blocks(
            clients,
            self._store.schema,
            self._config,
            seed=self._seed,
            round_number=cohort.round_number,
        )
        block = next(blocks)
        if self._states is not None:
            nobody = np.zeros(block.clients, np.int32)  # that a state was kept of
            block = self._states.with_states(block, nobody, nobody)
        xla = choose_xla(self._config.xla, self._programs, prepared, block)
        programs = files.join(self._folder, "programs")
        files.write_bytes(programs, pickle.dumps(self._programs))
        return transforms.Job(
            programs, self._store.directory, self._config, self._seed, xla, self._states
        )


def _groups(positions: np.ndarray) -> list[list[int]]:
    """The parts of a cohort that workers take one by one."""
    size = len(positions)
    parts = max(min(_GROUPS, size), -(-size // _LARGEST_GROUP))
    return [part.tolist() for part in np.array_split(positions, parts)]
