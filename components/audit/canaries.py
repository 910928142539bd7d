"""What the canaries of training tell: clients made of chance, of whom a coin let half take part.

Training measures how much each canary, in or out, points into the direction of what was released
(canaries.json, see docs/artifacts.md). Everything here is a function of these released, noised
numbers and of coins: what is made of it is covered by epsilon, as the model is.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from privet.components.audit import lower_bound
from privet.components.audit.config import AuditConfig
from privet.components.audit.gaussian_fit import estimate_epsilon
from privet.components.audit.separation import Groups
from privet.components.shared import files, layout
from privet.components.shared.errors import PrivacyError, StoreError

STATISTIC = "all_iterates"
"""What guesses go by: whoever saw what the rounds released could compute it, and it finds a canary
that was in few of them. Fixed: choosing the better of the two afterwards would void the bound."""

_BINS = 20


@dataclasses.dataclass(frozen=True)
class Canaries:
    """The canaries of a run.

    Attributes:
      included: bool [canaries], the coins.
      all_iterates: float64 [canaries], the largest cosine with what a round released.
      final: float64 [canaries], the cosine with what training changed in the end.
      overhead: share of the rounds' time that they took; None where no time was measured.
    """

    included: np.ndarray
    all_iterates: np.ndarray
    final: np.ndarray
    overhead: float | None


class _File(msgspec.Struct, frozen=True):
    """The part of canaries.json that is read here."""

    schema: Literal[1]
    private: bool
    count: int
    rounds: int
    included: list[bool]
    all_iterates: list[float]
    final: list[float]
    seconds: float
    seconds_of_rounds: float


def read_canaries(history: str, ledger: Mapping[str, Any]) -> Canaries | None:
    """The canaries of a TrainingHistory; None if training had none.

    Args:
      history: folder of the artifact.
      ledger: content of the privacy_ledger.json of the same training.

    Raises:
      StoreError: their file is damaged.
      PrivacyError: it contradicts the ledger, or is missing.
    """
    path = files.join(history, layout.CANARIES)
    if not files.exists(path):
        if ledger["canaries"]:
            raise PrivacyError(
                f"{layout.LEDGER} says that canaries={ledger['canaries']} were in training, but "
                f"there is no {path}, so the ledger cannot be held against them. Put the file back."
            )
        return None
    try:
        file = msgspec.json.decode(files.read_bytes(path), type=_File)
    except msgspec.DecodeError as error:
        raise StoreError(f"{path} is not what training writes: {error}. Train again.") from error
    lengths = {name: len(getattr(file, name)) for name in ("included", "all_iterates", "final")}
    if file.count < 1 or set(lengths.values()) != {file.count}:
        found = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise StoreError(
            f"{path} says count={file.count}, and holds {found}. All of them must be as many, and "
            "one at least. Train again."
        )
    _check_against_ledger(file, ledger)
    return Canaries(
        np.array(file.included, bool),
        np.array(file.all_iterates),
        np.array(file.final),
        file.seconds / file.seconds_of_rounds if file.seconds_of_rounds > 0 else None,
    )


def judge(canaries: Canaries, delta: float, config: AuditConfig, seed: int) -> dict[str, Any]:
    """The `canaries` of audit.json.

    Args:
      canaries: of the run.
      delta: at which epsilon is estimated and bounded.
      config: how many guesses are made, with which confidence.
      seed: of the bootstrap.
    """
    included, statistic, final = canaries.included, canaries.all_iterates, canaries.final
    groups, final_groups = (_groups(values, included) for values in (statistic, final))
    generator = np.random.default_rng([seed, 1])
    guesses = lower_bound.number_of_guesses(len(included), config.guesses)
    correct = lower_bound.correct_guesses(statistic, included, guesses)
    edges = np.histogram_bin_edges(statistic, _BINS)
    return {
        "count": len(included),
        "included": int(included.sum()),
        "statistic": STATISTIC,
        "auc": groups and groups.roc().auc,
        "auc_interval": groups
        and groups.intervals(config.bootstrap, config.confidence, generator)["auc"],
        "epsilon_estimate": estimate_epsilon(statistic[included], statistic[~included], delta),
        "final": {
            "auc": final_groups and final_groups.roc().auc,
            "epsilon_estimate": estimate_epsilon(final[included], final[~included], delta),
        },
        "lower_bound": {
            "epsilon": lower_bound.epsilon_lower_bound(
                len(included), guesses, correct, delta, config.confidence
            ),
            "ceiling": lower_bound.ceiling(len(included), config.guesses, delta, config.confidence),
            "confidence": config.confidence,
            "guesses": guesses,
            "correct": correct,
            "delta": delta,
            "source": lower_bound.SOURCE,
        },
        "histogram": {
            "edges": edges.tolist(),
            "included": np.histogram(statistic[included], edges)[0].tolist(),
            "excluded": np.histogram(statistic[~included], edges)[0].tolist(),
        },
        "overhead": canaries.overhead,
    }


def _groups(statistic: np.ndarray, included: np.ndarray) -> Groups | None:
    """Canaries that were in against those that were not; None where all coins came up the same."""
    if included.all() or not included.any():
        return None
    return Groups(statistic[included], statistic[~included])


def _check_against_ledger(file: _File, ledger: Mapping[str, Any]) -> None:
    """Checks that canaries and ledger are of one training."""
    other = (
        "They are not of the same training, or one was changed. Do not publish the model; train "
        "again."
    )
    if file.private != ledger["private"]:
        raise PrivacyError(
            f"{layout.CANARIES} says private={file.private}, {layout.LEDGER} says "
            f"private={ledger['private']}. {other}"
        )
    if file.count != ledger["canaries"]:
        raise PrivacyError(
            f"{layout.CANARIES} is about count={file.count} canaries, {layout.LEDGER} about "
            f"canaries={ledger['canaries']}. {other}"
        )
    if file.rounds != ledger["rounds"]:
        raise PrivacyError(
            f"{layout.CANARIES} is about rounds={file.rounds}; wanted the "
            f"rounds={ledger['rounds']} of {layout.LEDGER}. {other}"
        )
