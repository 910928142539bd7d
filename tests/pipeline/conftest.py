"""A tiny project, as a user would write it: a CSV, a model file and a configuration."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from privet.pipeline.config import PipelineConfig, load_config
from privet.pipeline.run import run_pipeline
from privet.pipeline.workdir import Workdir

MODEL = '''
"""A linear model on two inputs."""
import tensorflow as tf

def build_model():
    x = tf.keras.Input((2,), name="x")
    return tf.keras.Model(x, tf.keras.layers.Dense(2 + 1)(x))
'''

CONFIG = {
    "name": "tiny",
    "data": {
        "files": "rows.csv",
        "client_id": "owner",
        "split": {"column": "split"},
        "features": {"x": {"columns": "x_{0..1}", "minimum": -10, "maximum": 10}},
        "label": {"column": "y", "classes": 3},
        "shards": 2,
    },
    "model": {"module_file": "model.py"},
    "train": {
        "privacy": {"mechanism": "gaussian", "epsilon": 8, "delta": 1e-5, "clip_norm": 1.0},
        "rounds": 2,
    },
    "gate": {
        "rules": [
            {"metric": "compressed.accuracy", "lower_bound": 0.0},
            {"metric": "compressed.loss", "max_worsening": 1000.0},
            {"metric": "ledger.epsilon", "upper_bound": 8},
        ]
    },
}


@dataclasses.dataclass(frozen=True)
class Project:
    """A folder with a configuration, its data and its model, and a work directory beside."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.csv"

    @property
    def model(self) -> Path:
        return self.folder / "model.py"

    @property
    def workdir(self) -> Workdir:
        return Workdir.at(self.folder / "work")

    def load(self, *overrides: str) -> PipelineConfig:
        return load_config(self.config, overrides)

    def run(self, *overrides: str) -> dict:
        return run_pipeline(self.load(*overrides), self.workdir, lambda line: None)


def write_project(folder: Path) -> Project:
    """Eight clients with five rows each, three clusters; two of the clients are held out."""
    project = Project(folder)
    generator = np.random.default_rng(0)
    lines = ["owner,split,x_0,x_1,y"]
    for client in range(8):
        for _ in range(5):
            label = int(generator.integers(3))
            x = generator.normal(0, 0.5, 2) + [(2, 0), (-2, 0), (0, 2)][label]
            split = "eval" if client < 2 else "train"
            lines.append(f"client-{client},{split},{x[0]:.4f},{x[1]:.4f},{label}")
    folder.mkdir(parents=True, exist_ok=True)
    project.rows.write_text("\n".join(lines) + "\n")
    project.model.write_text(MODEL)
    project.config.write_text(yaml.safe_dump(CONFIG))
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project."""
    return write_project(tmp_path)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for the tests of a module that build on each other's runs."""
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def edit() -> Callable[[Path, str, str], None]:
    """Replaces text in a file that must hold it."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return replace
