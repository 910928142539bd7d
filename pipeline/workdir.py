"""The work directory of a pipeline: names of what is in it, and the lock on it."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import fasteners

from privet.components.push.config import PushConfig
from privet.components.shared.errors import ConfigError, PipelineError
from privet.pipeline.config import PipelineConfig

SWEEP, SWEEP_LOG = "sweep.json", "sweep.log"
FRONTIER_TABLE, FRONTIER_PAGE = "frontier.parquet", "frontier.html"
"""Files in the work directory of a sweep."""


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Everything that runs of one pipeline leave behind.

    Attributes:
      root: the directory, absolute.
    """

    root: Path

    @classmethod
    def of(cls, config: PipelineConfig, root: str | Path | None = None) -> Self:
        """The given directory, or runs/<pipeline name> under the current folder."""
        return cls.at(root or Path("runs", config.name))

    @classmethod
    def at(cls, root: str | Path) -> Self:
        """The directory of earlier runs."""
        return cls(Path(root).resolve())

    @property
    def metadata(self) -> Path:
        """The ML Metadata store."""
        return self.root / "metadata.sqlite"

    @property
    def artifacts(self) -> Path:
        """TFX's pipeline root."""
        return self.root / "artifacts"

    @property
    def ingest_state(self) -> Path:
        """What ingestion keeps between runs: the secret salt of client ids, spans."""
        return self.root / "ingest"

    @property
    def public_state(self) -> Path:
        """What the ingestion of public data keeps between runs."""
        return self.root / "public"

    @property
    def train_state(self) -> Path:
        """What training keeps between runs: checkpoints, the journal of noised rounds."""
        return self.root / "train"

    @property
    def log(self) -> Path:
        """What TFX, Beam and TensorFlow had to say."""
        return self.root / "run.log"

    @property
    def run_json(self) -> Path:
        """The outcome of the last run, for machines."""
        return self.root / "run.json"

    @property
    def report(self) -> Path:
        """The outcome of the last run, for people."""
        return self.root / "report.html"

    @property
    def config(self) -> Path:
        """The configuration of the last run, as it was resolved."""
        return self.root / "config.yaml"

    @property
    def report_key(self) -> Path:
        """The secret that reports hide exact client ids with."""
        return self.root / "report_key"

    def serving(self, push: PushConfig) -> Path:
        """The directory that models are published in."""
        return self.root / push.directory

    def relative(self, path: str | Path) -> str:
        """A path as run.json has it: relative to the work directory where it is inside."""
        path = Path(path)
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run out.

        Raises:
          ConfigError: the directory cannot be written.
          PipelineError: another process is running in this directory.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.joinpath(".lock").touch()
        except OSError as error:
            raise ConfigError(
                f"cannot write to the work directory {self.root}: {error.strerror}. Choose "
                "another --workdir."
            ) from error
        lock = fasteners.InterProcessLock(self.root / ".lock")
        if not lock.acquire(blocking=False):
            raise PipelineError(
                f"another run is using {self.root}. Wait for it, or choose another --workdir."
            )
        try:
            yield
        finally:
            lock.release()
