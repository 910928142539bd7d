"""Settings of validation: the gate's rules, and how long a server may take."""

from privet.components.shared import tasks
from privet.components.shared.configuration import Config, check
from privet.components.shared.schema import Task

MODELS = ("float", "compressed")
PERSONALIZATION = ("personalized", "personalization_gain")
STATISTICS = ("mean", "p10", "p50", "p90", "worst")
GAIN_STATISTICS = (*STATISTICS, "improved", "worsened")
LEDGER_METRICS = ("ledger.epsilon", "ledger.delta")


class Rule(Config, frozen=True):
    """One condition on one number; exactly one of the limits is given.

    Attributes:
      metric: `<model>.<metric>` for the overall figure, `<model>.<metric>.<statistic>` for one
        over clients (mean, p10, p50, p90, worst), or `ledger.epsilon`. Models: float,
        compressed; with personalization also `personalized` and `personalization_gain` (by how
        much the personal models are better; over clients also improved, worsened). Example:
        compressed.accuracy.p10.
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

    def check_metrics(self, task: Task, *, personalized: bool = False) -> None:
        """Checks that every rule names a number that a run of the task will have.

        Args:
          task: the prediction task.
          personalized: whether the run fine-tunes the model on each client, and measures that.

        Raises:
          ValueError: one does not; names those that exist.
        """
        models = (*MODELS, *PERSONALIZATION) if personalized else MODELS
        valid = [f"{model}.{name}" for model in models for name in tasks.metric_names(task)]
        valid += LEDGER_METRICS
        for rule in self.rules:
            plain, _, statistic = rule.metric.rpartition(".")
            known = rule.metric in valid or (
                plain in valid and statistic in _statistics(plain.partition(".")[0])
            )
            needs = "" if personalized else _needs_personalization(rule.metric)
            check(
                known,
                f"gate rule metric={rule.metric!r} names no number of a {task} run{needs}. Valid: "
                f"{', '.join(valid)}; the models' also with .{', .'.join(STATISTICS)} for the "
                "distribution over clients",
            )


def _statistics(model: str) -> tuple[str, ...]:
    """What a rule may name of a distribution over clients."""
    if model == "ledger":
        return ()
    return GAIN_STATISTICS if model == PERSONALIZATION[1] else STATISTICS


def _needs_personalization(metric: str) -> str:
    named = metric.partition(".")[0] in PERSONALIZATION
    return " without evaluate.personalization" if named else ""


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
