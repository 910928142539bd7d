"""Who reports in a round, and which weights it began with: cohorts, clients that fail, FedBuff.

What is drawn here is a function of the seed and the round, but for what a sampler takes from the
operating system, so a run that continues sees what it would have seen.
"""

import heapq
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from privet.components.shared.errors import ConfigError
from privet.components.shared.storage import stable_hash
from privet.components.train.config import TrainConfig
from privet.components.train.participation_config import AsynchronousConfig, SimulationConfig
from privet.components.train.sampling import Sampler, describe


class Part(NamedTuple):
    """Clients of a round that began with the same weights.

    Attributes:
      clients: positions in the store, int64 [clients].
      staleness: how many rounds ago they began; 0 with the weights of this round.
      discount: how much their updates count.
    """

    clients: np.ndarray
    staleness: int
    discount: float


class Participation(Protocol):
    """Says who reports in each round."""

    @property
    def most_staleness(self) -> int:
        """How many rounds ago clients began at most."""

    @property
    def expected_starts(self) -> float:
        """Mean number of clients that begin to train in a round."""

    @property
    def expected_reports(self) -> float:
        """Mean number of clients that report in a round: the denominator of a private mean."""

    def describe(self) -> dict[str, Any]:
        """What the ledger says about who is in a round; see sampling.describe."""

    def parts(self, round_number: int) -> list[Part]:
        """The clients of a round, counted from 1; the first part has no staleness."""


def build_participation(config: TrainConfig, sampler: Sampler, seed: int) -> Participation:
    """What the configuration asks for.

    Args:
      config: settings.
      sampler: of synchronous cohorts.
      seed: of what is simulated, in a run without privacy.

    Raises:
      ConfigError: more clients are to train at a time than there are.
    """
    simulation, asynchronous = config.simulation, config.asynchronous
    if asynchronous is None:
        return Cohorts(sampler, simulation, None if config.privacy.is_private else seed)
    if asynchronous.concurrency > sampler.draws.clients:
        raise ConfigError(
            f"train.asynchronous.concurrency={asynchronous.concurrency} exceeds the "
            f"{sampler.draws.clients} clients in train. Lower it or add clients."
        )
    return Buffered(asynchronous, sampler.draws.clients, simulation.dropout_rate, seed)


class Cohorts:
    """Cohorts of a sampler, whose clients may drop out or report in the following round.

    Args:
      sampler: draws the cohorts.
      simulation: how clients fail.
      seed: of who does; None takes it from the operating system. A seeded choice goes by the place
        in the cohort, so that one client more or less would change which others report, which
        the sensitivity to a client does not allow.
    """

    def __init__(self, sampler: Sampler, simulation: SimulationConfig, seed: int | None):
        self._sampler, self._simulation, self._seed = sampler, simulation, seed
        self.most_staleness = 1 if simulation.late_rate else 0
        self.expected_starts = sampler.draws.expected_cohort
        self.expected_reports = self.expected_starts * (1 - simulation.dropout_rate)

    def describe(self) -> dict[str, Any]:
        """The sampler's words."""
        return describe(self._sampler.draws)

    def parts(self, round_number: int) -> list[Part]:
        """The clients of a round."""
        on_time, _ = self._draw(round_number)
        parts = [Part(on_time, 0, 1.0)]
        if self.most_staleness and round_number > 1:
            _, late = self._draw(round_number - 1)
            parts.append(Part(late, 1, self._simulation.late_discount))
        return parts

    def _draw(self, round_number: int) -> tuple[np.ndarray, np.ndarray]:
        """Who of a cohort reports in time, and who a round late."""
        # A client in it twice would add twice what its sensitivity allows.
        cohort, simulation = np.unique(self._sampler.draw(round_number)), self._simulation
        if simulation == SimulationConfig():
            return cohort, cohort[:0]
        seed = None if self._seed is None else stable_hash("failures", self._seed, round_number)
        chance = np.random.default_rng(seed).random(len(cohort))
        lost = simulation.dropout_rate
        late = (chance >= lost) & (chance < lost + simulation.late_rate)
        return cohort[chance >= lost + simulation.late_rate], cohort[late]


class Buffered:
    """Clients that start at a steady rate and take a half-normal time: FedBuff's simulation.

    (Nguyen et al., 2022, "Federated Learning with Buffered Asynchronous Aggregation", algorithm 1
    and section 4.) A client trains once at a time; it starts with the newest weights.
    """

    def __init__(self, config: AsynchronousConfig, population: int, dropout_rate: float, seed: int):
        self._config, self._population = config, population
        self._dropout_rate, self._seed = dropout_rate, seed
        self.most_staleness = config.max_staleness
        self.expected_reports = float(config.buffer_size)
        self.expected_starts = config.buffer_size / (1 - dropout_rate)
        self._rounds, self._next = self._simulate(), 1

    def describe(self) -> dict[str, Any]:
        """No cohorts are drawn: clients report when they are done."""
        return {
            "kind": "asynchronous",
            "probability": self.expected_reports / self._population,
            "clients": self._population,
            "expected_cohort": self.expected_reports,
            "rounds_between": 1,
            "overflow_probability": 0.0,
            "amplification": False,
        }

    def parts(self, round_number: int) -> list[Part]:
        """The clients of a round: the updates that filled the buffer."""
        if round_number < self._next:
            self._rounds, self._next = self._simulate(), 1
        for _ in range(round_number - self._next):
            next(self._rounds)
        self._next = round_number + 1
        buffer = next(self._rounds)
        exponent = self._config.staleness_exponent
        return [
            Part(
                np.array([client for client, age in buffer if age == staleness], np.int64),
                staleness,
                (1.0 + staleness) ** -exponent,
            )
            for staleness in sorted({0, *(age for _, age in buffer)})
        ]

    def _simulate(self) -> Iterator[list[tuple[int, int]]]:
        """For each round, the clients in its buffer and their staleness."""
        config = self._config
        generator = np.random.default_rng(stable_hash("asynchronous", self._seed))
        mean_time = np.sqrt(2 / np.pi)  # of a half-normal time
        training: list[tuple[float, int, int]] = []  # end, client, round that it began in
        busy: set[int] = set()
        buffer: list[tuple[int, int]] = []
        now, rounds = 0.0, 0
        while True:
            now += mean_time / config.concurrency
            while training and training[0][0] <= now:
                _, client, began = heapq.heappop(training)
                busy.remove(client)
                lost = generator.random() < self._dropout_rate
                if lost or rounds - began > config.max_staleness:
                    continue
                buffer.append((client, rounds - began))
                if len(buffer) == config.buffer_size:
                    yield buffer
                    buffer, rounds = [], rounds + 1
            if len(busy) < self._population:
                client = int(generator.integers(self._population))
                while client in busy:
                    client = int(generator.integers(self._population))
                busy.add(client)
                time = abs(float(generator.normal()))
                heapq.heappush(training, (now + time, client, rounds))
