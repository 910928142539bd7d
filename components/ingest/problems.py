"""Why rows of a batch are refused: the first reason found for a row is the one that is told.

Reasons never quote a value: they may be shown to people who must not see the data.
"""

import numpy as np


class Problems:
    """The reasons found so far for the rows of a batch.

    >>> problems = Problems(3)
    >>> problems.mark(np.array([False, True, True]), "column x is missing")
    >>> problems.mark(np.array([True, True, False]), "column y is not a number")
    >>> problems.found()
    {0: 'column y is not a number', 1: 'column x is missing', 2: 'column x is missing'}
    """

    def __init__(self, rows: int):
        self._codes = np.zeros(rows, np.int32)
        self._reasons = [""]

    @property
    def fine(self) -> np.ndarray:
        """bool [rows]: no reason was found."""
        return self._codes == 0

    def mark(self, rows: np.ndarray, reason: str) -> None:
        """Refuses the rows (bool [rows]) that have no reason yet."""
        refused = rows & self.fine
        if refused.any():
            self._codes[refused] = self._code(reason)

    def mark_row(self, row: int, reason: str) -> None:
        """Refuses one row, unless it has a reason already."""
        if self._codes[row] == 0:
            self._codes[row] = self._code(reason)

    def found(self) -> dict[int, str]:
        """Row -> reason, of the refused rows."""
        return {int(row): self._reasons[self._codes[row]] for row in np.flatnonzero(self._codes)}

    def _code(self, reason: str) -> int:
        if reason not in self._reasons:
            self._reasons.append(reason)
        return self._reasons.index(reason)
