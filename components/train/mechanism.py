"""What rounds release about whom: the mechanisms, each with its unit, trust model and event.

A mechanism turns "so many rounds, drawn like this" into one dp_accounting event. Neighbouring data
sets are named in the ledger; which it is follows from the mechanism and from how cohorts are drawn.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import dp_accounting

from privet.components.train.correlated_noise import BandedNoise, TreeNoise
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import Draws

Relation = Literal[
    "add_or_remove_one_client",
    "zero_out_one_client",
    "replace_one_client",
    "zero_out_one_example",
]
"""Neighbouring data sets: with and without a client; with a client's data or nothing in its place;
with other data of a client; with an example or nothing in its place."""


def common_relation(relations: Iterable[str]) -> str | None:
    """The relation for which guarantees hold together; None if they do not add up.

    Sums of clipped updates are divided by a constant, so a client without data is as one that is
    not there: what holds for adding or removing a client holds for zeroing it out.

    >>> common_relation(["add_or_remove_one_client", "zero_out_one_client"])
    'zero_out_one_client'
    """
    different = set(relations)
    if different == {"add_or_remove_one_client", "zero_out_one_client"}:
        return "zero_out_one_client"
    return different.pop() if len(different) == 1 else None


CENTRAL = "central: the aggregator is trusted with individual updates"


class _Kind(NamedTuple):
    """What is the same for all runs of a mechanism."""

    unit: Literal["client", "example"]
    trust_model: str


MOST_BANDS = 32
"""Unless told otherwise: each band but one is a noise of the size of the model to keep."""

_KINDS = {
    "gaussian": _Kind("client", CENTRAL),
    "tree": _Kind("client", CENTRAL),
    "banded": _Kind("client", CENTRAL),
    "local": _Kind(
        "client",
        "local: each client adds noise to its own update, and the aggregator is not trusted",
    ),
    "example": _Kind(
        "example",
        "local to clients: each client is trusted with its own examples, the aggregator is not",
    ),
}


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A mechanism with its noise, on cohorts that are drawn in a certain way.

    Attributes:
      kind: as in PrivacyConfig.
      draws: what may be assumed about cohorts.
      noise_multiplier: standard deviation of fresh noise in units of the clip norm.
      correlation: of noise over rounds, for tree and banded.
    """

    kind: str
    draws: Draws
    noise_multiplier: float
    correlation: TreeNoise | BandedNoise | None = None

    @property
    def unit(self) -> Literal["client", "example"]:
        """What the guarantee is about."""
        return _KINDS[self.kind].unit

    @property
    def trust_model(self) -> str:
        """Who sees what before there is noise."""
        return _KINDS[self.kind].trust_model

    @property
    def relation(self) -> Relation:
        """In what neighbouring data sets differ."""
        if self.kind == "local":
            return "replace_one_client"
        if self.kind == "example":
            return "zero_out_one_example"
        return "zero_out_one_client" if self.draws.fixed_places else "add_or_remove_one_client"

    @property
    def stretches_matter(self) -> bool:
        """Whether it matters where a stretch of rounds begins: a repeated round begins one."""
        return self.draws.rounds_between > 1

    def with_noise(self, noise_multiplier: float) -> "Mechanism":
        """The same mechanism with other noise."""
        return dataclasses.replace(self, noise_multiplier=noise_multiplier)

    def event(self, rounds: int) -> dp_accounting.DpEvent:
        """What a stretch of consecutive rounds spends.

        - gaussian: a Gaussian mechanism for each round that a client may be in, on a Poisson sample
          where coins are flipped.
        - tree, banded: all rounds are one Gaussian mechanism on the vector of all of the client's
          contributions; see correlated_noise.py.
        - local: two updates of a client, clipped, are up to twice the clip norm apart.
        - example: an example is in one batch of each round that its client is in.
        """
        if rounds == 0:
            return dp_accounting.NoOpDpEvent()
        noise, draws = self.noise_multiplier, self.draws
        if self.correlation is not None:
            return dp_accounting.GaussianDpEvent(noise / self.correlation.sensitivity(rounds))
        if self.kind == "gaussian" and draws.probability is not None:
            one = dp_accounting.PoissonSampledDpEvent(
                draws.probability, dp_accounting.GaussianDpEvent(noise)
            )
            return dp_accounting.SelfComposedDpEvent(one, rounds)
        # Whom the server sees reporting is no secret from it: local mechanisms amplify nothing.
        one = dp_accounting.GaussianDpEvent(noise / 2 if self.kind == "local" else noise)
        return dp_accounting.SelfComposedDpEvent(one, draws.participations(rounds))

    def describe(self) -> dict[str, Any]:
        """Kind, noise and correlation, for the ledger."""
        described: dict[str, Any] = {
            "kind": self.kind,
            "noise_multiplier": self.noise_multiplier,
        }
        if self.correlation is not None:
            described["correlation"] = dataclasses.asdict(self.correlation)
        return described


def gaussian(draws: Draws, noise_multiplier: float) -> Mechanism:
    """Noise on the sum of a cohort's clipped updates, anew in every round.

    >>> gaussian(Draws("all", clients=10, expected_cohort=10.0), 2.0).event(30)
    SelfComposedDpEvent(event=GaussianDpEvent(noise_multiplier=2.0), count=30)
    """
    return Mechanism("gaussian", draws, noise_multiplier)


def build_mechanism(
    config: PrivacyConfig, draws: Draws, *, noise_multiplier: float, momentum: float = 0.0
) -> Mechanism:
    """The mechanism that the configuration asks for.

    Args:
      config: settings, with a mechanism.
      draws: of the cohorts.
      noise_multiplier: the configured or calibrated one.
      momentum: of the server's optimizer, under which banded noise is made to cancel.
    """
    correlation: TreeNoise | BandedNoise | None = None
    if config.mechanism == "tree":
        correlation = TreeNoise(draws.rounds_between)
    elif config.mechanism == "banded":
        bands = min(draws.rounds_between, MOST_BANDS) if config.bands is None else config.bands
        correlation = BandedNoise(draws.rounds_between, bands, momentum)
    return Mechanism(config.mechanism, draws, noise_multiplier, correlation)
