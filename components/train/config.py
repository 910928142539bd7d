"""Settings of training; what changes the guarantee is in privacy_config.py."""

import math
from typing import Literal

from privet.components.shared import tasks
from privet.components.shared.configuration import Config, check
from privet.components.shared.schema import Task
from privet.components.train.canaries_config import CanariesConfig
from privet.components.train.early_stop_config import EarlyStopConfig
from privet.components.train.optimizer_config import OptimizerConfig, ScheduleConfig
from privet.components.train.participation_config import AsynchronousConfig, SimulationConfig
from privet.components.train.privacy_config import SUMS, PrivacyConfig, SamplingConfig
from privet.components.train.pruning_config import PruningConfig
from privet.components.train.quantization_aware_config import QuantizationAwareConfig
from privet.components.train.robust_config import RobustConfig

ADAPTIVE = {"fed_adam": "adam", "fed_yogi": "yogi", "fed_adagrad": "adagrad"}
"""Algorithm -> the server's optimizer that it is named after (Reddi et al., 2021)."""

AUTO_BEAM_COHORT = 100_000
"""Clients in a cohort above which `engine: auto` takes Beam."""


_CLIENT_OPTIMIZER = OptimizerConfig(learning_rate=0.1)


class TrainConfig(Config, frozen=True):
    """Federated training.

    Attributes:
      privacy: the guarantee; see PrivacyConfig.
      algorithm: fed_avg, fed_prox, fed_sgd, mime_lite, scaffold, or fed_adam, fed_yogi and
        fed_adagrad, which are fed_avg with that optimizer on the server; see algorithms.py.
      sampling: the cohort of a round.
      rounds: rounds of training at most.
      local_epochs, batch_size: what a client does in a round.
      max_steps: batches that a client trains on in a round, at most.
      initial_weights: a Keras model (SavedModel folder, .keras or .h5) to start from; by default
        the model function's own initial weights. It must be public.
      client_optimizer, server_optimizer: by name and learning rate.
      proximal_strength: fed_prox's pull of a client's weights to the global ones.
      gradient_clip_norm: global L2 norm that the gradient of a batch is scaled down to.
      weight_by: `client` (all count the same) or `examples`, which is refused with privacy.
      robust_aggregation: in place of the mean; refused with privacy.
      update_bits: bits for each value of a client's update on its way up (stochastic
        quantization); by default the 32 of float32.
      pruning: weights that are set to zero during training; see PruningConfig.
      update_rotation: `hadamard` rotates each tensor at random before it is quantized, which brings
        its largest values near the others, and so the levels closer together.
      update_code: `deflate` makes messages of levels shorter where that is possible; their bytes
        are then measured. Refused with privacy: how long a message is tells about the client.
      quantization_aware: training that rounds as the int8 model will, with ranges of activations
        that train; see QuantizationAwareConfig.
      canaries: synthetic clients that are put into training to audit it; see CanariesConfig.
      simulation: clients that drop out or are late.
      asynchronous: buffered asynchronous rounds, in place of cohorts by `sampling`.
      engine: `compiled` (one program per block of clients, in this process), `beam` (the same
        program in Beam's workers), `tff` (TensorFlow Federated's own runtime), or `auto`:
        `compiled`, but `beam` where the runner is not local or a cohort is larger than
        AUTO_BEAM_COHORT.
      xla: whether XLA compiles the program of a block; `auto` times both on the first block, but
        takes TensorFlow's where clients add noise.
      evaluate_every: evaluate the global model on the eval clients every so many rounds (and
        after the last); 0 for never. These numbers are not private and never leave the report.
      public_eval: states that the eval split holds public data, of which nothing is to be kept.
      early_stop: when to end before `rounds`; see EarlyStopConfig. With privacy it wants
        public_eval, since the model then depends on the eval clients.
      checkpoint_every: save the state of training every so many rounds; 0 for only at its end.
    """

    privacy: PrivacyConfig
    algorithm: Literal[
        "fed_avg",
        "fed_prox",
        "fed_sgd",
        "mime_lite",
        "scaffold",
        "fed_adam",
        "fed_yogi",
        "fed_adagrad",
    ] = "fed_avg"
    sampling: SamplingConfig = SamplingConfig()
    rounds: int = 30
    local_epochs: int = 1
    batch_size: int = 16
    max_steps: int | None = None
    initial_weights: str | None = None
    client_optimizer: OptimizerConfig = _CLIENT_OPTIMIZER
    server_optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1.0)
    proximal_strength: float = 0.0
    gradient_clip_norm: float | None = None
    weight_by: Literal["client", "examples"] = "client"
    robust_aggregation: RobustConfig | None = None
    update_bits: Literal[4, 8] | None = None
    pruning: PruningConfig | None = None
    update_rotation: Literal["hadamard"] | None = None
    update_code: Literal["deflate"] | None = None
    quantization_aware: QuantizationAwareConfig | None = None
    canaries: CanariesConfig | None = None
    simulation: SimulationConfig = SimulationConfig()
    asynchronous: AsynchronousConfig | None = None
    engine: Literal["auto", "compiled", "beam", "tff"] = "auto"
    xla: Literal["auto", "on", "off"] = "auto"
    evaluate_every: int = 1
    public_eval: bool = False
    early_stop: EarlyStopConfig | None = None
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name in ("rounds", "local_epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be >= 1")
        check(
            self.max_steps is None or self.max_steps >= 1,
            f"max_steps={self.max_steps} must be >= 1, or left out for all batches",
        )
        for name in ("evaluate_every", "checkpoint_every"):
            check(getattr(self, name) >= 0, f"{name}={getattr(self, name)} must be >= 0")
        if self.early_stop is not None:
            check(
                self.evaluate_every > 0,
                "early_stop needs evaluations, but evaluate_every=0. Set evaluate_every: 1",
            )
            check(
                self.public_eval or not self.privacy.is_private,
                "early_stop lets the model depend on the eval clients, whom no epsilon covers. "
                "Leave it out, or set public_eval: true if the eval split holds public data",
            )
        check(
            self.gradient_clip_norm is None or 0 < self.gradient_clip_norm < math.inf,
            f"gradient_clip_norm={self.gradient_clip_norm} must be > 0 and finite",
        )
        if self.pruning is not None:
            self.pruning.check_rounds(self.rounds)
        self._check_algorithm()
        self._check_compression()
        self._check_privacy()
        self._check_simulation()
        self._check_canaries()
        self._check_engine()

    def _check_algorithm(self) -> None:
        name, strength = self.algorithm, self.proximal_strength
        if name == "fed_prox":
            check(
                0 < strength < math.inf,
                f"proximal_strength={strength} must be > 0 and finite with algorithm=fed_prox",
            )
        else:
            check(
                strength == 0,
                f"proximal_strength={strength} applies to algorithm=fed_prox, not to {name}",
            )
        given = self.server_optimizer.name
        check(
            name not in ADAPTIVE or given in (None, ADAPTIVE[name]),
            f"algorithm={name} is fed_avg with server_optimizer.name={ADAPTIVE.get(name)}, not "
            f"{given}. Leave one of the two out",
        )
        stepping: dict[str, str | None] = {
            "client_optimizer": self.client_optimizer.name,
            "server_optimizer": given or ADAPTIVE.get(name),
        }
        for side, chosen in stepping.items():
            optimizer = getattr(self, side)
            check(
                optimizer.adaptivity is None or chosen is not None,
                f"{side}.adaptivity={optimizer.adaptivity} does not apply to sgd",
            )
            check(
                optimizer.momentum == 0 or chosen in (None, "sgd"),
                f"{side}.momentum={optimizer.momentum} applies to sgd only, not to {chosen}",
            )
            warmup = optimizer.schedule.warmup_rounds
            check(
                warmup <= self.rounds,
                f"{side}.schedule.warmup_rounds={warmup} exceeds rounds={self.rounds}",
            )
        if name == "fed_sgd":
            check(
                self.local_epochs == 1
                and self.gradient_clip_norm is None
                and self.client_optimizer == _CLIENT_OPTIMIZER,
                "algorithm=fed_sgd takes no step on the client: leave out local_epochs, "
                "client_optimizer and gradient_clip_norm",
            )
        if name == "scaffold":
            check(
                self.client_optimizer.name in (None, "sgd")
                and self.client_optimizer.momentum == 0
                and self.gradient_clip_norm is None,
                "algorithm=scaffold corrects plain gradient steps: set client_optimizer.name: sgd, "
                "and leave out momentum and gradient_clip_norm",
            )
            check(
                self.weight_by == "client",
                "algorithm=scaffold weighs clients equally: set weight_by: client",
            )
            check(
                self.update_bits is None,
                "algorithm=scaffold keeps exact control variates on both sides: leave out "
                "update_bits",
            )
        if self.robust_aggregation is not None:
            check(
                name not in ("mime_lite", "scaffold"),
                f"robust_aggregation does not cover what algorithm={name} aggregates beside the "
                "update. Set algorithm: fed_avg",
            )
            check(
                self.weight_by == "client",
                "robust_aggregation weighs clients equally: set weight_by: client",
            )

    def _check_compression(self) -> None:
        for name in ("update_rotation", "update_code"):
            given = getattr(self, name)
            check(
                given is None or self.update_bits is not None,
                f"{name}={given} is for quantized updates: set update_bits: 8 or 4, or leave it "
                "out",
            )
        check(
            self.update_code is None or self.robust_aggregation is None,
            "update_code and robust_aggregation both want each client's update out of the program: "
            "leave one of the two out",
        )
        for name in ("update_rotation", "update_code"):
            check(
                self.pruning is None or getattr(self, name) is None,
                f"{name} makes messages of all values, pruned ones too, which pruning leaves out: "
                "leave one of the two out",
            )

    def _check_privacy(self) -> None:
        if not self.privacy.is_private:
            return
        self._check_mechanism()
        check(
            self.weight_by == "client",
            "weight_by=examples lets a client with many examples move the sum by more than "
            "privacy.clip_norm, which no epsilon allows for. Set weight_by: client, or "
            "privacy.mechanism: none",
        )
        check(
            self.algorithm not in ("mime_lite", "scaffold"),
            f"algorithm={self.algorithm} aggregates more than the update, without noise, which no "
            "epsilon covers. Set algorithm: fed_avg, or privacy.mechanism: none",
        )
        check(
            self.robust_aggregation is None,
            "robust_aggregation is no sum: how far one client moves it is not known, so no noise "
            "can be calibrated to it. Leave it out (clipping bounds each client as well), or set "
            "privacy.mechanism: none",
        )
        check(
            self.update_code is None,
            f"update_code={self.update_code} makes the length of a client's message depend on its "
            "data, which whoever sees the message pass learns and no epsilon covers. Leave it out "
            "(update_bits and update_rotation give messages of one length), or set "
            "privacy.mechanism: none",
        )
        check(
            self.asynchronous is None and self.simulation.late_rate == 0,
            "with asynchronous or simulation.late_rate a client may be in a round several times, "
            "which the accounting of rounds does not cover. Leave them out, or set "
            "privacy.mechanism: none",
        )

    def _check_mechanism(self) -> None:
        kind = self.privacy.mechanism
        if kind in ("tree", "banded"):
            check(
                self.sampling.kind == "fixed_order",
                f"mechanism={kind} correlates noise over rounds, which protects a client that "
                "takes part once an epoch. Set sampling.kind: fixed_order, or privacy.mechanism: "
                f"gaussian for sampling.kind={self.sampling.kind}",
            )
        if kind in ("local", "example"):
            check(
                self.sampling.kind != "poisson" or self.sampling.max_cohort_size is None,
                f"max_cohort_size is for amplification, of which mechanism={kind} has none. Leave "
                "it out",
            )
            check(
                self.xla != "on",
                f"xla=on is not for mechanism={kind}, whose clients draw noise: XLA would draw "
                "other numbers than TensorFlow, so its program cannot be checked against it. Set "
                "xla: auto or off",
            )
        if kind == "example":
            check(
                self.algorithm != "fed_sgd" and self.local_epochs == 1,
                "mechanism=example wants an example in one batch of a round only: set "
                f"local_epochs: 1 (not {self.local_epochs}) and algorithm: fed_avg, and train for "
                "more rounds instead",
            )
            check(
                self.gradient_clip_norm is None,
                "mechanism=example clips the gradient of each example to privacy.clip_norm: leave "
                "out gradient_clip_norm",
            )

    def _check_simulation(self) -> None:
        late = self.simulation.late_rate > 0
        if self.asynchronous is not None:
            check(
                self.sampling == SamplingConfig() and not late,
                "asynchronous decides who reports when: leave out sampling and "
                "simulation.late_rate",
            )
        if self.asynchronous is not None or late:
            check(
                self.algorithm not in ("mime_lite", "scaffold") and self.robust_aggregation is None,
                "asynchronous and simulation.late_rate are for means of updates: leave out "
                f"robust_aggregation, and set algorithm: fed_avg in place of {self.algorithm}",
            )

    def _check_canaries(self) -> None:
        canaries, mechanism = self.canaries, self.privacy.mechanism
        if canaries is None:
            return
        check(
            mechanism in ("none", *SUMS),
            f"canaries are added to the sum that the server noises, of which mechanism={mechanism} "
            f"has none. Leave them out, or set privacy.mechanism: {', '.join(SUMS)} or none",
        )
        check(
            canaries.norm is None or mechanism == "none",
            f"canaries.norm={canaries.norm} is for mechanism=none: with privacy a canary has the "
            "clip norm. Leave it out",
        )
        check(
            self.algorithm not in ("mime_lite", "scaffold") and self.robust_aggregation is None,
            f"canaries are added to a sum of updates: leave out robust_aggregation, and set "
            f"algorithm: fed_avg in place of {self.algorithm}",
        )
        check(
            self.weight_by == "client",
            "a canary has no examples that weight_by=examples could count. Set weight_by: client",
        )
        check(
            self.asynchronous is None,
            "canaries take part as `sampling` draws clients, which asynchronous does without. "
            "Leave one of the two out",
        )
        check(
            self.engine != "tff",
            "engine=tff gives nobody access to its sums, which canaries are added to. Set engine: "
            "compiled or beam",
        )

    def _check_engine(self) -> None:
        if self.engine != "tff":
            return
        check(
            not self.privacy.is_private,
            "engine=tff draws a round's noise from 32 random bits, since TensorFlow's generator "
            "takes no more: one can try them all and take the noise away. Set engine: compiled or "
            "beam, or privacy.mechanism: none",
        )
        without = {
            "algorithm=scaffold": self.algorithm == "scaffold",
            "robust_aggregation": self.robust_aggregation is not None,
            "update_bits with algorithm=mime_lite": self.update_bits is not None
            and self.algorithm == "mime_lite",
            "update_rotation": self.update_rotation is not None,
            "update_code": self.update_code is not None,
            "asynchronous": self.asynchronous is not None,
            "simulation.late_rate": self.simulation.late_rate > 0,
            "client_optimizer.schedule with algorithm=mime_lite": self.algorithm == "mime_lite"
            and self.client_optimizer.schedule != ScheduleConfig(),
        }
        asked = [name for name, given in without.items() if given]
        check(
            not asked,
            f"engine=tff has no {', '.join(asked)}: TensorFlow Federated 0.87 has none. Set "
            "engine: compiled or beam",
        )

    def check_metrics(self, task: Task) -> None:
        """Checks that early_stop names a metric of the task.

        Raises:
          ValueError: it does not.
        """
        valid = tasks.metric_names(task)
        check(
            self.early_stop is None or self.early_stop.metric in valid,
            f"train.early_stop.metric={self.early_stop and self.early_stop.metric} is no metric of "
            f"a {task} run. Valid: {', '.join(valid)}",
        )
