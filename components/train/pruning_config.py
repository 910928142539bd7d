"""Settings of pruning in training: how many weights go, when, and which of them together."""

from typing import Literal

from privet.components.shared.configuration import Config, check
from privet.components.shared.sparsity import Pattern, Scope


class PruningConfig(Config, frozen=True):
    """Weights that the server sets to zero during training, and keeps there.

    Attributes:
      sparsity: share of the weights of every kernel that is zero in the end.
      schedule: `polynomial` (from initial_sparsity on, ever more slowly; Zhu and Gupta, 2017, "To
        Prune, or Not to Prune") or `constant` (all at begin_round).
      initial_sparsity: what a polynomial schedule begins with.
      begin_round: round after which the first masks are made; 0 for before the first. By default a
        tenth of the rounds.
      end_round: round after which a polynomial schedule makes the last ones. By default six tenths
        of the rounds.
      every: rounds between masks of a polynomial schedule; the last ones are always made.
      power: of the polynomial.
      scope: whether pruning takes the smallest weights of each kernel, or of all of them.
      pattern: which weights are pruned together: any; two of four in a row (`2:4`); or blocks.
      block: [rows, columns] of a block.
    """

    sparsity: float
    schedule: Literal["polynomial", "constant"] = "polynomial"
    initial_sparsity: float = 0.0
    begin_round: int | None = None
    end_round: int | None = None
    every: int = 1
    power: float = 3.0
    scope: Scope = "layer"
    pattern: Pattern = "unstructured"
    block: tuple[int, int] = (1, 4)

    def __post_init__(self) -> None:
        check(0 < self.sparsity < 1, f"sparsity={self.sparsity} must lie between 0 and 1")
        check(
            0 <= self.initial_sparsity <= self.sparsity,
            f"initial_sparsity={self.initial_sparsity} must lie between 0 and "
            f"sparsity={self.sparsity}",
        )
        for name in ("begin_round", "end_round"):
            value = getattr(self, name)
            check(value is None or value >= 0, f"{name}={value} must be >= 0")
        check(self.every >= 1, f"every={self.every} must be >= 1")
        check(self.power > 0, f"power={self.power} must be > 0 (typical: 3)")
        check(
            all(size >= 1 for size in self.block),
            f"block={list(self.block)} must be two sizes >= 1",
        )
        if self.schedule == "constant":
            check(
                self.initial_sparsity == 0
                and self.end_round is None
                and self.every == 1
                and self.power == 3,
                "schedule=constant prunes once, at begin_round: leave out initial_sparsity, "
                "end_round, every and power",
            )
        if self.pattern == "2:4":
            check(
                self.sparsity == 0.5 and self.schedule == "constant",
                "pattern=2:4 prunes half of the weights at once: set sparsity: 0.5 and schedule: "
                f"constant, not {self.sparsity} and {self.schedule}",
            )
            check(
                self.scope == "layer",
                "scope=global does not apply to pattern=2:4, which prunes half of every kernel",
            )

    def span(self, rounds: int) -> tuple[int, int]:
        """The first and the last round after which masks are made, of so many rounds."""
        begin = rounds // 10 if self.begin_round is None else self.begin_round
        if self.schedule == "constant":
            return begin, begin
        end = -(-6 * rounds // 10) if self.end_round is None else self.end_round
        return begin, end

    def check_rounds(self, rounds: int) -> None:
        """Checks that a training of so many rounds prunes to the end.

        Raises:
          ValueError: it does not.
        """
        begin, end = self.span(rounds)
        check(
            begin <= end <= rounds and (begin < end or self.schedule == "constant"),
            f"pruning from begin_round={begin} to end_round={end} does not fit into "
            f"rounds={rounds}: begin_round must come before end_round, and that not after the last "
            "round",
        )
