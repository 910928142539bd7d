"""What several runs over the same clients have spent together, out of their ledgers."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dp_accounting

from privet.components.shared import events, files, layout
from privet.components.shared.errors import ConfigError, PrivacyError, StoreError
from privet.components.shared.privacy_loss import epsilon_by_rdp, epsilon_of, in_sequence
from privet.components.train.accounting import Accountant
from privet.components.train.mechanism import common_relation
from privet.pipeline.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Spent:
    """What one run has spent, or would.

    Attributes:
      source: the ledger's path, or the configuration's name.
      unit: what its guarantee is about.
      relation: in what neighbouring data sets differ.
      event: all that it released.
      epsilon, delta: its own guarantee.
      lost: chance of a cohort having been cut; see accounting.Accountant.
      clients: that it trained on.
    """

    source: str
    unit: str
    relation: str
    event: dp_accounting.DpEvent
    epsilon: float
    delta: float
    lost: float
    clients: int


def read_ledger(path: str) -> Spent:
    """What a run has spent.

    Args:
      path: privacy_ledger.json, the folder that holds it, or a work directory, of whose last run it
        then is.

    Raises:
      StoreError: there is no ledger, or it is damaged.
      PrivacyError: it makes no claim that could be added to others.
    """
    file = _ledger_file(Path(path))
    try:
        content = files.read_json(str(file))
    except ValueError as error:
        raise StoreError(
            f"{file} is not JSON: {error}. Put it back as the run wrote it."
        ) from error
    if not isinstance(content, dict) or content.get("schema") != 1:
        raise StoreError(f"{file} is not a {layout.LEDGER} of schema 1. Give the one of a run.")
    if content.get("private") is not True:
        raise PrivacyError(
            f"{file} says private: {str(content.get('private')).lower()}: its run has no "
            "guarantee, so there is none for it and other runs on the same clients together."
        )
    if "event" not in content:
        raise StoreError(
            f"{file} has no `event`: an earlier version of Privet wrote it, which did not record "
            "what was released in a form that composes. Run again with this version."
        )
    try:
        sampling = content["sampling"]
        cut = sampling["overflow_probability"] * content["rounds_counted"] * content["candidates"]
        return Spent(
            str(file),
            str(content["unit"]),
            str(content["neighbouring_relation"]),
            events.from_json(content["event"]),
            float(content["epsilon"]),
            float(content["delta"]),
            float(cut),
            int(sampling["clients"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{file} is damaged: {type(error).__name__} {error}. Put it back as the run wrote it."
        ) from error


def spent_by(account: Accountant, epsilon: float, source: str) -> Spent:
    """What a planned run would spend.

    Args:
      account: on which are all its rounds.
      epsilon: of these.
      source: its name.
    """
    mechanism = account.mechanism
    return Spent(
        source,
        mechanism.unit,
        mechanism.relation,
        account.event,
        epsilon,
        account.delta,
        account.lost,
        mechanism.draws.clients,
    )


def compose(runs: Sequence[Spent], delta: float | None = None) -> dict[str, Any]:
    """Epsilon of runs over the same clients together.

    Where cohorts may have been cut, the chances of that in all runs are added up and taken from
    delta (see privacy_loss.delta_left).

    Args:
      runs: at least one.
      delta: to state it at; by default the largest of theirs.

    Raises:
      ConfigError: a ledger is given twice, or delta is none.
      PrivacyError: the runs' guarantees are of kinds that do not add up, or delta is too large for
        so many clients.
    """
    _check_once(runs)
    unit, relation = _unit_of(runs), _relation_of(runs)
    stated = max(run.delta for run in runs) if delta is None else delta
    if not 0 < stated < 1:
        raise ConfigError(f"--delta={stated} must lie between 0 and 1 (typical: 1e-5)")
    clients = max(run.clients for run in runs)
    if stated * clients >= 1:
        raise PrivacyError(
            f"delta={stated} is not below 1 / {clients} clients: a mechanism that publishes one "
            f"client in full would satisfy it. Give a --delta below {1 / clients:.1e}."
        )
    event, lost = in_sequence(*(run.event for run in runs)), sum(run.lost for run in runs)
    epsilon = epsilon_of(event, stated, lost)
    if math.isinf(epsilon):
        raise PrivacyError(
            f"the runs together have no finite epsilon at delta={stated}: cohorts were cut with "
            f"probability {lost:.2g}, which is taken from it. Give a larger --delta."
        )
    return {
        "schema": 1,
        "epsilon": epsilon,
        "delta": stated,
        "unit": unit,
        "neighbouring_relation": relation,
        "accountant": "pld",
        "epsilon_rdp": epsilon_by_rdp(event, stated, lost),
        "runs": [
            {
                "source": run.source,
                "epsilon": run.epsilon,
                "delta": run.delta,
                "neighbouring_relation": run.relation,
            }
            for run in runs
        ],
    }


def _ledger_file(path: Path) -> Path:
    """The ledger that a path names."""
    if path.is_dir():
        workdir = Workdir.at(path)
        if workdir.run_json.is_file():
            folder = files.read_json(str(workdir.run_json)).get("artifacts", {}).get("ledger")
            path = workdir.root / folder / layout.LEDGER if folder else path / layout.LEDGER
        else:
            path /= layout.LEDGER
    if not path.is_file():
        raise StoreError(
            f"{path} does not exist. --ledger takes a {layout.LEDGER}, the folder of one, or a "
            "work directory whose last run trained."
        )
    return path


def _check_once(runs: Sequence[Spent]) -> None:
    """Each run is to be counted once."""
    seen: set[Path] = set()
    for run in runs:
        path = Path(run.source).resolve()
        if path in seen:
            raise ConfigError(
                f"--ledger {run.source} is given twice. Is it one run? Then give it once. Two runs "
                "have two files: give the other one's."
            )
        seen.add(path)


def _unit_of(runs: Sequence[Spent]) -> str:
    units = {run.unit: run.source for run in runs}
    if len(units) > 1:
        named = ", ".join(f"one {unit} ({source})" for unit, source in units.items())
        raise PrivacyError(
            f"the guarantees are about different units: {named}. A bound for single examples says "
            "nothing about clients, so they do not add up. Compose runs of one unit."
        )
    return next(iter(units))


def _relation_of(runs: Sequence[Spent]) -> str:
    """The relation that the runs' guarantees hold for together."""
    relations = {run.relation: run.source for run in runs}
    if (common := common_relation(relations)) is not None:
        return common
    named = ", ".join(f"{relation} ({source})" for relation, source in relations.items())
    raise PrivacyError(
        f"the guarantees are for neighbouring data sets that do not go together: {named}. Compose "
        "runs of one relation."
    )
