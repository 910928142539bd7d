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


class PrivacyConfig(Config, frozen=True):
    """The guarantee. There is no default: a run without privacy says `mechanism: none`.

    Attributes:
      mechanism: `gaussian` (clip every client's update, add Gaussian noise to their sum) or
        `none`.
      epsilon: the budget. Without noise_multiplier the noise is calibrated to spend it in
        `rounds`; training stops before a round that would exceed it.
      delta: probability of failure that the epsilon is stated at; below 1 / clients.
      clip_norm: L2 norm that a client's update is scaled down to.
      noise_multiplier: standard deviation of the noise in units of clip_norm.
      adaptive_clip: lets the clip norm, which begins at clip_norm, follow a quantile; the
        noise_multiplier is then that of both noises together.
    """

    mechanism: Literal["gaussian", "none"]
    epsilon: float | None = None
    delta: float | None = None
    clip_norm: float | None = None
    noise_multiplier: float | None = None
    adaptive_clip: AdaptiveClipConfig | None = None

    def __post_init__(self) -> None:
        if self.mechanism == "none":
            promises = ("epsilon", "delta", "clip_norm", "noise_multiplier", "adaptive_clip")
            given = {name: value for name in promises if (value := getattr(self, name)) is not None}
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
            self.delta is not None and 0 < self.delta < 1,
            f"delta={self.delta} must lie between 0 and 1 (typical: 1e-5, below 1 / clients)",
        )
        check(
            self.clip_norm is not None and 0 < self.clip_norm < math.inf,
            f"clip_norm={self.clip_norm} must be > 0 and finite",
        )
        check(
            self.noise_multiplier is None or 0 < self.noise_multiplier < math.inf,
            f"noise_multiplier={self.noise_multiplier} must be > 0 and finite",
        )
        check(
            self.epsilon is not None or self.noise_multiplier is not None,
            "mechanism=gaussian needs epsilon (calibrates the noise) or noise_multiplier",
        )


class SamplingConfig(Config, frozen=True):
    """Which clients take part in a round.

    Attributes:
      kind: `all` clients every round, or `poisson`: an independent coin flip per client.
      cohort_size: expected number of clients of a poisson round.
    """

    kind: Literal["all", "poisson"] = "all"
    cohort_size: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "poisson":
            check(
                self.cohort_size is not None and self.cohort_size >= 1,
                f"cohort_size={self.cohort_size} must be >= 1 with kind=poisson",
            )
        else:
            check(
                self.cohort_size is None,
                f"cohort_size={self.cohort_size} does not apply to kind=all; use kind: poisson",
            )
