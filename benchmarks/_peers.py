"""Peers in the same run: their rounds in a process of their own, asked for in turns with ours.

pfl-research needs other packages than Privet, so it has a Python of its own, which the environment
variable PRIVET_PFL_PYTHON names (`make peers` makes one). Without it the figure is left out.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from privet.components.shared.storage import ClientData

_SCRIPT = Path(__file__).with_name("peers") / "pfl_rounds.py"


@contextlib.contextmanager
def pfl_rounds(
    clients: Sequence[ClientData], model: str, *, cohort: int, batch: int, threads: int
) -> Iterator[Callable[[int], None] | None]:
    """Runs so many rounds of pfl's federated averaging; None where it is not installed.

    Args:
      clients: to sample from.
      model: `mlp` or `cnn`; see peers/pfl_rounds.py.
      cohort: clients of a round.
      batch: examples of a step.
      threads: of PyTorch.
    """
    python = os.environ.get("PRIVET_PFL_PYTHON")
    if not python:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "clients.npz"))
        (name,) = clients[0].features
        np.savez(
            path,
            features=np.concatenate([client.features[name] for client in clients]),
            labels=np.concatenate([client.labels for client in clients]),
            ends=np.cumsum([len(client) for client in clients]),
        )
        arguments = [path, model, str(cohort), str(batch), "0.1", str(threads)]
        process = subprocess.Popen(
            [python, str(_SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        orders, answers = process.stdin, process.stdout

        def run(rounds: int) -> None:
            print(rounds, file=orders, flush=True)
            if not answers.readline():
                raise RuntimeError(f"{python} {_SCRIPT} ended with {process.wait()}")

        try:
            yield run
        finally:
            orders.close()
            process.wait(60)
            answers.close()
