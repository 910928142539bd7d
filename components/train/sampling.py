"""Who takes part in a round, and what that means for the accountant.

The sampler draws the cohort AND describes the draw to the accountant, so the two cannot
disagree: amplification by sampling is claimed by the object that flips the coins.
"""

import dataclasses
import secrets
from typing import Any, Protocol

import dp_accounting
import numpy as np

from privet.components.shared.errors import ConfigError
from privet.components.train.privacy_config import SamplingConfig


class Sampler(Protocol):
    """Draws cohorts from a fixed population; a client is at most once in a cohort."""

    @property
    def population(self) -> int:
        """Number of clients to draw from."""

    @property
    def expected_cohort(self) -> float:
        """Mean number of clients in a cohort: the fixed denominator of the aggregate."""

    def draw(self, round_number: int) -> np.ndarray:
        """The cohort of a round: positions in the population, int64 [cohort], ascending."""

    def account(self, mechanism: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """The event of one round, given the mechanism's event on a cohort."""

    def describe(self) -> dict[str, Any]:
        """What the ledger says about the sampling."""


@dataclasses.dataclass(frozen=True)
class AllClients:
    """Every client in every round: no sampling, so nothing is assumed about it."""

    population: int

    @property
    def expected_cohort(self) -> float:
        """The whole population."""
        return float(self.population)

    def draw(self, round_number: int) -> np.ndarray:
        """Every position."""
        del round_number
        return np.arange(self.population)

    def account(self, mechanism: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """The mechanism's own event: no amplification."""
        return mechanism

    def describe(self) -> dict[str, Any]:
        """What the ledger says about the sampling."""
        return {
            "kind": "all",
            "probability": 1.0,
            "clients": self.population,
            "expected_cohort": self.expected_cohort,
            "amplification": False,
        }


@dataclasses.dataclass(frozen=True)
class PoissonSampler:
    """An independent coin flip per client and round, which is what PLD amplification assumes.

    Attributes:
      population: number of clients.
      cohort_size: expected size of a cohort; the flips come up with cohort_size / population.
      seed: makes the draws repeatable, for runs without privacy only. None takes the flips from
        the operating system, since amplification needs them to be secret.
    """

    population: int
    cohort_size: int
    seed: int | None = None

    @property
    def probability(self) -> float:
        """Chance of a client to be in a cohort."""
        return self.cohort_size / self.population

    @property
    def expected_cohort(self) -> float:
        """Mean number of clients in a cohort."""
        return float(self.cohort_size)

    def draw(self, round_number: int) -> np.ndarray:
        """Positions of the clients whose coin came up; possibly none.

        Every coin is really flipped (5 ms for a million). A binomial count and a choice of so
        many would be equal in law, but save too little to give up what one can see is right.
        """
        entropy = secrets.randbits(256) if self.seed is None else [self.seed, round_number]
        flips = np.random.default_rng(entropy).random(self.population) < self.probability
        return np.flatnonzero(flips)

    def account(self, mechanism: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
        """The mechanism on a Poisson sample."""
        return dp_accounting.PoissonSampledDpEvent(self.probability, mechanism)

    def describe(self) -> dict[str, Any]:
        """What the ledger says about the sampling."""
        return {
            "kind": "poisson",
            "probability": self.probability,
            "clients": self.population,
            "expected_cohort": self.expected_cohort,
            "amplification": True,
        }


def build_sampler(
    config: SamplingConfig, population: int, *, private: bool, seed: int
) -> AllClients | PoissonSampler:
    """The sampler that the configuration asks for.

    Args:
      config: settings.
      population: number of clients to train on.
      private: whether the run claims privacy; its coin flips are then never seeded.
      seed: of the draws of a run without privacy.

    Raises:
      ConfigError: the cohort is larger than the population.
    """
    if config.kind == "all":
        return AllClients(population)
    assert config.cohort_size is not None  # SamplingConfig checks it
    if config.cohort_size > population:
        raise ConfigError(
            f"train.sampling.cohort_size={config.cohort_size} exceeds the {population} clients "
            "in train. Lower cohort_size or add clients."
        )
    return PoissonSampler(population, config.cohort_size, None if private else seed)
