"""Two work directories side by side, out of what their last runs left."""

from pathlib import Path
from typing import Any

from privet.components.report.compare import Side, compare
from privet.components.report.compare_page import render
from privet.components.shared import files
from privet.components.shared.errors import ConfigError
from privet.pipeline import config_file, outcome
from privet.pipeline.run_facts import gather_facts
from privet.pipeline.summary import shown_path
from privet.pipeline.workdir import Workdir


def compare_runs(first: Workdir, second: Workdir) -> dict[str, Any]:
    """Sets the last runs of two work directories side by side.

    Args:
      first: a work directory.
      second: another one.

    Returns:
      The object that docs/pipeline.md describes.

    Raises:
      ConfigError: both are the same.
      StoreError: there has been no run in one of them, or its artifacts are gone.
    """
    if first == second:
        raise ConfigError(f"--compare wants two work directories, and got {first.root} twice.")
    return compare(_side(first), _side(second))


def write_comparison(path: Path, comparison: dict[str, Any]) -> None:
    """Writes the page of a comparison, whole or not at all."""
    files.write_bytes(str(path), render(comparison).encode())


def _side(workdir: Workdir) -> Side:
    summary = outcome.read_last_run(workdir)
    text = config_file.read_text(workdir.config)
    return Side(
        label=shown_path(workdir.root),
        facts=gather_facts(workdir, summary),
        config=config_file.read_values(text, workdir.config) if text else None,
        folders={name: str(workdir.root / path) for name, path in summary["artifacts"].items()},
    )
