"""Files of an artifact, on any filesystem that Beam knows (local, gs://, hdfs://, s3://).

Small files are written under a temporary name and renamed, so a reader never sees half of one.
Beam's filesystem layer is used here (and not in the steps) so that a path means the same in
the driver and in a worker.
"""

import functools
import glob
import hashlib
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from privet.components.shared.errors import StoreError


def join(directory: str, *names: str) -> str:
    """Joins with the filesystem's own separator."""
    if is_local(directory):
        return str(Path(directory, *names))
    return _filesystems().join(directory, *names)


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own filesystem, which needs no Beam (slow to import)."""
    return "://" not in path


def open_read(path: str) -> BinaryIO:
    """Opens a file for reading, uncompressed.

    Raises:
      StoreError: the file does not exist or cannot be read.
    """
    try:
        if is_local(path):
            return Path(path).open("rb")
        return _filesystems().open(path, compression_type=_uncompressed())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}. Was the artifact moved?") from error


def open_write(path: str) -> BinaryIO:
    """Creates a file (and its folder) for writing, uncompressed."""
    if is_local(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return Path(path).open("wb")
    return _filesystems().create(path, compression_type=_uncompressed())


def open_arrow(path: str) -> Any:
    """Opens a file for Arrow's readers: memory-mapped on a local disk."""
    import pyarrow as pa

    return pa.memory_map(path) if is_local(path) else pa.PythonFile(open_read(path), "r")


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return _filesystems().exists(path)


def folder_exists(path: str) -> bool:
    """Whether a folder exists; on an object store, whether anything lies in it."""
    return Path(path).is_dir() if is_local(path) else bool(match(join(path, "**")))


def remove_folder(path: str) -> None:
    """Removes a folder with all that is in it, if it exists."""
    if is_local(path):
        shutil.rmtree(path, ignore_errors=not Path(path).exists())
    elif inside := match(join(path, "**")):
        _filesystems().delete(inside)


def make_private_folder(path: str) -> None:
    """Makes a folder that, on a local disk, only its owner may look into."""
    if is_local(path):
        missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)


def folders(path: str) -> list[str]:
    """Names of the folders in a folder; none if it does not exist."""
    if is_local(path):
        return sorted(p.name for p in Path(path).iterdir() if p.is_dir()) if exists(path) else []
    inside = {found.removeprefix(path).lstrip("/") for found in match(join(path, "**"))}
    return sorted({name.partition("/")[0] for name in inside if "/" in name})


def names(path: str) -> list[str]:
    """Names of the files right in a folder, sorted; none if it does not exist."""
    if is_local(path):
        return sorted(p.name for p in Path(path).iterdir() if p.is_file()) if exists(path) else []
    return sorted(posixpath.basename(found) for found in match(join(path, "*")))


def stamp(path: str) -> tuple[int, int]:
    """Size in bytes and time of modification (ns on a local disk, else s) of a file."""
    if is_local(path):
        status = Path(path).stat()
        return status.st_size, status.st_mtime_ns
    (result,) = _filesystems().match([path])
    (found,) = result.metadata_list
    return found.size_in_bytes, int(found.last_updated_in_seconds)


def copy(source: str, destination: str) -> None:
    """Copies a file."""
    with open_read(source) as reader, open_write(destination) as writer:
        for block in _blocks(reader):
            writer.write(block)


def copy_folder(source: str, destination: str) -> None:
    """Copies all files of a folder, those of its folders too."""
    for path in match(join(source, "**")):
        copy(path, join(destination, path.removeprefix(source).lstrip("/")))


def write_secret(path: str, content: bytes) -> None:
    """Writes a file that, on a local disk, only its owner may read and no power cut takes back."""
    if not is_local(path):
        write_bytes(path, content)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    _create(temporary, content)
    Path(temporary).replace(path)
    _sync_folder(Path(path).parent)


def create_secret(path: str, content: bytes) -> None:
    """Writes a file as write_secret does, but only where there is none yet.

    On a local disk, of several processes that try, one succeeds. Its file is there from the start,
    though one that is killed may leave it without content.

    Raises:
      FileExistsError: there is one.
    """
    if not is_local(path):
        if exists(path):
            raise FileExistsError(path)
        write_bytes(path, content)
        return
    _create(path, content)
    _sync_folder(Path(path).parent)


def _create(path: str, content: bytes) -> None:
    """Creates a file of the owner's, and waits until the disk has it."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file: temporary name first, then one rename."""
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    with open_write(temporary) as file:
        file.write(content)
    rename(temporary, path)


def rename(source: str, destination: str) -> None:
    """Renames a file, replacing the destination (atomically on a local disk)."""
    if is_local(destination):
        Path(source).replace(destination)
        return
    filesystems = _filesystems()
    if filesystems.exists(destination):
        filesystems.delete([destination])
    filesystems.rename([source], [destination])


def remove(path: str) -> None:
    """Deletes a file, if it is there."""
    if is_local(path):
        Path(path).unlink(missing_ok=True)
        return
    filesystems = _filesystems()
    if filesystems.exists(path):
        filesystems.delete([path])


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
    if is_local(pattern):
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


def digest(*parts: bytes) -> str:
    """A digest of byte strings, each told apart from its neighbours."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


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
