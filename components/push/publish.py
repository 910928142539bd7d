"""Publishing a version for a server that may be watching: it appears by one rename, or not."""

import os
import shutil
import uuid
from pathlib import Path


def publish(servable: str, base_path: str) -> tuple[int, Path]:
    """Copies a servable in as the next version.

    The copy is made beside the versions under a name that no server takes for one, synced to
    disk and renamed. When another publisher takes the number first, the next one is tried.

    Args:
      servable: the version directory to publish.
      base_path: <serving>/<model_name>; created if missing.

    Returns:
      (the version, its directory).
    """
    base = Path(base_path)
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".tmp-{uuid.uuid4().hex}"
    try:
        shutil.copytree(servable, temporary)
        _sync(temporary)
        while True:
            version = max(versions(base), default=0) + 1
            destination = base / str(version)
            try:
                temporary.rename(destination)  # fails on a directory that is not empty
                return version, destination
            except OSError:
                if not destination.exists():
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def versions(base: Path) -> list[int]:
    """Numbers of the published versions, sorted."""
    return sorted(
        int(path.name) for path in base.iterdir() if path.is_dir() and path.name.isdecimal()
    )


def _sync(directory: Path) -> None:
    """Flushes all files to disk: the rename must not survive a crash that their content did not."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
