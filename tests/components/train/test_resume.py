"""A run that is interrupted goes on: on every engine, with every count of what it spent."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest

from privet.components.ingest.transforms import pipeline_of
from privet.components.shared.errors import ConfigError, PrivacyError, StoreError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of, in_sequence
from privet.components.train.aggregation import build_query
from privet.components.train.engines import build_engine
from privet.components.train.mechanism import gaussian
from privet.components.train.run import TrainingResult, run_training
from privet.components.train.sampling import AllClients, Sampler
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig


def epsilon_after(
    sampler: Sampler, noise: float, rounds: int, before: dp_accounting.DpEvent = NOTHING
) -> float:
    return epsilon_of(in_sequence(before, gaussian(sampler.draws, noise).event(rounds)), 1e-5)


pytestmark = pytest.mark.usefixtures("no_worker_left")

OPTIMIZERS = {
    "momentum": {"learning_rate": 0.5, "momentum": 0.9},
    "adam": {"name": "adam", "learning_rate": 0.1},
}
PRUNING = {
    "momentum": {"sparsity": 0.5, "schedule": "constant", "begin_round": 1},
    "adam": None,
}
COHORTS = [np.array([0, 1]), np.array([1]), np.array([0, 1])]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("engine", "xla"), [("compiled", "on"), ("beam", "off"), ("tff", "off")])
def test_state_comes_back_to_the_bit_and_goes_on_to_the_same_weights(
    engine: str,
    xla: str,
    optimizer: str,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
    tmp_path: Path,
) -> None:
    import tensorflow as tf

    config = train_config(
        engine=engine,
        xla=xla,
        rounds=3,
        server_optimizer=OPTIMIZERS[optimizer],
        pruning=PRUNING[optimizer],
    )
    store = store_of(two_clients)

    def build(query: Any = None) -> Any:
        return build_engine(
            config,
            model=linear_model(),
            store=store,
            query=query,
            seed=3,
            make_pipeline=lambda: pipeline_of(beam_arguments(BeamConfig())),
            folder=str(tmp_path),
        )

    def train(trainer: Any, state: Any, *rounds: int) -> Any:
        for number in rounds:
            state, _ = trainer.next(state, trainer.read(COHORTS[number - 1], number))
        return state

    one = build()
    try:
        early = train(one, one.initialize(), 1, 2)
        content, wanted = one.save(early), one.weights(train(one, early, 3))
    finally:
        one.close()
    other = build()
    try:
        restored = other.restore(content)
        tf.nest.map_structure(np.testing.assert_array_equal, restored, early)
        for a, b in zip(other.weights(train(other, restored, 3)), wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        start = other.initialize()
        with pytest.raises(StoreError, match="saved state of training holds"):
            other.restore(one.save([*tf.nest.flatten(start), np.zeros(3)]))
    finally:
        other.close()
    if optimizer == "momentum":
        _check_private_state(build(build_query(1.0, 0.5, 2.0)), train)


def _check_private_state(engine: Any, train: Callable[..., Any]) -> None:
    import tensorflow as tf

    try:
        state = train(engine, engine.initialize(), 1)
        restored = engine.restore(engine.save(state))
        tf.nest.map_structure(np.testing.assert_array_equal, restored, state)
        train(engine, restored, 2)
    finally:
        engine.close()


MODEL = """
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=(2,), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(inputs))
"""
GAUSSIAN = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1.0, "noise_multiplier": 30.0}


class KilledError(Exception):
    """Stands for the end of the process, right after a round and before its checkpoint."""


@dataclasses.dataclass
class Place:
    """Examples, a model and a state folder."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def run(
        self,
        config: Any,
        *,
        until: int | None = None,
        state: bool = True,
        version: str = "",
        arguments: dict[str, bool] | None = None,
    ) -> tuple[TrainingResult, list[int]]:
        """The result, and the rounds that this process ran."""
        told: list[int] = []

        def progress(finished: Any) -> None:
            told.append(finished.number)
            if finished.number == until:
                raise KilledError

        result = run_training(
            str(self.folder / "examples"),
            str(self.folder / "model.py"),
            "build_model",
            config,
            0,
            progress,
            make_pipeline=lambda: pipeline_of(beam_arguments(BeamConfig())),
            state=str(self.state) if state else None,
            version=version,
            model_arguments=arguments,
        )
        return result, told

    def kill(self, config: Any, round_number: int) -> None:
        with pytest.raises(KilledError):
            self.run(config, until=round_number)


@pytest.fixture
def place(write_store: Any, schema_of: Any, client: Any, tmp_path: Path) -> Place:
    generator = np.random.default_rng(0)

    def one(name: str) -> Any:
        labels = generator.integers(0, 3, 4)
        return client(name, labels, x=generator.normal(size=(4, 2)).astype(np.float32))

    (tmp_path / "model.py").write_text(MODEL)
    write_store(
        tmp_path / "examples",
        schema_of({"x": 2}, 3),
        {"train": [one(f"t{i}") for i in range(4)], "eval": [one("e")]},
    )
    return Place(tmp_path)


@pytest.fixture
def config_of(train_config: Any) -> Callable[..., Any]:
    return lambda **changes: train_config(
        **{"xla": "off", "server_optimizer": OPTIMIZERS["momentum"], **changes}
    )


def assert_same_weights(one: TrainingResult, other: TrainingResult) -> None:
    for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    ranges = [list((result.ranges or {}).values()) for result in (one, other)]  # names count up
    assert ranges[0] == ranges[1]


def without_times(history: dict[str, Any]) -> Any:
    return [{**row, "seconds": None} for row in history["rounds"]]


@pytest.mark.parametrize(("every", "repeated"), [(1, [4, 5, 6]), (2, [3, 4, 5, 6]), (0, None)])
def test_interrupted_run_ends_with_the_same_weights_and_history(
    place: Place, config_of: Any, every: int, repeated: list[int] | None
) -> None:
    sampling = {"kind": "poisson", "cohort_size": 2}
    config = config_of(rounds=6, sampling=sampling, checkpoint_every=every, evaluate_every=2)
    place.kill(config, 4)
    resumed, told = place.run(config)
    wanted, _ = place.run(config, state=False)

    assert told == (repeated or [1, 2, 3, 4, 5, 6])
    assert_same_weights(resumed, wanted)
    assert without_times(resumed.history) == without_times(wanted.history)
    assert resumed.ledger == wanted.ledger


ALGORITHMS: dict[str, dict[str, Any]] = {
    "scaffold": {"algorithm": "scaffold", "sampling": {"kind": "poisson", "cohort_size": 2}},
    "mime_lite": {
        "algorithm": "mime_lite",
        "client_optimizer": {"learning_rate": 0.1, "momentum": 0.9},
    },
    "late clients": {"simulation": {"late_rate": 0.5, "dropout_rate": 0.1}},
    "asynchronous": {"asynchronous": {"buffer_size": 2, "concurrency": 3}},
    "schedules": {
        "client_optimizer": {"learning_rate": 0.1, "schedule": {"kind": "cosine"}},
        "update_bits": 8,
    },
    "pruning": {"pruning": {"sparsity": 0.5, "begin_round": 1, "end_round": 6}},
    "ranges": {"quantization_aware": {}},
}


@pytest.mark.parametrize(
    ("name", "engine"), [*((name, "compiled") for name in ALGORITHMS), ("scaffold", "beam")]
)
def test_what_algorithms_remember_outlives_the_process(
    place: Place, config_of: Any, name: str, engine: str
) -> None:
    settings = {**ALGORITHMS[name], "engine": engine}
    config = config_of(rounds=7, checkpoint_every=2, evaluate_every=0, **settings)
    place.kill(config, 5)
    resumed, told = place.run(config)
    wanted, _ = place.run(config, state=False)

    assert told == [5, 6, 7]
    assert_same_weights(resumed, wanted)


def test_finished_run_trains_and_spends_nothing_more(place: Place, config_of: Any) -> None:
    config = config_of(rounds=3, privacy=GAUSSIAN, checkpoint_every=0)
    first, told = place.run(config)
    again, nothing = place.run(config)

    assert (told, nothing) == ([1, 2, 3], [])
    assert_same_weights(first, again)  # noise and all
    assert (again.ledger, again.history) == (first.ledger, first.history)
    assert again.ledger["rounds_counted"] == 3


def test_other_evaluations_or_checkpoints_are_no_other_run(place: Place, config_of: Any) -> None:
    first, _ = place.run(config_of(rounds=3, privacy=GAUSSIAN, evaluate_every=0))
    other = config_of(rounds=3, privacy=GAUSSIAN, evaluate_every=1, checkpoint_every=2)
    again, nothing = place.run(other)

    assert nothing == []
    assert_same_weights(first, again)
    assert again.ledger["rounds_counted"] == 3
    assert again.history["rounds"][-1]["eval"] is not None


def test_other_arguments_of_the_model_are_another_run(place: Place, config_of: Any) -> None:
    with_argument = MODEL.replace("build_model()", "build_model(bias=True)")
    (place.folder / "model.py").write_text(
        with_argument.replace("Dense(3)", "Dense(3, use_bias=bias)")
    )
    config = config_of(rounds=2, evaluate_every=0)
    place.kill(config, 2)
    result, told = place.run(config, arguments={"bias": False})

    assert told == [1, 2]
    assert [weight.shape for weight in result.model.get_weights()] == [(2, 3)]


def test_lost_rounds_stay_spent_and_are_counted_again_when_repeated(
    place: Place, config_of: Any
) -> None:
    config = config_of(rounds=4, privacy=GAUSSIAN)
    place.kill(config, 1)
    place.kill(config, 3)
    result, told = place.run(config)

    ledger = result.ledger
    assert told == [3, 4]
    assert (ledger["rounds"], ledger["rounds_counted"], ledger["ended_by"]) == (4, 6, "rounds")
    assert ledger["epsilon"] == epsilon_after(AllClients(4), 30.0, 6)
    assert ledger["epsilon_by_round"] == [
        epsilon_after(AllClients(4), 30.0, count) for count in (2, 3, 5, 6)
    ]
    assert [part["rounds"] for part in ledger["parts"]] == [6]
    assert ledger["event"]["count"] == 6
    assert ledger["stretches"] == [1, 3, 2]


@pytest.mark.parametrize(("affordable", "repeated"), [(4, [2]), (3, [])])
def test_lost_rounds_leave_fewer_within_the_budget(
    place: Place, config_of: Any, affordable: int, repeated: list[int]
) -> None:
    spent = epsilon_after(AllClients(4), 30.0, affordable)
    privacy = {**GAUSSIAN, "epsilon": spent + 1e-6}
    config = config_of(rounds=9, privacy=privacy, evaluate_every=9)
    place.kill(config, 2)
    place.kill(config, 2)  # rounds 1, 2 and 2 are three
    result, told = place.run(config)

    assert told == repeated
    ledger = result.ledger
    assert (ledger["rounds"], ledger["ended_by"]) == (1 + len(repeated), "budget")
    assert ledger["rounds_counted"] == affordable
    assert ledger["epsilon"] == ledger["epsilon_by_round"][-1] == spent
    assert result.history["rounds"][-1]["eval"] is not None  # of the model that is the result


def test_budget_that_was_lost_without_a_checkpoint_is_told(place: Place, config_of: Any) -> None:
    budget = epsilon_after(AllClients(4), 30.0, 2) + 1e-6
    config = config_of(rounds=9, privacy={**GAUSSIAN, "epsilon": budget}, checkpoint_every=0)
    place.kill(config, 1)
    place.kill(config, 1)
    with pytest.raises(ConfigError, match="not allow a single round after 2 that were started and"):
        place.run(config)


@pytest.mark.parametrize("private", [True, False])
def test_damage_stops_a_run_that_would_go_on(place: Place, config_of: Any, private: bool) -> None:
    config = config_of(rounds=4, **({"privacy": GAUSSIAN} if private else {}))
    place.kill(config, 3)
    (path,) = place.state.glob("*/checkpoint-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PrivacyError if private else StoreError, match="is damaged"):
        place.run(config)
    path.unlink()
    result, told = place.run(config)
    assert told == [1, 2, 3, 4]
    assert result.ledger["rounds"] == 4
    if private:
        assert result.ledger["rounds_counted"] == 7


def test_lost_journal_stops_a_private_run(place: Place, config_of: Any) -> None:
    config = config_of(rounds=4, privacy=GAUSSIAN)
    place.kill(config, 3)
    (journal,) = place.state.glob("*/journal")
    shutil.rmtree(journal)
    with pytest.raises(PrivacyError, match=r"0 entries, but the checkpoint .* counts 2"):
        place.run(config)


def test_changed_run_starts_anew_and_the_old_state_goes_when_it_has_finished(
    place: Place, config_of: Any
) -> None:
    config = config_of(rounds=4)
    place.kill(config, 3)
    (old,) = place.state.iterdir()
    with pytest.raises(KilledError):
        place.run(config, until=2, version="of other sources")
    assert len(list(place.state.iterdir())) == 2
    (place.folder / "model.py").write_text(MODEL + "\n# changed\n")
    _, told = place.run(config)

    assert told == [1, 2, 3, 4]
    kept = [path for path in place.state.iterdir() if any(path.glob("checkpoint-*"))]
    assert len(kept) == 1
    assert kept != [old]


def test_ledger_tells_of_the_noised_rounds_of_other_runs_in_the_same_place(
    place: Place, config_of: Any
) -> None:
    place.kill(config_of(rounds=4, privacy=GAUSSIAN), 3)
    for _ in range(2):  # what it tells is not forgotten when a run has finished
        ledger = place.run(config_of(rounds=2, privacy=GAUSSIAN))[0].ledger
        assert ledger["rounds_counted"] == 2
        (told,) = (text for text in ledger["not_covered"] if "noised rounds of other runs" in text)
        assert told.startswith("3 ")
    first, rounds = place.run(config_of(rounds=4, privacy=GAUSSIAN))
    assert rounds == [3, 4]
    assert first.ledger["rounds_counted"] == 5


def test_model_that_changed_behind_its_file_is_told(place: Place, config_of: Any) -> None:
    (place.folder / "units.py").write_text("UNITS = 4\n")
    (place.folder / "model.py").write_text(
        MODEL.replace("import tensorflow as tf", "import tensorflow as tf\nimport runpy, pathlib")
        .replace("Dense(3)", "Dense(3)(tf.keras.layers.Dense(units())")
        .replace("(inputs))", "(inputs)))")
        + "\n\ndef units():\n    place = pathlib.Path(__file__).with_name('units.py')\n"
        "    return runpy.run_path(str(place))['UNITS']\n"
    )
    config = config_of(rounds=4)
    place.kill(config, 3)
    (place.folder / "units.py").write_text("UNITS = 5\n")
    with pytest.raises(StoreError, match="Something that the model's file imports has changed"):
        place.run(config)


def test_early_stop_ends_a_run_also_one_that_goes_on(place: Place, config_of: Any) -> None:
    stop = {"metric": "accuracy", "patience": 2, "min_improvement": 1.0}  # nothing is one
    config = config_of(rounds=9, early_stop=stop)
    place.kill(config, 2)
    result, told = place.run(config)
    _, nothing = place.run(config)

    assert (told, nothing) == ([2, 3], [])
    assert (result.ledger["rounds"], result.ledger["ended_by"]) == (3, "early_stop")


def test_early_stop_with_privacy_tells_what_it_rests_on(place: Place, config_of: Any) -> None:
    stop = {"metric": "loss", "patience": 1, "min_improvement": 1e9}
    config = config_of(rounds=9, privacy=GAUSSIAN, public_eval=True, early_stop=stop)
    ledger = place.run(config)[0].ledger

    two, nine = (epsilon_after(AllClients(4), 30.0, n) for n in (2, 9))
    assert (ledger["rounds"], ledger["rounds_counted"]) == (2, 9)
    assert (ledger["epsilon"], ledger["epsilon_of_rounds_run"]) == (nine, two)
    assert sum("train.public_eval" in text for text in ledger["assumptions"]) == 1
    assert sum("ended early" in text for text in ledger["assumptions"]) == 1


def test_metric_of_another_task_is_refused(place: Place, config_of: Any) -> None:
    with pytest.raises(ConfigError, match=r"early_stop\.metric=mae is no metric of a multiclass"):
        place.run(config_of(early_stop={"metric": "mae"}))


@pytest.mark.parametrize("mechanism", ["tree", "banded"])
def test_correlated_noise_begins_anew_where_rounds_were_lost_and_both_parts_count(
    place: Place, config_of: Any, mechanism: str
) -> None:
    config = config_of(
        rounds=4,
        privacy={**GAUSSIAN, "mechanism": mechanism},
        sampling={"kind": "fixed_order", "cohort_size": 1},
    )
    place.kill(config, 3)
    result, told = place.run(config)
    ledger = result.ledger

    assert told == [3, 4]
    assert ledger["stretches"] == [3, 2]
    assert ledger["neighbouring_relation"] == "zero_out_one_client"
    assert ledger["mechanism"]["kind"] == mechanism
    # Four clients, one a round: within each part a client is in one round.
    whole, _ = place.run(config, state=False)
    assert whole.ledger["event"]["kind"] == "gaussian"
    assert whole.ledger["stretches"] == [4]
    assert whole.ledger["epsilon"] < ledger["epsilon"]
