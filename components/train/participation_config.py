"""Settings of who reports in a round: clients that fail or are late, and asynchronous rounds."""

import math

from privet.components.shared.configuration import Config, check


class SimulationConfig(Config, frozen=True):
    """Clients that fail, as real ones do.

    Attributes:
      dropout_rate: chance of a client of a cohort to report nothing.
      late_rate: chance of a client to report a round late, with an update that was made with the
        weights of the round before.
      late_discount: how much such an update counts.
    """

    dropout_rate: float = 0.0
    late_rate: float = 0.0
    late_discount: float = 0.5

    def __post_init__(self) -> None:
        lost, late = self.dropout_rate, self.late_rate
        check(
            lost >= 0 and late >= 0 and lost + late < 1,
            f"dropout_rate={lost} and late_rate={late} must be >= 0 and below 1 together",
        )
        check(
            0 < self.late_discount <= 1,
            f"late_discount={self.late_discount} must lie in (0, 1]. For clients whose updates are "
            "not used at all set dropout_rate",
        )
        check(
            late > 0 or self.late_discount == 0.5,
            f"late_discount={self.late_discount} is for late_rate, which is 0",
        )


class AsynchronousConfig(Config, frozen=True):
    """FedBuff (Nguyen et al., 2022, "Federated Learning with Buffered Asynchronous Aggregation").

    Clients start at a steady rate, each with the weights of that moment, and take a half-normal
    time. The server steps whenever so many of them have reported.

    Attributes:
      buffer_size: updates to a step of the server; such a step is a round.
      concurrency: mean number of clients that train at the same time.
      staleness_exponent: an update that is s rounds old counts (1 + s) to the power of minus it.
      max_staleness: rounds after which an update is thrown away.
    """

    buffer_size: int
    concurrency: int
    staleness_exponent: float = 0.5
    max_staleness: int = 10

    def __post_init__(self) -> None:
        for name in ("buffer_size", "concurrency"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be >= 1")
        check(
            0 <= self.staleness_exponent < math.inf,
            f"staleness_exponent={self.staleness_exponent} must be >= 0 and finite",
        )
        check(self.max_staleness >= 0, f"max_staleness={self.max_staleness} must be >= 0")
