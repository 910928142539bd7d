"""Settings of training. What changes the guarantee is apart from what does not."""

import math
from typing import Literal

from privet.components.shared.configuration import Config, check


class OptimizerConfig(Config, frozen=True):
    """An optimizer of tff.learning.optimizers, by name.

    Attributes:
      learning_rate: step size.
      name: sgd, adam, adagrad, rmsprop or yogi.
      momentum: for sgd only.
    """

    learning_rate: float
    name: Literal["sgd", "adam", "adagrad", "rmsprop", "yogi"] = "sgd"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be > 0")
        check(0.0 <= self.momentum < 1.0, f"momentum={self.momentum} must lie in [0, 1)")
        check(
            self.momentum == 0.0 or self.name == "sgd",
            f"momentum={self.momentum} applies to sgd only, not to {self.name}",
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
    """

    mechanism: Literal["gaussian", "none"]
    epsilon: float | None = None
    delta: float | None = None
    clip_norm: float | None = None
    noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        if self.mechanism == "none":
            given = {
                name: value
                for name in ("epsilon", "delta", "clip_norm", "noise_multiplier")
                if (value := getattr(self, name)) is not None
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


AUTO_BEAM_COHORT = 100_000
"""Clients in a cohort above which `engine: auto` takes Beam."""


class TrainConfig(Config, frozen=True):
    """Federated training.

    Attributes:
      privacy: the guarantee; see PrivacyConfig.
      sampling: the cohort of a round.
      rounds: rounds of training at most.
      local_epochs, batch_size: what a client does in a round.
      max_steps: batches that a client trains on in a round, at most.
      initial_weights: a Keras model (SavedModel folder, .keras or .h5) to start from; by default
        the model function's own initial weights. It must be public.
      client_optimizer, server_optimizer: by name and learning rate.
      proximal_strength: FedProx's pull of a client's weights to the global ones; 0 for FedAvg.
      gradient_clip_norm: global L2 norm that the gradient of a batch is scaled down to.
      weight_by: `client` (all count the same) or `examples`, which is refused with privacy.
      engine: `compiled` (one program per block of clients, in this process), `beam` (the same
        program in Beam's workers), `tff` (TensorFlow Federated's own runtime), or `auto`:
        `compiled`, but `beam` where the runner is not local or a cohort is larger than
        AUTO_BEAM_COHORT.
      xla: whether XLA compiles the program of a block; `auto` times both on the first block.
      evaluate_every: evaluate the global model on the eval clients every so many rounds (and
        after the last); 0 for never. These numbers are not private and never leave the report.
    """

    privacy: PrivacyConfig
    sampling: SamplingConfig = SamplingConfig()
    rounds: int = 30
    local_epochs: int = 1
    batch_size: int = 16
    max_steps: int | None = None
    initial_weights: str | None = None
    client_optimizer: OptimizerConfig = OptimizerConfig(learning_rate=0.1)
    server_optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1.0)
    proximal_strength: float = 0.0
    gradient_clip_norm: float | None = None
    weight_by: Literal["client", "examples"] = "client"
    engine: Literal["auto", "compiled", "beam", "tff"] = "auto"
    xla: Literal["auto", "on", "off"] = "auto"
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        for name in ("rounds", "local_epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be >= 1")
        check(
            self.max_steps is None or self.max_steps >= 1,
            f"max_steps={self.max_steps} must be >= 1, or left out for all batches",
        )
        check(self.evaluate_every >= 0, f"evaluate_every={self.evaluate_every} must be >= 0")
        check(
            0 <= self.proximal_strength < math.inf,
            f"proximal_strength={self.proximal_strength} must be >= 0 and finite",
        )
        check(
            self.gradient_clip_norm is None or 0 < self.gradient_clip_norm < math.inf,
            f"gradient_clip_norm={self.gradient_clip_norm} must be > 0 and finite",
        )
        check(
            self.weight_by == "client" or self.privacy.mechanism == "none",
            "weight_by=examples lets a client with many examples move the sum by more than "
            "privacy.clip_norm, which no epsilon allows for. Set weight_by: client, or "
            "privacy.mechanism: none",
        )
