"""Settings of validation: the gate's rules, and how long a server may take."""

from privet.components.shared import tasks
from privet.components.shared.configuration import Config, check
from privet.components.shared.schema import Task

MODELS = ("float", "compressed")
STATISTICS = ("mean", "p10", "p50", "p90", "worst")
LEDGER_METRICS = ("ledger.epsilon", "ledger.delta")


class Rule(Config, frozen=True):
    """One condition on one number; exactly one of the limits is given.

    Attributes:
      metric: `<model>.<metric>` for the overall figure, `<model>.<metric>.<statistic>` for one
        over clients (mean, p10, p50, p90, worst), or `ledger.epsilon`. Models: float,
        compressed. Example: compressed.accuracy.p10.
      lower_bound: the value must be at least this.
      upper_bound: the value must be at most this.
      max_worsening: how much worse than the last blessed model's the value may be, on the same
        clients; passes when there is no blessed model yet.
    """

    metric: str
    lower_bound: float | None = None
    upper_bound: float | None = None
    max_worsening: float | None = None

    def __post_init__(self) -> None:
        limits = [self.lower_bound, self.upper_bound, self.max_worsening]
        check(
            sum(limit is not None for limit in limits) == 1,
            f"metric={self.metric} needs exactly one of lower_bound, upper_bound, max_worsening",
        )
        check(
            self.max_worsening is None or self.metric.startswith("compressed."),
            f"max_worsening compares the compressed model, not metric={self.metric}",
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


class GateConfig(Config, frozen=True):
    """The quality gate: a model is blessed if every rule holds. At least one rule is wanted."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        check(len(self.rules) > 0, "rules=[] would bless any model; give at least one rule")

    def check_metrics(self, task: Task) -> None:
        """Checks that every rule names a number that a run of the task will have.

        Raises:
          ValueError: one does not; names those that exist.
        """
        valid = [f"{model}.{name}" for model in MODELS for name in tasks.metric_names(task)]
        valid += LEDGER_METRICS
        for rule in self.rules:
            plain, _, statistic = rule.metric.rpartition(".")
            known = rule.metric in valid or (
                plain in valid and plain not in LEDGER_METRICS and statistic in STATISTICS
            )
            check(
                known,
                f"gate rule metric={rule.metric!r} names no number of a {task} run. Valid: "
                f"{', '.join(valid)}; the models' also with .{', .'.join(STATISTICS)} for the "
                "distribution over clients",
            )


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
