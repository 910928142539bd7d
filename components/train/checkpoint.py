"""Checkpoints of a training run, and the journal of the noised rounds that it has started.

State of a run, in <state>/<fingerprint>/:

    checkpoint-0000000012    after round 12: what is known of the rounds, the server's state
    journal/0000000001 ...   one file for each noised round that was started: what it spends
    journal/name             what the run is called in a population budget, if it has one

The journal is ahead of the checkpoint: a round is in it, and on the disk, before it begins. Noise
of a round that a kill cuts short may have been drawn and its result seen, so the round counts as
spent, and counts again when it is run again, as the first of another stretch (see
accounting.Accountant). The fingerprint is a digest of all that decides the result, so a run only
ever continues itself.

The folder is inside the trust boundary: a checkpoint tells how many clients took part in rounds,
and holds what is kept of correlated noise.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from privet.components.shared import files, layout
from privet.components.shared.errors import PrivacyError, StoreError
from privet.components.train.history import Round

_CHECKPOINT = re.compile(r"checkpoint-\d{10}")
_ENTRY = re.compile(r"\d{10}")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_DIGEST = 32  # bytes


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A run after a round.

    Attributes:
      rounds: that the model has gone through; at least one.
      counted: noised rounds started until then, which is as many or more.
      states: of the engine, as it saves them: of this round, and of those before that clients
        may still have begun with.
    """

    rounds: Sequence[Round]
    counted: int
    states: Sequence[bytes]


class Checkpoints:
    """The checkpoints and the journal of one run.

    Args:
      state: folder of what outlives processes, on any filesystem.
      fingerprint: of the run.
      private: whether its rounds are noised, and must be counted.

    Raises:
      PrivacyError: entries of the journal are missing.
    """

    def __init__(self, state: str, fingerprint: str, *, private: bool):
        self._state, self._fingerprint, self._private = state, fingerprint, private
        self.folder = files.join(state, fingerprint)
        """What belongs to the run."""
        self._journal = files.join(self.folder, "journal")
        files.make_private_folder(self.folder)
        files.make_private_folder(self._journal)
        for folder in (self.folder, self._journal):
            for name in files.names(folder):
                if ".tmp-" in name:  # what a kill has left
                    files.remove(files.join(folder, name))
        self.stretches = self._read_journal()
        """Noised rounds that were started so far, in this process and before, by stretches."""

    @property
    def started(self) -> int:
        """How many noised rounds were started so far."""
        return sum(self.stretches)

    def lasting_name(self) -> str:
        """A random name for the run, the same in all its processes, another one if it starts anew.

        It lies with the journal: what removes the one removes the other.
        """
        path, name = files.join(self._journal, "name"), uuid.uuid4().hex
        with contextlib.suppress(FileExistsError):
            files.create_secret(path, name.encode())
        if kept := files.read_bytes(path).decode():
            return kept
        files.write_secret(path, name.encode())  # a kill had left it empty
        return name

    def start_round(self, number: int, mechanism: Mapping[str, Any], *, anew: bool = False) -> None:
        """Enters a noised round into the journal; it is on the disk when this returns.

        Args:
          number: of the round.
          mechanism: what it applies, to be read by people.
          anew: whether it begins a stretch.

        Raises:
          PrivacyError: another process trains the same run.
        """
        stretch = len(self.stretches) + (anew or not self.stretches)
        content = {"round": number, "stretch": stretch, **mechanism}
        entry = files.join(self._journal, f"{self.started + 1:010d}")
        try:
            files.create_secret(entry, json.dumps(content).encode() + b"\n")
        except FileExistsError as error:
            raise PrivacyError(
                f"another process is training the same run: it made {entry}. Wait for it to end, "
                "then start again."
            ) from error
        self.stretches += [0] * (stretch - len(self.stretches))
        self.stretches[-1] += 1

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint and removes those before it."""
        head = {
            "rounds": [vars(round_) for round_ in checkpoint.rounds],
            "counted": checkpoint.counted,
            "sizes": [len(state) for state in checkpoint.states],
        }
        content = json.dumps(head).encode() + b"\n" + b"".join(checkpoint.states)
        path = files.join(self.folder, f"checkpoint-{len(checkpoint.rounds):010d}")
        earlier = self._paths()
        files.write_secret(path, hashlib.sha256(content).digest() + content)
        for other in earlier:
            if other != path:
                files.remove(other)

    def load(self) -> Checkpoint | None:
        """The last checkpoint, if there is one.

        Raises:
          PrivacyError, StoreError (with or without privacy): it is damaged.
          PrivacyError: it counts more rounds than the journal.
        """
        paths = self._paths()
        if not paths:
            return None
        content = files.read_bytes(paths[-1])
        digest, content = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            raise (PrivacyError if self._private else StoreError)(
                f"the checkpoint {paths[-1]} is damaged: its content has another digest than it "
                "was written with. Put back a copy, or remove it to train from the first round"
                + ("; the rounds in the journal stay spent." if self._private else ".")
            )
        head, _, packed = content.partition(b"\n")
        told = json.loads(head)
        ends = list(itertools.accumulate(told["sizes"], initial=0))
        states = [packed[first:end] for first, end in itertools.pairwise(ends)]
        checkpoint = Checkpoint([Round(**each) for each in told["rounds"]], told["counted"], states)
        if self._private and not len(checkpoint.rounds) <= checkpoint.counted <= self.started:
            raise PrivacyError(
                f"{self._journal} has {self.started} entries, but the checkpoint beside it counts "
                f"{checkpoint.counted} noised rounds: some are missing, and what was spent is not "
                "known. Put the whole folder back as it was."
            )
        return checkpoint

    def rounds_of_others(self) -> int:
        """Noised rounds that runs with another fingerprint have started."""
        return sum(self._others().values())

    def clear_others(self) -> None:
        """Removes what runs with another fingerprint have left, unless they have spent something.

        The others stay whole: who goes back to one of them finds its result, and spends no more.
        """
        for other, rounds in self._others().items():
            if not rounds:
                files.remove_folder(other)

    def _others(self) -> dict[str, int]:
        """Folders of other runs, and how many noised rounds each has started."""
        names = (name for name in files.folders(self._state) if name != self._fingerprint)
        others = [files.join(self._state, name) for name in names if _FINGERPRINT.fullmatch(name)]
        return {other: len(_entries(files.join(other, "journal"))) for other in others}

    def _paths(self) -> list[str]:
        names = filter(_CHECKPOINT.fullmatch, files.names(self.folder))
        return [files.join(self.folder, name) for name in names]

    def _read_journal(self) -> list[int]:
        entries = _entries(self._journal)
        if entries != list(range(1, len(entries) + 1)):
            missing = min(set(range(1, len(entries) + 1)) - set(entries))
            raise PrivacyError(
                f"{self._journal} has no entry {missing:010d}, but others: what was spent is "
                "not known. Put the whole folder back as it was."
            )
        stretches: list[int] = []
        for entry in entries:
            path = files.join(self._journal, f"{entry:010d}")
            content = files.read_bytes(path)
            # A kill can leave an entry empty; as a stretch of its own it counts for most.
            stretch = _stretch(content) if content else len(stretches) + 1
            if stretch == len(stretches) + 1:
                stretches.append(0)
            if not stretches or stretch != len(stretches):
                raise PrivacyError(
                    f"{path} is damaged: it does not say which round was started, so what was "
                    "spent is not known. Put the whole folder back as it was."
                )
            stretches[-1] += 1
        return stretches


def _stretch(content: bytes) -> int | None:
    """Which stretch an entry says it is of, if it says so."""
    try:
        return int(json.loads(content)["stretch"])
    except (ValueError, KeyError, TypeError):
        return None


def _entries(journal: str) -> list[int]:
    """The numbers of a journal's entries."""
    return [int(name) for name in files.names(journal) if _ENTRY.fullmatch(name)]


def fingerprint_of(examples: str, *parts: str) -> str:
    """A name for a run: a digest of all that decides its result.

    Args:
      examples: folder of the clients. Their ids, numbers of examples and statistics are read,
        not the examples: an ingestion writes to a folder of its own.
      parts: settings, sources and the like.
    """
    patterns = (layout.SCHEMA, layout.STATISTICS, "Split-*/*.index")
    clients = files.content_digest(tuple(files.join(examples, name) for name in patterns))
    return files.digest(clients.encode(), *(part.encode() for part in parts))[:32]
