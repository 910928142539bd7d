"""Who takes part in a round, and what an accountant may assume about it.

The sampler draws the cohort AND describes the draw to the accountant, so the two cannot
disagree: amplification by sampling is claimed by the object that flips the coins, and by no other.
"""

import dataclasses
import secrets
from typing import Any, Literal, Protocol

import numpy as np
from scipy import special

from privet.components.shared.errors import ConfigError
from privet.components.train.privacy_config import SamplingConfig


@dataclasses.dataclass(frozen=True)
class Draws:
    """How cohorts are drawn: all that an accountant may assume about who is in a round.

    Attributes:
      kind: of the sampler.
      clients: number of clients to draw from.
      expected_cohort: mean number of clients in a cohort.
      probability: chance of a client's own, secret coin flip in a round, independent of all others.
        None where cohorts are drawn in another way: then nothing is amplified.
      rounds_between: a client that is in a round is in none of the next rounds_between - 1.
      overflow: chance of a round's cohort to be something else than those whose coins came up.
      fixed_places: whether clients have places in the draw, which one more client would change for
        others. Neighbouring data sets then differ in one client's data, its place staying.
    """

    kind: Literal["all", "poisson", "fixed_size", "fixed_order"]
    clients: int
    expected_cohort: float
    probability: float | None = None
    rounds_between: int = 1
    overflow: float = 0.0
    fixed_places: bool = False

    def participations(self, rounds: int) -> int:
        """In how many of so many consecutive rounds a client may be.

        >>> Draws("fixed_order", 90, 30.0, rounds_between=3).participations(7)
        3
        """
        return -(-rounds // self.rounds_between)


class Sampler(Protocol):
    """Draws cohorts from a fixed population; a client is at most once in a cohort."""

    @property
    def draws(self) -> Draws:
        """What the accountant may assume."""

    def draw(self, round_number: int) -> np.ndarray:
        """The cohort of a round, from 1: positions in the population, int64 [cohort], ascending."""


@dataclasses.dataclass(frozen=True)
class AllClients:
    """Every client in every round: no sampling, so nothing is assumed about it."""

    population: int

    @property
    def draws(self) -> Draws:
        """Nothing but the number of clients."""
        return Draws("all", self.population, float(self.population))

    def draw(self, round_number: int) -> np.ndarray:
        """Every position."""
        del round_number
        return np.arange(self.population)


@dataclasses.dataclass(frozen=True)
class PoissonSampler:
    """An independent coin flip per client and round, which is what PLD amplification assumes.

    Attributes:
      population: number of clients.
      cohort_size: expected size of a cohort; the flips come up with cohort_size / population.
      seed: makes the draws repeatable, for runs without privacy only. None takes the flips from
        the operating system, since amplification needs them to be secret.
      max_cohort_size: of a larger cohort so many are kept, by chance. That breaks independence, so
        its probability is in `overflow`.
    """

    population: int
    cohort_size: int
    seed: int | None = None
    max_cohort_size: int | None = None

    @property
    def draws(self) -> Draws:
        """Coin flips, and the chance of there being too many of them."""
        probability, overflow = self.cohort_size / self.population, 0.0
        if self.max_cohort_size is not None:
            # P[Binomial > cap], for the larger of two data sets that differ in one client.
            overflow = float(special.bdtrc(self.max_cohort_size, self.population + 1, probability))
        return Draws(
            "poisson", self.population, float(self.cohort_size), probability, overflow=overflow
        )

    def draw(self, round_number: int) -> np.ndarray:
        """Positions of the clients whose coin came up; possibly none.

        Every coin is really flipped (5 ms for a million). A binomial count and a choice of so
        many would be equal in law, but save too little to give up what one can see is right.
        """
        generator = _generator(self.seed, round_number)
        flips = generator.random(self.population) < self.cohort_size / self.population
        cohort = np.flatnonzero(flips)
        if self.max_cohort_size is not None and len(cohort) > self.max_cohort_size:
            cohort = np.sort(generator.choice(cohort, self.max_cohort_size, replace=False))
        return cohort


@dataclasses.dataclass(frozen=True)
class FixedSizeSampler:
    """So many clients a round, drawn without replacement.

    No amplification is claimed: under this draw it is proved for another relation only (one client
    replaced), and is far less than the Poisson number that is often quoted for it.

    Attributes:
      population: number of clients.
      cohort_size: of every round.
      seed: makes the draws repeatable; None takes them from the operating system.
    """

    population: int
    cohort_size: int
    seed: int | None = None

    @property
    def draws(self) -> Draws:
        """A client may be in every round."""
        return Draws("fixed_size", self.population, float(self.cohort_size), fixed_places=True)

    def draw(self, round_number: int) -> np.ndarray:
        """A uniformly random subset."""
        generator = _generator(self.seed, round_number)
        return np.sort(generator.choice(self.population, self.cohort_size, replace=False))


@dataclasses.dataclass(frozen=True)
class FixedOrderSampler:
    """Groups of clients, one after the other and then again: each client once an epoch.

    The groups are a function of the seed and of the number of clients, nothing else: they are no
    secret, and what is claimed does not need them to be.

    Attributes:
      population: number of clients.
      cohort_size: of the largest group; the others have one client less at most.
      seed: of the order.
    """

    population: int
    cohort_size: int
    seed: int

    @property
    def draws(self) -> Draws:
        """From one participation of a client to its next one there is a whole epoch."""
        groups = self._groups
        return Draws(
            "fixed_order",
            self.population,
            self.population / groups,
            rounds_between=groups,
            fixed_places=True,
        )

    def draw(self, round_number: int) -> np.ndarray:
        """The group whose turn it is."""
        order = np.random.default_rng([self.seed, self.population]).permutation(self.population)
        return np.sort(np.array_split(order, self._groups)[(round_number - 1) % self._groups])

    @property
    def _groups(self) -> int:
        return -(-self.population // self.cohort_size)


def build_sampler(
    config: SamplingConfig, population: int, *, private: bool, seed: int
) -> AllClients | PoissonSampler | FixedSizeSampler | FixedOrderSampler:
    """The sampler that the configuration asks for.

    Args:
      config: settings.
      population: number of clients to train on.
      private: whether the run claims privacy; its draws by chance are then never seeded.
      seed: of the draws of a run without privacy, and of the fixed order.

    Raises:
      ConfigError: the cohort is larger than the population, or that is not the stated one.
    """
    if config.population not in (None, population):
        raise ConfigError(
            f"train.sampling.population={config.population}, but train has {population} clients. "
            "What was planned does not hold for them: plan anew with their number, or leave it out."
        )
    if config.kind == "all":
        return AllClients(population)
    assert config.cohort_size is not None  # SamplingConfig checks it
    if config.cohort_size > population:
        raise ConfigError(
            f"train.sampling.cohort_size={config.cohort_size} exceeds the {population} clients "
            "in train. Lower cohort_size or add clients."
        )
    secret_seed = None if private else seed
    if config.kind == "poisson":
        return PoissonSampler(population, config.cohort_size, secret_seed, config.max_cohort_size)
    if config.kind == "fixed_size":
        return FixedSizeSampler(population, config.cohort_size, secret_seed)
    return FixedOrderSampler(population, config.cohort_size, seed)


def describe(draws: Draws) -> dict[str, Any]:
    """What the ledger says about the sampling."""
    amplified = draws.probability is not None
    return {
        "kind": draws.kind,
        "probability": draws.probability if amplified else draws.expected_cohort / draws.clients,
        "clients": draws.clients,
        "expected_cohort": draws.expected_cohort,
        "rounds_between": draws.rounds_between,
        "overflow_probability": draws.overflow,
        "amplification": amplified,
    }


def _generator(seed: int | None, round_number: int) -> np.random.Generator:
    return np.random.default_rng(secrets.randbits(256) if seed is None else [seed, round_number])
