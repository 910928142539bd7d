"""The population budget: what all runs over the same clients may spend together, in one file.

    {"schema": 1, "epsilon": 8.0, "delta": 1e-06, "unit": "client", "runs": [
      {"run": "5f0c...", "state": "reserved", "event": {...}, "lost": 0.0, "rounds": 30,
       "relation": "add_or_remove_one_client", "rounds_run": 0, "started": "2026-...",
       "holder": "91ab..."}
    ]}

A run reserves all that it may spend before its first round, under a lock, and only if that fits
beside what every other run has spent or reserved. When it has trained, what it spent takes the
place of the reservation. A run that is killed or fails keeps it. So the file, which is only ever
replaced as a whole, tells too much at times and never too little.

Epsilon is that of the composition of all events, which is less than the sum of the runs' own. Two
relations are mixed, no others: with and without a client, and with a client's data or nothing in
its place. To a sum of clipped updates (and to statistics) a client without data is like none, so
what holds by the former holds by the latter, and the whole holds by the latter.

Composition takes the events as settled beforehand: a run's noise, sampling and rounds are not to
follow from what earlier runs released. Between Gaussian mechanisms without sampling they may (Smith
and Thakurta, 2022, "Fully Adaptive Composition for Gaussian Differential Privacy").
"""

import contextlib
import dataclasses
import glob
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import dp_accounting
import fasteners
import msgspec

from privet.components.shared import events, files
from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.privacy_loss import epsilon_of, in_sequence
from privet.components.train.accounting import Accountant
from privet.components.train.mechanism import Relation, common_relation
from privet.components.train.privacy_config import PopulationBudgetConfig

_PATIENCE = 600.0  # seconds; whoever has the lock needs it for as long as PLD takes
_TURN = threading.Lock()  # the lock of a file is a process's: it keeps none of its threads out


class _Charge(NamedTuple):
    """An event, and the chance of it having been another one (see privacy_loss.epsilon_of)."""

    event: dp_accounting.DpEvent
    lost: float


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run is charged with.

    Attributes:
      run: its random name.
      state: whether it may still spend this, or has ended and spent it.
      event, lost: as in _Charge.
      relation: in what neighbouring data sets differ.
      rounds: that the event is of.
      rounds_run: of them, those that had been started when this was written.
      started: when the run first reserved anything, by ISO 8601.
      holder: random name of the process that wrote this.
    """

    run: str
    state: Literal["reserved", "spent"]
    event: dict[str, Any]
    lost: Annotated[float, msgspec.Meta(ge=0)]
    relation: Relation
    rounds: Annotated[int, msgspec.Meta(ge=0)]
    rounds_run: Annotated[int, msgspec.Meta(ge=0)]
    started: str
    holder: str

    @property
    def charge(self) -> _Charge:
        """What counts."""
        return _Charge(events.from_json(self.event), self.lost)


class _Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file."""

    schema: Literal[1]
    epsilon: float
    delta: float
    unit: Literal["client", "example"]
    runs: tuple[_Entry, ...] = ()

    def own_and_others(self, run: str) -> tuple[_Entry | None, list[_Entry]]:
        """The entry of a run, if there is one, and those of all others."""
        own = next((entry for entry in self.runs if entry.run == run), None)
        return own, [entry for entry in self.runs if entry.run != run]


@dataclasses.dataclass(frozen=True)
class PopulationBudget:
    """The budget, as one run sees it.

    Attributes:
      config: the file, and what it allows.
      run: a random name that all processes of the run share and no other run has, not even one
        with the same settings that trains anew.
      started: the time, by ISO 8601.
      holder: a random name that no other process has, not even of the same run.
    """

    config: PopulationBudgetConfig
    run: str
    started: str
    holder: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def reserve(self, accountant: Accountant, further: int) -> None:
        """Writes down what the run may spend, in place of what it had reserved so far.

        Args:
          accountant: of the run, with every round that it has started.
          further: rounds that it may go on for.

        Raises:
          PrivacyError: it would exceed the budget or does not compose with it, or what has been
            spent is not known.
          ConfigError: the file is for another epsilon or delta, or cannot be used.
        """
        path, mechanism = _path(self.config), accountant.mechanism
        with _locked(path):
            account = _read(path) or _Account(
                schema=1,
                epsilon=self.config.epsilon,
                delta=self.config.delta,
                unit=mechanism.unit,
            )
            _check_terms(account, self.config)
            own, others = account.own_and_others(self.run)
            _check_continues(path, own, accountant.rounds)
            _check_composes(
                path, account.unit, mechanism.unit, {mechanism.relation, *_relations(others)}
            )
            entry = self._entry("reserved", own, accountant, further)
            total = _epsilon([*_charges(others), entry.charge], account.delta)
            if total > account.epsilon:
                spent = _epsilon(_charges(others), account.delta)
                raise PrivacyError(
                    f"the population budget {path} allows epsilon={account.epsilon} at "
                    f"delta={account.delta}. Other runs ({len(others)}) have spent or reserved "
                    f"{spent:.4g}, and this one could bring that to {total:.4g}, so it does not "
                    "start. Lower train.privacy.epsilon (or raise its noise_multiplier) or "
                    "train.rounds, or train on new clients with a file of their own."
                )
            _write(path, msgspec.structs.replace(account, runs=(*others, entry)))

    def settle(self, accountant: Accountant, further: int) -> dict[str, Any]:
        """Replaces the reservation by what the run has spent.

        Args:
          accountant: of the run at its end.
          further: rounds that it claims beside those that ran: all that were allowed, after an
            early stop.

        Returns:
          What the ledger says about the budget.

        Raises:
          PrivacyError: the reservation is gone, or the file is damaged.
          ConfigError: the file cannot be used.
        """
        path = _path(self.config)
        with _locked(path):
            account = _read(path)
            own, others = account.own_and_others(self.run) if account else (None, [])
            if account is None or own is None:
                raise PrivacyError(
                    f"{path} no longer has what this run reserved, so what it spent would be "
                    "forgotten. No model is released. Put the file back as it was and start the "
                    "run again: it goes on from its last checkpoint."
                )
            if own.holder != self.holder:
                raise PrivacyError(
                    f"another process has gone on with this run, by a copy of its state, and "
                    f"{path} counts the rounds of one of the two. No model is released. Let the "
                    "other one end, and give each run a work directory of its own."
                )
            entry = self._entry("spent", own, accountant, further)
            _write(path, msgspec.structs.replace(account, runs=(*others, entry)))
        return {
            "file": path.name,
            "run": self.run,
            "runs": len(others) + 1,
            "epsilon_before": _epsilon(_charges(others), account.delta),
            "epsilon_after": _epsilon([*_charges(others), entry.charge], account.delta),
            "epsilon": account.epsilon,
            "delta": account.delta,
        }

    def _entry(
        self,
        state: Literal["reserved", "spent"],
        own: _Entry | None,
        accountant: Accountant,
        further: int,
    ) -> _Entry:
        whole = accountant.including(further)
        return _Entry(
            run=self.run,
            state=state,
            event=events.to_json(whole.event),
            lost=whole.lost,
            relation=whole.mechanism.relation,
            rounds=whole.rounds,
            rounds_run=accountant.rounds,
            started=own.started if own else self.started,
            holder=self.holder,
        )


def summary_of(config: PopulationBudgetConfig, accountant: Accountant) -> dict[str, Any]:
    """How a budget stands, and where one more run would bring it.

    It writes nothing and takes no lock, which reading a file that is replaced as a whole does not
    need. What it tells may be outdated a moment later.

    Args:
      config: the file, and what it allows.
      accountant: on which is all that the run may spend.

    Returns:
      `epsilon_spent` of all runs so far, reservations included, `epsilon_with_run` of them and the
      new one, the `epsilon` that is allowed, all at `delta`; the name of the `file`, and how many
      `runs` are in it.

    Raises:
      ConfigError: the file is for another epsilon or delta, or cannot be read.
      PrivacyError: it is damaged, or the run does not compose with those in it.
    """
    path, mechanism = _path(config), accountant.mechanism
    with _usable(path):
        account = _read(path)
    charges = []
    if account:
        _check_terms(account, config)
        relations = {mechanism.relation, *_relations(account.runs)}
        _check_composes(path, account.unit, mechanism.unit, relations)
        charges = _charges(account.runs)
    own = _Charge(accountant.event, accountant.lost)
    return {
        "file": path.name,
        "runs": len(charges),
        "epsilon_spent": _epsilon(charges, config.delta),
        "epsilon_with_run": _epsilon([*charges, own], config.delta),
        "epsilon": config.epsilon,
        "delta": config.delta,
    }


def _charges(entries: Iterable[_Entry]) -> list[_Charge]:
    return [entry.charge for entry in entries]


def _relations(entries: Iterable[_Entry]) -> set[str]:
    return {entry.relation for entry in entries}


def _epsilon(charges: Sequence[_Charge], delta: float) -> float:
    """Epsilon of the composition of all charges; equal mechanisms of several runs become one."""
    parts = [
        part
        for event, _ in charges
        for part in (event.events if isinstance(event, dp_accounting.ComposedDpEvent) else [event])
    ]
    lost = sum(charge.lost for charge in charges)
    try:
        return float(epsilon_of(in_sequence(*sorted(parts, key=_mechanism)), delta, lost))
    except dp_accounting.UnsupportedEventError as error:
        raise PrivacyError(
            f"the population budget holds an event whose epsilon is not known ({error}). Put the "
            "file back as it was."
        ) from error


def _mechanism(event: dp_accounting.DpEvent) -> str:
    """What is repeated in an event."""
    return str(event.event if isinstance(event, dp_accounting.SelfComposedDpEvent) else event)


def _check_terms(account: _Account, config: PopulationBudgetConfig) -> None:
    """Refuses to read a file by other terms than those that it was made for."""
    if (account.epsilon, account.delta) != (config.epsilon, config.delta):
        raise ConfigError(
            f"{config.file} is a budget of epsilon={account.epsilon} at delta={account.delta}, but "
            f"train.privacy.population_budget says epsilon={config.epsilon} at "
            f"delta={config.delta}. All runs over the clients must state the same: take the "
            "file's."
        )


def _check_continues(path: Path, own: _Entry | None, rounds: int) -> None:
    """Refuses a run whose journal and entry do not fit together: either is not as it was left."""
    known = own.rounds_run if own else 0
    if rounds and own is None:
        raise PrivacyError(
            f"this run has started {rounds} noised rounds, which {path} knows nothing of: runs are "
            "missing from it, and what was spent is not known. Put the file back as it was."
        )
    if rounds < known:
        raise PrivacyError(
            f"{path} counts {known} noised rounds of this run, but its journal only {rounds}: some "
            "are missing. Put the state folder of the training back as it was, or remove it to "
            "train from the first round; what the run has spent so far stays charged."
        )


def _check_composes(path: Path, protected: str, unit: str, relations: set[str]) -> None:
    """Refuses a run whose guarantee is about something else than that of the others."""
    if unit != protected:
        raise PrivacyError(
            f"{path} adds up what runs tell about one {protected}, but this one protects one "
            f"{unit}. Give train.privacy.population_budget.file another name for such runs."
        )
    if common_relation(relations) is None:
        raise PrivacyError(
            f"{path} and this run bound what data sets tell that differ in other ways "
            f"({', '.join(sorted(relations))}), which does not add up. Set the same "
            "train.privacy.mechanism for all runs, or give train.privacy.population_budget.file "
            "another name."
        )


def _path(config: PopulationBudgetConfig) -> Path:
    """The one name of the file, however it is linked to: the lock goes by names."""
    return Path(config.file).resolve()


def _read(path: Path) -> _Account | None:
    """The content of the file; None where there is none yet."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        account = msgspec.json.decode(content, type=_Account)
        _charges(account.runs)  # every event is one
        if len({entry.run for entry in account.runs}) < len(account.runs):
            raise PrivacyError("two entries have the same name")
    except (msgspec.DecodeError, PrivacyError) as error:
        raise PrivacyError(
            f"the population budget {path} is damaged, so what was spent is not known, and nothing "
            f"is trained ({error}). Put the file back as it was."
        ) from error
    return account


def _write(path: Path, account: _Account) -> None:
    """Replaces the file, and removes what a process that was killed has left of its own try."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.tmp-*"):
        left.unlink()
    files.write_secret(str(path), msgspec.json.format(msgspec.json.encode(account)) + b"\n")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps all others out. The system releases the lock of a process that ends, however it does.

    The lock is on a file beside it: the file itself is another one after each change.
    """
    lock = fasteners.InterProcessLock(path.with_name(f"{path.name}.lock"))
    with _TURN, _usable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            acquired = lock.acquire(timeout=_PATIENCE)
        except threading.ThreadError as error:  # fasteners' word for a system without locks
            raise OSError(str(error)) from error
        if not acquired:
            raise PrivacyError(
                f"another process has held the lock {path}.lock for {_PATIENCE:.0f} s. End it, "
                "then start again."
            )
        try:
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Explains what the system does not allow."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot use train.privacy.population_budget.file={str(path)!r}: {error}. It must be a "
            "file that this user may read and replace, in a folder on a filesystem with locks."
        ) from error
