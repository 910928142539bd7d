"""Running ingestion as TFX does: the component's executor, on the in-process Beam runner."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.shared import files

CONFIG: dict[str, Any] = {
    "client_id": "client",
    "features": {
        "x": {"columns": ["x_0", "x_1"], "minimum": 0, "maximum": 9},
        "count": {"columns": "count", "dtype": "int64"},
    },
    "label": {"column": "label", "classes": 3},
    "client_ids": "exact",
    "split": {"column": "split"},
    "shards": 2,
}


def make_config(paths: str | list[str], **changes: Any) -> IngestConfig:
    return IngestConfig.from_mapping({**CONFIG, "files": paths, **changes})


def make_row(client: str, split: str = "train", **changes: Any) -> dict[str, Any]:
    """A valid row."""
    return {
        "client": client,
        "split": split,
        "x_0": 1.5,
        "x_1": 2,
        "count": 7,
        "label": 0,
        **changes,
    }


@pytest.fixture(scope="session")
def config_of() -> Callable[..., IngestConfig]:
    return make_config


@pytest.fixture(scope="session")
def row() -> Callable[..., dict[str, Any]]:
    return make_row


@pytest.fixture(scope="session")
def ingest(
    beam_options: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[IngestConfig], SimpleNamespace]:
    """Runs the executor; gives the store's folder, its statistics and its rejected rows."""

    def run(config: IngestConfig, state: Path | None = None) -> SimpleNamespace:
        from privet.components.ingest.component import Executor
        from privet.components.shared.artifacts import ClientExamples

        folder = tmp_path_factory.mktemp("examples")
        artifact = ClientExamples()
        artifact.uri = str(folder)
        state = state or tmp_path_factory.mktemp("state")
        run.folder, run.state = folder, state  # type: ignore[attr-defined] # for runs that fail
        context = Executor.Context(beam_pipeline_args=beam_options, tmp_dir=str(folder))
        properties = {"config": config.to_json(), "state": str(state)}
        Executor(context).Do({}, {"examples": [artifact]}, properties)
        return SimpleNamespace(
            directory=str(folder),
            statistics=files.read_json(f"{folder}/statistics.json"),
            summary=files.read_json(f"{folder}/rejects/summary.json"),
            rejects=rejected(folder),
            artifact=artifact,
        )

    return run


def rejected(folder: Path) -> list[dict[str, Any]]:
    import json

    lines = [
        json.loads(line)
        for path in sorted(folder.glob("rejects/*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return sorted(lines, key=lambda line: (line["source"], line["row"]))
