"""Epsilon of a run under each assumption about its cohorts, side by side.

One noise multiplier has many an epsilon: it depends on how cohorts are drawn and on what the
neighbouring data sets are. A number is worth what the run does to earn it, so each says so. That of
Poisson sampling is never computed for cohorts that are not drawn by coin flips.
"""

import dataclasses
from typing import Literal

import dp_accounting
from dp_accounting import rdp

from privet.components.shared.privacy_loss import COARSE, NOTHING, epsilon_by_rdp, epsilon_of
from privet.components.train.accounting import Accountant
from privet.components.train.mechanism import Mechanism

_TWICE = "replacing a client moves the sum by 2 x clip_norm"
_AS_QUOTED = f"as often quoted, with noise relative to clip_norm; but {_TWICE}"
_KNOWN = "no amplification: cohorts may be known"


@dataclasses.dataclass(frozen=True)
class Assumption:
    """What a run spends if an assumption about it holds.

    Attributes:
      sampling: how cohorts are drawn; `none`: however, nothing is amplified.
      relation: in what neighbouring data sets differ.
      accountant: `pld` is tight, `rdp` looser; both are upper bounds.
      epsilon: at the run's delta.
      earned: whether the run draws its cohorts and adds its noise as the bound asks.
      note: what to know before one quotes the number.
    """

    sampling: Literal["poisson", "fixed_size", "all", "fixed_order", "none"]
    relation: str
    accountant: Literal["pld", "rdp"]
    epsilon: float
    earned: bool
    note: str | None = None


def side_by_side(account: Accountant, epsilon: float) -> list[Assumption]:
    """The claim first, then what other assumptions would make of the same noise.

    Args:
      account: on which are all rounds of the run.
      epsilon: that it claims, by PLD.
    """
    mechanism = account.mechanism
    draws = mechanism.draws
    amplified = mechanism.kind == "gaussian" and draws.probability is not None
    sampling: Literal["poisson", "all", "fixed_order", "none"] = "none"
    if amplified:
        sampling = "poisson"
    elif draws.kind == "all" or draws.kind == "fixed_order":
        sampling = draws.kind
    rows = [
        Assumption(sampling, mechanism.relation, "pld", epsilon, True),
        Assumption(sampling, mechanism.relation, "rdp", account.epsilon_rdp(), True),
    ]
    if mechanism.kind != "gaussian" or draws.kind not in ("poisson", "fixed_size"):
        return rows
    # Statistics of ingestion were noised for one client more or less, not for another client.
    if account.before == NOTHING:
        if amplified:
            rows.append(_replacing(account, mechanism.noise_multiplier, False, _AS_QUOTED))
        rows.append(_replacing(account, mechanism.noise_multiplier / 2, not amplified, _TWICE))
    return rows + _unamplified(account) if amplified else rows


def _replacing(account: Accountant, noise: float, earned: bool, note: str) -> Assumption:
    """Cohorts of a fixed size, one client's data replaced by another's.

    (Wang, Balle, Kasiviswanathan, 2019, "Subsampled Rényi Differential Privacy and Analytical
    Moments Accountant", theorem 27.)

    Args:
      account: of the run.
      noise: standard deviation relative to what replacing a client can move.
      earned, note: see Assumption.
    """
    draws = account.mechanism.draws
    one = dp_accounting.SampledWithoutReplacementDpEvent(
        draws.clients, round(draws.expected_cohort), dp_accounting.GaussianDpEvent(noise)
    )
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    accountant = rdp.RdpAccountant(neighboring_relation=relation)
    accountant.compose(one, account.rounds * account.candidates)
    epsilon = float(accountant.get_epsilon(account.delta))
    return Assumption("fixed_size", "replace_one_client", "rdp", epsilon, earned, note)


def _unamplified(account: Accountant) -> list[Assumption]:
    """The same noise if nothing is assumed about who is in a round."""
    draws = dataclasses.replace(
        account.mechanism.draws, probability=None, overflow=0.0, fixed_places=True
    )
    mechanism = Mechanism("gaussian", draws, account.mechanism.noise_multiplier)
    event = Accountant(
        mechanism,
        account.delta,
        before=account.before,
        candidates=account.candidates,
        stretches=account.stretches,
    ).event
    tight = epsilon_of(event, account.delta, interval=COARSE)
    loose = epsilon_by_rdp(event, account.delta)
    return [
        Assumption("none", mechanism.relation, "rdp", loose, True, _KNOWN),
        Assumption("none", mechanism.relation, "pld", tight, True, _KNOWN),
    ]
