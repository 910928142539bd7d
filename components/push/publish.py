"""Publishing a version for a server that may be watching: it appears by one rename, or not."""

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

_RECORD = Path("assets.extra", "privet_push.json")  # servers ignore what they do not know there


@dataclasses.dataclass(frozen=True)
class Published:
    """A version in the serving directory.

    Attributes:
      version: its number.
      path: its directory.
      push_id: of the execution that published it; empty when Privet did not.
      digest: of the servable's content; empty when Privet did not publish it.
    """

    version: int
    path: Path
    push_id: str = ""
    digest: str = ""


def publish(servable: str, base_path: str, push_id: str) -> Published:
    """Copies a servable in as the next version, unless it is the newest one already.

    The copy is made beside the versions under a name that no server takes for one, synced to
    disk and renamed. When another publisher takes the number first, the next one is tried.

    Args:
      servable: the version directory to publish.
      base_path: <serving>/<model_name>; created if missing.
      push_id: of this execution; recorded with the version.
    """
    base = Path(base_path)
    base.mkdir(parents=True, exist_ok=True)
    digest = servable_digest(servable)
    newest = newest_published(base_path)
    if newest and newest.digest == digest:
        return newest
    temporary = base / f".tmp-{uuid.uuid4().hex}"
    try:
        shutil.copytree(servable, temporary)
        record = temporary / _RECORD
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps({"push_id": push_id, "servable_sha256": digest}) + "\n")
        _sync(temporary)
        while True:
            version = max(_taken(base), default=0) + 1
            destination = base / str(version)
            try:
                temporary.rename(destination)  # fails on a directory that is not empty
                return Published(version, destination, push_id, digest)
            except OSError:
                if not destination.exists():
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def newest_published(base_path: str) -> Published | None:
    """The version that a server would serve now."""
    numbers = versions(Path(base_path))
    if not numbers:
        return None
    path = Path(base_path, str(numbers[-1]))
    if not (path / _RECORD).is_file():
        return Published(numbers[-1], path)
    record = json.loads((path / _RECORD).read_text())
    return Published(numbers[-1], path, record["push_id"], record["servable_sha256"])


def versions(base: Path) -> list[int]:
    """Numbers of the published versions, sorted."""
    if not base.is_dir():
        return []
    return sorted(
        int(path.name) for path in base.iterdir() if path.is_dir() and path.name.isdecimal()
    )


def _taken(base: Path) -> list[int]:
    """Numbers that no new version can have: those of versions, and of anything else so named."""
    return [int(path.name) for path in base.iterdir() if path.name.isdecimal()]


def servable_digest(servable: str) -> str:
    """A digest of a version directory's files, names and contents."""
    root = Path(servable)
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _sync(directory: Path) -> None:
    """Flushes all to disk: the rename must not survive a crash that the content did not."""
    for path in (*directory.rglob("*"), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
