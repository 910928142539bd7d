"""Sizes as they count: bytes on disk, and bytes gzipped, which is what a download costs."""

import gzip
import io
import tarfile
from pathlib import Path


def file_sizes(content: bytes) -> dict[str, int]:
    """Bytes of a file, raw and gzipped (level 9)."""
    return {"bytes": len(content), "bytes_gzip": len(gzip.compress(content, 9, mtime=0))}


def directory_sizes(directory: str, *, without: tuple[str, ...] = ()) -> dict[str, int]:
    """Bytes of all files of a folder, and of its tar, gzipped.

    Args:
      directory: the folder.
      without: names of files that do not count.
    """
    root = Path(directory)
    paths = sorted(p for p in root.rglob("*") if p.is_file() and p.name not in without)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in paths:
            info = tarfile.TarInfo(str(path.relative_to(root)))  # no owner, no time: repeatable
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)
    return {
        "bytes": sum(path.stat().st_size for path in paths),
        "bytes_gzip": file_sizes(archive.getvalue())["bytes_gzip"],
    }
