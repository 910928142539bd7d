"""Settings that change the guarantee: the mechanism, and who may be in a round."""

import math
from typing import Literal

from privet.components.shared.configuration import Config, check


class AdaptiveClipConfig(Config, frozen=True):
    """A clip norm that follows a quantile of the norms of updates (Andrew et al., 2021).

    Attributes:
      target_quantile: fraction of clients whose update should be within the clip norm.
      learning_rate: of the geometric update: a round changes the clip norm by a factor of at
        most exp(learning_rate).
      count_noise: standard deviation of the noise on the number of clients within the clip norm;
        by default a twentieth of those that are expected to report. What it spends is part of
        epsilon.
    """

    target_quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise: float | None = None

    def __post_init__(self) -> None:
        check(
            0 < self.target_quantile < 1,
            f"target_quantile={self.target_quantile} must lie between 0 and 1",
        )
        check(0 < self.learning_rate <= 1, f"learning_rate={self.learning_rate} must lie in (0, 1]")
        check(
            self.count_noise is None or 0 < self.count_noise < math.inf,
            f"count_noise={self.count_noise} must be > 0 and finite",
        )


class PopulationBudgetConfig(Config, frozen=True):
    """What all runs over the same clients may spend together; see population_budget.py.

    Attributes:
      file: JSON that all these runs share, on a filesystem with locks. The first run makes it.
      epsilon: of all runs together.
      delta: that it is stated at, no smaller than that of any run.
    """

    file: str
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check(self.file != "", "file must name a JSON file that all runs over the clients share")
        check(
            "://" not in self.file,
            f"file={self.file} must be on a filesystem with locks, local or mounted: without them "
            "two runs that start at the same time could both take what is left",
        )
        check(0 < self.epsilon < math.inf, f"epsilon={self.epsilon} must be > 0 and finite")
        check(0 < self.delta < 1, f"delta={self.delta} must lie between 0 and 1")


class PrivacyConfig(Config, frozen=True):
    """The guarantee. There is no default: a run without privacy says `mechanism: none`.

    Attributes:
      mechanism: clip and noise, of which there are five kinds, or `none`. `gaussian`: clip every
        client's update, add noise to their sum. `tree`, `banded`: the same with noise that is
        correlated over rounds, for clients that take part once an epoch; see correlated_noise.py.
        `local`: every client adds the noise itself. `example`: clients train by DP-SGD, which
        protects single examples and no client as a whole.
      epsilon: the budget. Without noise_multiplier the noise is calibrated to spend it in
        `rounds`; training stops before a round that would exceed it.
      delta: probability of failure that the epsilon is stated at; below 1 / clients.
      clip_norm: L2 norm that a client's update is scaled down to (`example`: the gradient of each
        example).
      noise_multiplier: standard deviation of the noise in units of clip_norm.
      adaptive_clip: lets the clip norm, which begins at clip_norm, follow a quantile; the
        noise_multiplier is then that of both noises together.
      bands: of `banded`: rounds over which noise is correlated; by default those of an epoch, and
        32 at most.
      rounded_noise: adds up clipped updates as whole numbers of a fine grid, to which the noise is
        rounded, so that no artefact of floating-point numbers tells about the sum.
      candidates: how many private runs on these clients, this one included, one is chosen from;
        all are charged as this one. By default the search for settings IS NOT CHARGED.
      population_budget: what all runs over the same clients may spend together.
    """

    mechanism: Literal["gaussian", "tree", "banded", "local", "example", "none"]
    epsilon: float | None = None
    delta: float | None = None
    clip_norm: float | None = None
    noise_multiplier: float | None = None
    adaptive_clip: AdaptiveClipConfig | None = None
    bands: int | None = None
    rounded_noise: bool = False
    candidates: int | None = None
    population_budget: PopulationBudgetConfig | None = None

    def __post_init__(self) -> None:
        if self.mechanism == "none":
            given = {
                name: value
                for name in self.__struct_fields__
                if name != "mechanism" and (value := getattr(self, name))
            }
            check(
                not given,
                f"{given} promise privacy but mechanism=none gives none. "
                "Remove them, or set mechanism: gaussian",
            )
            return
        check(
            self.epsilon is None or 0 < self.epsilon < math.inf,
            f"epsilon={self.epsilon} must be > 0 and finite (typical: 1 to 8)",
        )
        check(
            self.delta is not None and LEAST_DELTA <= self.delta < 1,
            f"delta={self.delta} must lie between {LEAST_DELTA} and 1 (typical: 1e-5, below 1 / "
            "clients)",
        )
        check(
            self.clip_norm is not None and LEAST_CLIP <= self.clip_norm <= MOST_CLIP,
            f"clip_norm={self.clip_norm} must lie between {LEAST_CLIP:g} and {MOST_CLIP:g}",
        )
        check(
            self.noise_multiplier is None or LEAST_NOISE <= self.noise_multiplier <= MOST_NOISE,
            f"noise_multiplier={self.noise_multiplier} must be > 0, that is, lie between "
            f"{LEAST_NOISE} and {MOST_NOISE:g} (typical: 0.5 to 10)",
        )
        check(
            self.epsilon is not None or self.noise_multiplier is not None,
            f"mechanism={self.mechanism} needs epsilon (calibrates the noise) or noise_multiplier",
        )
        check(
            self.candidates is None or self.candidates >= 1,
            f"candidates={self.candidates} must be >= 1: this run is one of them",
        )
        budget = self.population_budget
        assert self.delta is not None
        check(
            budget is None or self.delta <= budget.delta,
            f"delta={self.delta} must not be above population_budget.delta="
            f"{budget and budget.delta}, at which all runs together are looked at",
        )
        self._check_mechanism()

    def _check_mechanism(self) -> None:
        kind = self.mechanism
        check(
            self.adaptive_clip is None or kind == "gaussian",
            f"adaptive_clip is for mechanism=gaussian, not for {kind}, whose account wants one "
            "clip norm. Leave it out",
        )
        check(
            self.bands is None or (kind == "banded" and self.bands >= 1),
            f"bands={self.bands} must be >= 1, and is for mechanism=banded",
        )
        check(
            not self.rounded_noise or kind in SUMS,
            f"rounded_noise is for noise on a sum ({', '.join(SUMS)}), not for mechanism={kind}",
        )

    @property
    def is_private(self) -> bool:
        """Whether there is a guarantee at all."""
        return self.mechanism != "none"

    @property
    def noises_sum(self) -> bool:
        """Whether the server clips updates and adds noise to their sum."""
        return self.mechanism in SUMS


LEAST_CLIP, MOST_CLIP = 1e-9, 1e9
"""Norms far below or above have squares that float32 does not hold."""

LEAST_NOISE, MOST_NOISE = 0.01, 1e6
"""Of less, a single round spends thousands; more is good for nothing but overflows."""

LEAST_DELTA = 1e-13
"""Of less, float64 does not tell a composition of privacy losses from none."""

SUMS = ("gaussian", "tree", "banded")
"""Mechanisms by which the server adds noise to the sum of clipped updates."""


class SamplingConfig(Config, frozen=True):
    """Which clients take part in a round.

    Attributes:
      kind: `all` clients every round; `poisson`: an independent coin flip per client; `fixed_size`:
        so many, drawn without replacement; `fixed_order`: one group of clients after the other, so
        that each takes part once an epoch.
      cohort_size: number of clients of a round: expected (poisson), exact (fixed_size), or at most
        (fixed_order).
      max_cohort_size: a poisson cohort that comes out larger is cut, by chance; the probability
        of that is part of delta.
      population: number of clients to train on. A plan takes it without reading data; a run whose
        data have another number stops.
    """

    kind: Literal["all", "poisson", "fixed_size", "fixed_order"] = "all"
    cohort_size: int | None = None
    max_cohort_size: int | None = None
    population: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "all":
            check(
                self.cohort_size is None,
                f"cohort_size={self.cohort_size} does not apply to kind=all; use kind: poisson",
            )
        else:
            check(
                self.cohort_size is not None and self.cohort_size >= 1,
                f"cohort_size={self.cohort_size} must be >= 1 with kind={self.kind}",
            )
        if self.max_cohort_size is not None:
            check(
                self.kind == "poisson",
                f"max_cohort_size={self.max_cohort_size} is for kind=poisson: no other cohort "
                f"varies. Leave it out of kind={self.kind}",
            )
            assert self.cohort_size is not None
            check(
                self.max_cohort_size > self.cohort_size,
                f"max_cohort_size={self.max_cohort_size} must be above cohort_size="
                f"{self.cohort_size}, by several times its square root",
            )
        check(
            self.population is None or self.population >= max(1, self.cohort_size or 1),
            f"population={self.population} must be >= 1 and >= cohort_size={self.cohort_size}",
        )
