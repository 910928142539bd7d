"""What the trainings of a sweep have spent together."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from privet.components.shared import layout
from privet.components.shared.errors import PrivetError
from privet.pipeline import ledgers
from privet.pipeline.workdir import Workdir

_NOT_CHARGED = (
    "Choosing one of them is covered by no single run's epsilon and is NOT CHARGED: claim what all "
    "have spent together."
)

_OF_PRIVATE = ("epsilon", "delta", "unit", "neighbouring_relation")


def spent_together(root: Path) -> dict[str, Any]:
    """What all trainings of a sweep have spent, also those of points that the grid has no more.

    A training that has not finished has no ledger to add up; the note says where its rounds are.

    Args:
      root: the sweep's work directory.
    """
    pattern = f"points/*/artifacts/FederatedTrainer/ledger/*/{layout.LEDGER}"
    paths = sorted(root.glob(pattern))
    runs, reason = [], None if paths else "nothing has been trained"
    for path in paths:
        try:
            run = ledgers.read_ledger(str(path))
            runs.append(dataclasses.replace(run, source=str(path.relative_to(root))))
        except PrivetError as error:
            reason = reason or str(error)
    together = None
    if runs:
        try:
            together = ledgers.compose(runs)
        except PrivetError as error:
            reason = reason or str(error)
    return {
        "runs": len(paths),
        "together": None if reason else together,
        "no_total": reason and reason.replace(f"{root}/", ""),
        "private_runs": len(runs),
        "together_private": together and {name: together[name] for name in _OF_PRIVATE},
        "charged": False,
        "note": _NOT_CHARGED + _unfinished(root, paths),
    }


def _unfinished(root: Path, ledgers_found: Sequence[Path]) -> str:
    """Which points have begun noised rounds that no ledger tells of."""
    finished = {path.relative_to(root).parts[1] for path in ledgers_found}
    started = collections.Counter(
        entry.relative_to(root).parts[1]
        for point in sorted(root.glob("points/*"))
        for entry in Workdir.at(point).train_state.glob("*/journal/*")
        if entry.name.isdecimal()
    )
    left = ", ".join(f"{started[n]} of {n}" for n in started if n not in finished)
    return left and f" NOT IN IT: noised rounds of trainings that have not finished ({left})."
