"""The membership attack on clients: whoever has a low loss is said to have been in training.

An attacker that knows all examples of a client computes the model's mean loss on them, and
guesses by a threshold (Yeom, Giacomelli, Fredrikson, Jha, 2018, "Privacy Risk in Machine
Learning", whose examples are clients here). A model that treats the clients it has seen like
others leaves the attack to chance: an AUC of 0.5.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from privet.components.audit.config import AuditConfig
from privet.components.audit.separation import FALSE_POSITIVE_RATE, Groups


@dataclasses.dataclass(frozen=True)
class ClientLosses:
    """The mean loss of each attacked client.

    Attributes:
      members: of clients of the train split.
      non_members: of clients of the eval split.
    """

    members: Sequence[float]
    non_members: Sequence[float]


def attack(losses: ClientLosses, config: AuditConfig, seed: int) -> dict[str, Any]:
    """The `membership` of audit.json.

    Args:
      losses: at least one on each side.
      config: for the intervals.
      seed: of the bootstrap.
    """
    members, non_members = np.array(losses.members), np.array(losses.non_members)
    groups = Groups(-members, -non_members)
    roc = groups.roc()
    generator = np.random.default_rng([seed, 0])
    intervals = groups.intervals(config.bootstrap, config.confidence, generator)
    return {
        "attack": "loss_threshold",
        "unit": "client",
        "members": len(members),
        "non_members": len(non_members),
        "auc": roc.auc,
        "auc_interval": intervals["auc"],
        "advantage": roc.advantage,
        "advantage_interval": intervals["advantage"],
        "advantage_by_chance": advantage_by_chance(len(members), len(non_members)),
        "tpr": roc.tpr_at_low_fpr,
        "tpr_interval": intervals["tpr_at_low_fpr"],
        "fpr": FALSE_POSITIVE_RATE,
        "roc": roc.thinned(),
    }


def advantage_by_chance(members: int, non_members: int) -> float:
    """About the mean advantage where there is nothing to find.

    The advantage is the largest difference of two distribution functions, so never below 0. Of
    equal distributions, sqrt(m n / (m + n)) times it is above x with probability exp(-2 x^2) for
    many clients (Smirnov, 1939), which has the mean sqrt(2 pi) / 4.

    >>> round(advantage_by_chance(200, 50), 3)
    0.099
    """
    return math.sqrt(2 * math.pi) / 4 * math.sqrt(1 / members + 1 / non_members)
