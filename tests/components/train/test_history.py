"""The history in its three forms: they say the same, and keep the same secrets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from privet.components.shared import layout
from privet.components.train.history import Round, training_history, write_history
from privet.components.train.participation import build_participation
from privet.components.train.sampling import AllClients, PoissonSampler

ROUNDS = [
    Round(1, 8, 0.5, 1.25, None, 80),
    Round(2, 7, 0.25, None, {"accuracy": 0.5, "loss": 1.5}, 70, 0.75),
]
COLUMNS = ["round", "cohort", "seconds", "epsilon", "sparsity", "eval_accuracy", "eval_loss"]


def written(folder: Path, config: Any, sampler: Any) -> tuple[Any, Any, dict[Any, float]]:
    """JSON, table, and (tag, step) -> value of the events."""
    import tensorflow as tf

    history = training_history(
        ROUNDS,
        config,
        sampler,
        build_participation(config, sampler, seed=0),
        metric="accuracy",
        shapes=[(2, 5)],
    )
    write_history(str(folder), history)
    (events,) = (folder / layout.TENSORBOARD).iterdir()
    scalars = {
        (value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    table = pq.read_table(folder / layout.HISTORY_TABLE)
    return json.loads((folder / layout.HISTORY).read_text()), table, scalars


def test_table_and_events_say_what_the_json_says(tmp_path: Path, train_config: Any) -> None:
    history, table, scalars = written(tmp_path, train_config(), AllClients(8))

    assert table.column_names == COLUMNS
    assert table.to_pylist() == [
        {**{name: row[name] for name in COLUMNS[:5]}}
        | {f"eval_{name}": (row["eval"] or {}).get(name) for name in ("accuracy", "loss")}
        for row in history["rounds"]
    ]
    assert table.to_pylist()[1]["cohort"] == 7
    assert scalars == {
        ("cohort", 1): 8,
        ("cohort", 2): 7,
        ("seconds", 1): 0.5,
        ("seconds", 2): 0.25,
        ("epsilon", 1): 1.25,
        ("sparsity", 2): 0.75,
        ("eval_accuracy", 2): 0.5,
        ("eval_loss", 2): 1.5,
    }


def test_secret_cohorts_and_times_are_in_none_of_them(tmp_path: Path, train_config: Any) -> None:
    history, table, scalars = written(tmp_path, train_config(), PoissonSampler(8, 4))

    assert [(row["cohort"], row["seconds"]) for row in history["rounds"]] == [(None, None)] * 2
    assert [(row["cohort"], row["seconds"]) for row in table.to_pylist()] == [(None, None)] * 2
    assert table.column_names == COLUMNS
    assert {tag for tag, _ in scalars} == {"epsilon", "sparsity", "eval_accuracy", "eval_loss"}


@pytest.mark.parametrize("public", [True, False])
def test_note_on_evaluation_says_whose_data_it_saw(train_config: Any, public: bool) -> None:
    config = train_config(public_eval=public)
    history = training_history(
        ROUNDS,
        config,
        AllClients(8),
        build_participation(config, AllClients(8), seed=0),
        metric="accuracy",
        shapes=[(2, 5)],
    )
    assert ("public" in history["eval_note"]) == public


@pytest.mark.parametrize(
    ("sampler", "total"),
    [(AllClients(8), 16 * 25 + 5), (PoissonSampler(8, 4), round((16 * 25 + 5) / 16 * 4 * 2))],
    ids=["all", "poisson"],
)
def test_measured_bytes_are_told_as_far_as_they_do_not_tell_the_size_of_a_cohort(
    train_config: Any, sampler: Any, total: int
) -> None:
    config = train_config(update_bits=8, update_code="deflate")
    history = training_history(
        ROUNDS,
        config,
        sampler,
        build_participation(config, sampler, seed=0),
        metric="accuracy",
        shapes=[(2, 5)],
        sent=np.array([16, 16 * 25 + 5]),
    )
    assert history["bytes"]["up_measured"]
    assert history["bytes"]["up_per_client_round"] == 25
    assert history["bytes"]["up_total"] == total
