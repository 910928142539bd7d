"""Settings of the audit."""

from privet.components.shared.configuration import Config, check


class AuditConfig(Config, frozen=True):
    """Attacks on the trained model, and what is made of the canaries in training.

    `guesses` and `confidence` are fixed before the run: a bound that was looked at first and then
    computed with other values is no longer valid.

    Attributes:
      membership: whether to attack: can the loss of a client tell that it was in training?
      clients: of the train and of the eval split that are attacked, at most.
      bootstrap: resamples that an interval is made of.
      confidence: of the intervals, and of the lower bound on epsilon.
      guesses: share of the canaries that the lower bound guesses: half of them to be in, the ones
        with the largest statistic, and half to be out, the ones with the smallest.
      delta: at which epsilon is estimated and bounded where the ledger has none.
    """

    membership: bool = True
    clients: int = 10_000
    bootstrap: int = 1000
    confidence: float = 0.95
    guesses: float = 0.5
    delta: float = 1e-5

    def __post_init__(self) -> None:
        check(self.clients >= 1, f"clients={self.clients} must be >= 1")
        check(
            self.bootstrap >= 100,
            f"bootstrap={self.bootstrap} must be >= 100: fewer resamples have no tails",
        )
        check(
            0.9 <= self.confidence < 1.0,
            f"confidence={self.confidence} must lie in [0.9, 1): by chance alone the audit would "
            "stop a sound run too often",
        )
        check(0.0 < self.guesses <= 1.0, f"guesses={self.guesses} must lie in (0, 1]")
        check(0.0 < self.delta < 1.0, f"delta={self.delta} must lie between 0 and 1")
