"""Runs that are killed by SIGKILL at random moments, and go on in new processes."""

import functools
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.train.run import TrainingResult, run_training

MODEL = """
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=(2,), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(inputs))
"""
WITNESS = """
def tell(path, finished):
    with open(path, "a") as file:
        file.write(f"{finished.number}\\n")
"""
STARTING = 1.5
"""Seconds that a process takes until its first round, about."""


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts processes that have imported TensorFlow (6 s) already, but not used it.

    They can import `witness`, which tells what a process has done after it is gone.
    """
    folder = tmp_path_factory.mktemp("witness")
    (folder / "witness.py").write_text(WITNESS)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            f"privet.components.train.{name}"
            for name in ("run", "engines.beam", "engines.compiled", "engines.tff_runtime")
        ]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield context
    sys.modules.pop("witness", None)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # else it stays till pytest ends


class Run:
    """A run that is killed, and the processes that it goes on in."""

    def __init__(self, folder: Path, config: Any):
        import witness  # type: ignore[import-not-found]

        self.state, self._told = folder / "state", folder / "told"
        self._train = functools.partial(
            run_training,
            str(folder / "examples"),
            str(folder / "model.py"),
            "build_model",
            config,
            0,
            functools.partial(witness.tell, str(self._told)),
        )

    @property
    def rounds(self) -> int:
        """How many rounds all processes together have finished."""
        return len(self._told.read_text().splitlines()) if self._told.exists() else 0

    def kill_one(self, processes: Any, *, seconds: float, rounds: int) -> None:
        """Starts a process and kills it after so many seconds or rounds, whatever comes first."""
        wanted = self.rounds + rounds
        process = processes.Process(target=self._train, kwargs={"state": str(self.state)})
        process.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.rounds < wanted:
            time.sleep(np.random.default_rng().uniform(0, 0.005))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        process.close()

    def finish(self) -> TrainingResult:
        """Goes on to the end, in this process."""
        return self._train(state=str(self.state))

    def undisturbed(self) -> TrainingResult:
        """The same run without a state."""
        return self._train()


@pytest.fixture
def make_run(write_store: Any, schema_of: Any, client: Any, tmp_path: Path) -> Callable[..., Run]:
    generator = np.random.default_rng(0)

    def one(name: str) -> Any:
        labels = generator.integers(0, 3, 4)
        return client(name, labels, x=generator.normal(size=(4, 2)).astype(np.float32))

    (tmp_path / "model.py").write_text(MODEL)
    clients = {"train": [one(f"t{i}") for i in range(6)], "eval": [one("e")]}
    write_store(tmp_path / "examples", schema_of({"x": 2}, 3), clients)
    return lambda config: Run(tmp_path, config)


def kill_at_random(run: Run, processes: Any, times: int) -> None:
    """Kills in turn while a process starts and while it runs rounds or writes between them."""
    generator = np.random.default_rng()
    for number in range(times):
        seconds = generator.uniform(0, STARTING) if number % 2 else 60.0
        run.kill_one(processes, seconds=seconds, rounds=int(generator.integers(1, 12)))


@pytest.mark.slow
def test_run_killed_twenty_times_ends_with_the_weights_of_one_left_alone(
    make_run: Any, processes: Any, train_config: Any
) -> None:
    config = train_config(
        rounds=500,
        xla="off",
        sampling={"kind": "poisson", "cohort_size": 3},
        server_optimizer={"learning_rate": 0.5, "momentum": 0.9},
        evaluate_every=100,
    )
    run = make_run(config)
    kill_at_random(run, processes, 20)
    ran = run.rounds
    killed, wanted = run.finish(), run.undisturbed()

    assert 10 <= ran < 500
    for a, b in zip(killed.model.get_weights(), wanted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [row["eval"] for row in killed.history["rounds"]] == [
        row["eval"] for row in wanted.history["rounds"]
    ]
    assert not list(run.state.glob("**/*.tmp-*"))


@pytest.mark.slow
def test_killed_private_run_counts_every_round_that_was_noised(
    make_run: Any, processes: Any, train_config: Any
) -> None:
    privacy = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1.0, "noise_multiplier": 20.0}
    kills = 6
    run = make_run(train_config(rounds=100, xla="off", privacy=privacy, evaluate_every=0))
    kill_at_random(run, processes, kills)
    ledger = run.finish().ledger

    assert ledger["rounds"] == 100 <= run.rounds <= ledger["rounds_counted"] <= run.rounds + kills
    assert len(list(run.state.glob("*/journal/*"))) == ledger["rounds_counted"]
    assert ledger["event"]["count"] == ledger["rounds_counted"]
