"""Settings of validation: the gate's rules, and how long a server may take."""

import math
from collections.abc import Sequence
from typing import Literal

from privet.components.shared.configuration import Config, check
from privet.components.validate.numbers import AUDIT_NUMBERS, LEDGER_NUMBERS, SLICES

MODELS = ("float", "compressed")
PERSONALIZED, GAIN = "personalized", "personalization_gain"
STATISTICS = ("mean", "p10", "p25", "p50", "p75", "p90", "worst", "worst_decile", "low", "high")
GAIN_STATISTICS = ("mean", "p10", "p50", "p90", "worst", "improved", "worsened")


class Rule(Config, frozen=True):
    """One condition on one number; exactly one of the limits is given.

    Attributes:
      metric: the number, by its name: see numbers.py. Examples: compressed.accuracy,
        compressed.accuracy.worst_decile, compressed.slices.age.old.accuracy, ledger.epsilon,
        audit.canaries.auc.
      lower_bound: the value must be at least this.
      upper_bound: the value must be at most this.
      max_worsening: by how much the value may be worse than that of another model, on the same
        clients.
      than: that other model: `blessed`, the last blessed one (the rule passes while there is
        none), or `float`, the trained model before compression.
    """

    metric: str
    lower_bound: float | None = None
    upper_bound: float | None = None
    max_worsening: float | None = None
    than: Literal["blessed", "float"] = "blessed"

    def __post_init__(self) -> None:
        limits = [self.lower_bound, self.upper_bound, self.max_worsening]
        check(
            sum(limit is not None for limit in limits) == 1,
            f"metric={self.metric} needs exactly one of lower_bound, upper_bound, max_worsening",
        )
        check(
            math.isfinite(self.limit),
            f"metric={self.metric}: {self.kind}={self.limit} must be finite",
        )
        check(
            self.max_worsening is None or self.metric.startswith("compressed."),
            f"max_worsening compares the compressed model, not metric={self.metric}",
        )
        check(
            self.max_worsening is not None or self.than == "blessed",
            f"than={self.than} is for max_worsening; metric={self.metric} has a bound instead",
        )

    @property
    def kind(self) -> str:
        """Which limit is given."""
        kinds = ("lower_bound", "upper_bound", "max_worsening")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def limit(self) -> float:
        """The limit's value."""
        return float(getattr(self, self.kind))

    @property
    def slice(self) -> tuple[str, str] | None:
        """The slice that the metric is of, and the metric's own name in it.

        >>> Rule(metric="float.slices.size.1-10.accuracy", lower_bound=0.5).slice
        ('size', 'accuracy')
        """
        parts = self.metric.split(".")
        if len(parts) < 5 or parts[1] != SLICES:
            return None
        return parts[2], parts[-1]


class GateConfig(Config, frozen=True):
    """The quality gate: a model is blessed if every rule holds. At least one rule is wanted."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        check(len(self.rules) > 0, "rules=[] would bless any model; give at least one rule")

    def check_metrics(
        self,
        metrics: Sequence[str],
        *,
        slices: Sequence[str] = (),
        personalized: bool = False,
        audited: Sequence[str] = (),
    ) -> None:
        """Checks that every rule names a number that the run will have.

        Args:
          metrics: of the evaluation.
          slices: names of its slices.
          personalized: whether the run fine-tunes the model on each client, and measures that.
          audited: parts of the audit: membership, canaries.

        Raises:
          ValueError: one does not; names those that exist.
        """
        models = (*MODELS, PERSONALIZED, GAIN) if personalized else MODELS
        valid = [f"{model}.{metric}" for model in models for metric in metrics]
        others = [f"ledger.{name}" for name in LEDGER_NUMBERS]
        others += [f"audit.{part}.{name}" for part in audited for name in AUDIT_NUMBERS[part]]
        in_slices = f", or as <model>.slices.<{'|'.join(slices)}>.<value>.<metric>"
        for rule in self.rules:
            model, _, _ = rule.metric.partition(".")
            statistics = GAIN_STATISTICS if model == GAIN else STATISTICS
            plain, _, statistic = rule.metric.rpartition(".")
            known = (
                rule.metric in (*valid, *others)
                or (plain in valid and statistic in statistics)
                or (rule.slice is not None and model in MODELS and _is_slice(rule, slices, metrics))
            )
            check(
                known,
                f"gate rule metric={rule.metric!r} names no number of this run{_needs(rule)}. "
                f"Valid: {', '.join((*valid, *others))}; the models' also with "
                f".{', .'.join(STATISTICS)} for the distribution over clients"
                f"{in_slices if slices else ''}",
            )


def _is_slice(rule: Rule, slices: Sequence[str], metrics: Sequence[str]) -> bool:
    assert rule.slice is not None
    name, metric = rule.slice
    return name in slices and metric in metrics


def _needs(rule: Rule) -> str:
    """Which setting is missing for a number, if it is one of those that want one."""
    if rule.metric.startswith((f"{PERSONALIZED}.", f"{GAIN}.")):
        return " without evaluate.personalization"
    if rule.metric.startswith("audit.canaries."):
        return " without train.canaries"
    return " without audit.membership" if rule.metric.startswith("audit.") else ""


class InfraConfig(Config, frozen=True):
    """How the candidate is tried on a real server.

    Attributes:
      timeout_seconds: for one server to start and load the model.
      requests: examples sent through each API.
      tolerance: largest absolute difference from the in-process model.
    """

    timeout_seconds: float = 120.0
    requests: int = 16
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check(self.timeout_seconds > 0, f"timeout_seconds={self.timeout_seconds} must be > 0")
        check(self.requests >= 1, f"requests={self.requests} must be >= 1")
        check(self.tolerance >= 0, f"tolerance={self.tolerance} must be >= 0")
