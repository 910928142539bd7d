"""What clients keep from round to round (scaffold's control variates), a file for each.

A file is named after the client and the round that wrote it, and the server's state knows which
round that was. A round that is done again, as a retried bundle or in a run that was killed, so
reads what it read before and writes what it wrote before.
"""

import dataclasses
import re

import numpy as np

from privet.components.shared import files
from privet.components.shared.errors import StoreError
from privet.components.train.blocks import Block
from privet.components.train.round import Programs
from privet.components.train.round_values import NOBODY, Partial

_NAME = re.compile(r"(?P<position>\d+)-(?P<number>\d+)")


def states_folder(folder: str) -> str:
    """Where the states of a run are, in its folder."""
    return files.join(folder, "client_states")


@dataclasses.dataclass(frozen=True)
class ClientStates:
    """The states in a folder.

    Attributes:
      folder: of the files; every worker must reach it.
      width: number of values of a state.
    """

    folder: str
    width: int

    @classmethod
    def of(cls, programs: Programs, folder: str) -> "ClientStates":
        """The states of a run, in a folder of their own."""
        width = sum(part.size for part in programs.initial.weights)
        return cls(states_folder(folder), width)

    def read(self, positions: np.ndarray, rounds: np.ndarray) -> np.ndarray:
        """States of clients, float32 [clients, width].

        Args:
          positions: of the clients in the store.
          rounds: that wrote them; 0 for none, whose state is zeros.

        Raises:
          StoreError: a file is gone or damaged.
        """
        states = np.zeros((len(positions), self.width), np.float32)
        for row, (position, number) in enumerate(zip(positions, rounds, strict=True)):
            if number:
                states[row] = self._read(self._path(position, number))
        return states

    def write(self, positions: np.ndarray, number: int, states: np.ndarray) -> None:
        """Keeps the states that clients have after a round."""
        for position, state in zip(positions, states.astype("<f4", copy=False), strict=True):
            files.write_bytes(self._path(position, number), state.tobytes())

    def keep_only(self, visited: np.ndarray) -> None:
        """Removes the files that a state of the server does not refer to.

        Args:
          visited: see round.ServerState.
        """
        for name in files.names(self.folder):
            match = _NAME.fullmatch(name)  # else it is what a kill has left of a file
            if match is None or visited[int(match["position"])] != int(match["number"]):
                files.remove(files.join(self.folder, name))

    def with_states(self, block: Block, positions: np.ndarray, rounds: np.ndarray) -> Block:
        """The block with the states of its clients; see `read`."""
        return dataclasses.replace(block, states=self.read(positions, rounds))

    def keep(self, partial: Partial, positions: np.ndarray, number: int) -> Partial:
        """Writes the states that a block's work gave; what is left to add up."""
        self.write(positions, number, partial.rows)
        return partial._replace(rows=NOBODY.rows)

    def _read(self, path: str) -> np.ndarray:
        content = files.read_bytes(path)
        if len(content) != 4 * self.width:
            raise StoreError(
                f"{path} holds {len(content)} bytes, wanted {4 * self.width}: it is damaged. "
                "Remove the folder of the run to train from the first round."
            )
        return np.frombuffer(content, "<f4")

    def _path(self, position: int, number: int) -> str:
        return files.join(self.folder, f"{position}-{number}")
