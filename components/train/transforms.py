"""A round on Beam: clients of a cohort are trained in workers, their updates added up."""

import functools
import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from privet.components.shared import files
from privet.components.shared.errors import PrivetError
from privet.components.shared.prefetch import prefetched
from privet.components.shared.storage import ClientStore
from privet.components.train.blocks import Block, read_blocks
from privet.components.train.client_states import ClientStates
from privet.components.train.config import TrainConfig
from privet.components.train.programs import Arrays
from privet.components.train.reading import CohortReader
from privet.components.train.round import Programs
from privet.components.train.round_values import NOBODY, Partial, merge
from privet.components.train.work import Work, load_work

Sum = Partial | PrivetError
"""A partial sum, or the error that kept from it: Beam would hide it in its own."""


class Job(NamedTuple):
    """What workers need of a training run, the same in every round.

    Attributes:
      programs: file with the pickled Programs; its name is new for every run.
      examples: folder of the ClientExamples.
      config: settings.
      seed: of the order of examples.
      xla: which of the programs is the faster one.
      states: what clients keep from round to round; None if nothing.
    """

    programs: str
    examples: str
    config: TrainConfig
    seed: int
    xla: bool
    states: ClientStates | None


class Given(NamedTuple):
    """What workers get in a round.

    Attributes:
      prepared: what every client needs.
      rounds: that wrote the clients' states, by position; empty if they have none.
      number: of the round.
    """

    prepared: Arrays
    rounds: Mapping[int, int]
    number: int


def train_cohort(
    pipeline: beam.Pipeline,
    job: Job,
    groups: Iterable[list[int]],
    round_number: int,
    given: str,
    result: str,
) -> None:
    """Adds a round to a pipeline.

    Weights and sums go through files; what passes through the runner is a few numbers per client
    in, and one sum per bundle out.

    Args:
      pipeline: the Beam pipeline.
      job: what is the same in every round.
      groups: positions of the cohort's clients in the store, in parts to train one by one.
      round_number: of the round.
      given: file with the pickled Given.
      result: file for the pickled Sum.
    """
    total = (
        pipeline
        | "Groups" >> beam.Create(list(enumerate(groups)), reshuffle=False)
        # Spreads them over workers. A Reshuffle would, too, by twice as many steps; what a round
        # costs beside the training is by the number of steps.
        | "SpreadGroups" >> beam.GroupByKey()
        | "TrainClients" >> beam.ParDo(_TrainClients(job, round_number, given))
        | "AddUp" >> beam.CombinePerKey(_add_up)
    )
    _ = total | "WriteSum" >> beam.Map(_write, result)


class _TrainClients(beam.DoFn):
    """Groups of positions of clients -> sums of their clipped updates, all under one key.

    The groups of a bundle are trained together, in blocks as large as blocks may be: a call of the
    program costs as much as training some dozens of clients of a small model.
    """

    def __init__(self, job: Job, round_number: int, given: str):
        self._job, self._round_number, self._sent = job, round_number, given

    def start_bundle(self) -> None:
        self._positions: list[int] = []

    def process(self, groups: tuple[int, Iterable[list[int]]]) -> None:
        for positions in groups[1]:
            self._positions += positions

    def finish_bundle(self) -> Iterator[WindowedValue]:
        try:
            for total in self._train(self._positions):
                yield GlobalWindows.windowed_value((None, total))
        except PrivetError as error:
            yield GlobalWindows.windowed_value((None, error))

    def _train(self, positions: list[int]) -> Iterator[Partial]:
        if not positions:
            return
        job = self._job
        programs, reader = kept(job.programs, job.examples)
        work = load_work(programs, xla=job.xla)
        given: Given = pickle.loads(files.read_bytes(self._sent))
        blocks = read_blocks(
            reader.read(positions),
            reader.schema,
            job.config,
            seed=job.seed,
            round_number=self._round_number,
            row_bytes=programs.row_bytes,
        )
        first = 0
        for block in prefetched(blocks):
            mine = np.array(positions[first : first + block.clients])
            first += block.clients
            yield _work(work, block, mine, given, job.states)


def _work(
    work: Work, block: Block, positions: np.ndarray, given: Given, states: ClientStates | None
) -> Partial:
    """The work of a block, whose clients may have states."""
    if states is None:
        return work(given.prepared, block)
    rounds = np.array([given.rounds[position] for position in positions.tolist()])
    partial = work(given.prepared, states.with_states(block, positions, rounds))
    return states.keep(partial, positions, given.number)


@functools.lru_cache(2)
def kept(programs: str, examples: str) -> tuple[Programs, CohortReader]:
    """What a worker process keeps from round to round: programs, and clients it has read."""
    return pickle.loads(files.read_bytes(programs)), CohortReader(ClientStore(examples, "train"))


def _add_up(sums: Iterable[Sum]) -> Sum:
    total = NOBODY
    for one in sums:
        if isinstance(one, PrivetError):
            return one
        total = merge(total, one)
    return total


def _write(total: tuple[None, Sum], result: str) -> None:
    files.write_bytes(result, pickle.dumps(total[1]))
