"""The attack on real models: one that has learned its clients by heart, and one that has not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.audit import transforms
from privet.components.audit.config import AuditConfig
from privet.components.audit.membership import attack
from privet.components.audit.run import measure_losses
from privet.components.ingest.transforms import pipeline_of
from privet.components.shared import predictors, storage, tasks
from privet.components.train.config import TrainConfig
from privet.components.train.run import run_training

MEMBERS, HELD_OUT, FEATURES = 30, 40, 80
WIDE = AuditConfig(confidence=0.999)
MODEL = f"""
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=({FEATURES},), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1)(inputs))
"""


@pytest.fixture(scope="module")
def place(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Clients of one to five examples whose labels are coins: all that is learned is by heart."""
    place = tmp_path_factory.mktemp("attack")
    generator = np.random.default_rng(0)

    def clients(count: int, name: str) -> list[Any]:
        return [
            client(
                f"{name}{i}",
                generator.integers(2, size=1 + i % 5),
                x=generator.normal(size=(1 + i % 5, FEATURES)).astype(np.float32),
            )
            for i in range(count)
        ]

    splits = {"train": clients(MEMBERS, "t"), "eval": clients(HELD_OUT, "e")}
    write_store(place / "examples", schema_of({"x": FEATURES}, 2), splits)
    (place / "model.py").write_text(MODEL)
    return place


@pytest.fixture(scope="module")
def found(place: Path, beam_options: list[str]) -> Any:
    """Number of rounds without privacy -> what the attack finds."""

    def after(rounds: int, learning_rate: float = 0.5) -> dict[str, Any]:
        config = TrainConfig.from_mapping(
            {
                "privacy": {"mechanism": "none"},
                "rounds": rounds,
                "local_epochs": 20,
                "client_optimizer": {"name": "sgd", "learning_rate": learning_rate},
            }
        )
        arguments = (str(place / "examples"), str(place / "model.py"), "build_model")
        result = run_training(*arguments, config, 0, lambda _: None)
        folder = str(place / f"model-{rounds}-{learning_rate}")
        result.model.save(folder, include_optimizer=False, save_format="tf")
        losses = measure_losses(
            str(place / "examples"),
            folder,
            WIDE,
            0,
            lambda: pipeline_of(beam_options),
            str(place),
        )
        # Intervals that miss the truth once in a thousand, so that chance fails no test.
        return {"losses": losses, "folder": folder, **attack(losses, WIDE, 0)}

    return after


@pytest.fixture(scope="module")
def overfitted(found: Any) -> dict[str, Any]:
    return found(10)


def test_model_that_has_learned_its_clients_by_heart_is_caught(overfitted: Any) -> None:
    assert (overfitted["members"], overfitted["non_members"]) == (MEMBERS, HELD_OUT)
    assert overfitted["auc"] >= 0.7
    assert overfitted["auc_interval"][0] > 0.6
    assert overfitted["advantage"] > 2 * overfitted["advantage_by_chance"]


def test_model_that_has_learned_nothing_leaves_the_attack_to_chance(found: Any) -> None:
    """Random weights, moved by next to nothing."""
    chance = found(1, 1e-9)
    low, high = chance["auc_interval"]

    assert low < 0.5 < high
    assert chance["advantage"] < 2.5 * chance["advantage_by_chance"]


def test_losses_are_those_of_whole_clients(overfitted: Any, place: Path) -> None:
    """Batches of several clients give what each gives by itself."""
    examples = str(place / "examples")
    predict = predictors.load_keras(overfitted["folder"], storage.read_schema(examples))
    for split, measured in (("train", "members"), ("eval", "non_members")):
        with storage.ClientStore(examples, split) as store:
            wanted = [
                tasks.mean_metrics("binary", predict(client.features), client.labels)["loss"]
                for client in store.read_many(store)
            ]
        found = getattr(overfitted["losses"], measured)
        np.testing.assert_allclose(found, sorted(wanted), rtol=1e-4, atol=1e-6)


def test_losses_of_clients_are_not_left_behind(overfitted: Any, place: Path) -> None:
    assert not list(place.glob("client_losses*"))


def test_batches_hold_whole_clients() -> None:
    references = [
        storage.ClientReference(str(i), "shard", 0, 0, examples)
        for i, examples in enumerate([3, 4, 2, 9, 1, 1])
    ]
    found = [[one.examples for one in batch] for batch in transforms.batches(references, 7)]
    assert found == [[3, 4], [2], [9], [1, 1]]
    assert list(transforms.batches([])) == []
