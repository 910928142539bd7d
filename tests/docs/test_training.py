"""docs/training.md: the settings beside the accuracies are those of the examples."""

from pathlib import Path

import pytest

from privet.pipeline.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TABLE = (
    (ROOT / "docs" / "training.md")
    .read_text(encoding="utf-8")
    .partition("## What privacy costs")[2]
    .partition("\n## ")[0]
)


@pytest.mark.parametrize(("example", "column"), [("digits", 0), ("handwriting", 1)])
def test_settings_of_the_accuracies_are_those_of_the_configuration(
    example: str, column: int
) -> None:
    rows = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")]
    said = {name: cells[column] for name, *cells in rows}
    train = load_config(ROOT / "examples" / example / "config.yaml").train
    client, server = train.client_optimizer, train.server_optimizer
    cohort = f"Poisson {train.sampling.cohort_size}" if train.sampling.cohort_size else "all"
    assert said["Rounds, cohort"] == f"{train.rounds}, {cohort}"
    assert said["On the client"] == (
        f"{train.local_epochs} epochs, batches of {train.batch_size}, "
        f"learning rate {client.learning_rate:g}"
    )
    assert said["Clip norm"] == f"{train.privacy.clip_norm:g}"
    assert said["Server"] == f"learning rate {server.learning_rate:g}, momentum {server.momentum:g}"
