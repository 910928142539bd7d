"""Files of an artifact, on any filesystem that Beam knows (local, gs://, hdfs://, s3://).

Small files are written under a temporary name and renamed, so a reader never sees half of one.
Beam's filesystem layer is used here (and not in the steps) so that a path means the same in
the driver and in a worker.
"""

import functools
import glob
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from privet.components.shared.errors import StoreError


def join(directory: str, *names: str) -> str:
    """Joins with the filesystem's own separator."""
    return _filesystems().join(directory, *names)


def open_read(path: str) -> BinaryIO:
    """Opens a file for reading, uncompressed.

    Raises:
      StoreError: the file does not exist or cannot be read.
    """
    try:
        return _filesystems().open(path, compression_type=_uncompressed())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}. Was the artifact moved?") from error


def open_write(path: str) -> BinaryIO:
    """Creates a file (and its folder) for writing, uncompressed."""
    return _filesystems().create(path, compression_type=_uncompressed())


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file: temporary name first, then one rename."""
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    with open_write(temporary) as file:
        file.write(content)
    rename(temporary, path)


def rename(source: str, destination: str) -> None:
    """Renames a file, replacing the destination (atomically on a local disk)."""
    if "://" not in destination:
        Path(source).replace(destination)
        return
    filesystems = _filesystems()
    if filesystems.exists(destination):
        filesystems.delete([destination])
    filesystems.rename([source], [destination])


def read_bytes(path: str) -> bytes:
    """The content of a whole file."""
    with open_read(path) as file:
        return file.read()


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Writes a mapping as indented JSON.

    Raises:
      StoreError: a number is NaN or infinite, which JSON does not have.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise StoreError(
            f"{path} would hold a number that is not finite. The model's outputs overflow: lower "
            "the learning rates, or bound the features (minimum, maximum)."
        ) from error
    write_bytes(path, text.encode() + b"\n")


def read_json(path: str) -> dict[str, Any]:
    """Reads a JSON object."""
    return json.loads(read_bytes(path))


def match(pattern: str) -> list[str]:
    """The files that a path or glob names, sorted; empty if there are none."""
    if "://" not in pattern:
        found = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob wants a root)
        return sorted(path for path in found if Path(path).is_file())
    (result,) = _filesystems().match([pattern])
    return sorted(metadata.path for metadata in result.metadata_list)


def content_digest(patterns: tuple[str, ...]) -> str:
    """A digest of the names and contents of all files that the patterns name.

    TFX's own fingerprint looks at sizes and modification times in whole seconds, so it misses
    an edit of the same size within a second; this one reads every byte.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in match(pattern)}):
        digest.update(f"\0{path}\0".encode())
        with open_read(path) as file:
            for block in _blocks(file):
                digest.update(block)
    return digest.hexdigest()


def source_digest(*places: Path) -> str:
    """A digest of the Python (and template) sources in files and, recursively, folders.

    Args:
      places: source files or folders; compiled files do not count.
    """
    digest = hashlib.sha256()
    for place in places:
        paths = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in paths:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"\0{path.name}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _blocks(file: BinaryIO, size: int = 1 << 20) -> Iterator[bytes]:
    while block := file.read(size):
        yield block


@functools.cache
def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems  # slow to import, so only when needed

    return FileSystems


def _uncompressed() -> str:
    from apache_beam.io.filesystem import CompressionTypes

    return CompressionTypes.UNCOMPRESSED
