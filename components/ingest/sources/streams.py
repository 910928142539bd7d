"""Opening a file of a source: any filesystem, decompressed by its ending, errors sorted by cause.

A damaged file and a failing disk or network must not be confused: the first may be skipped
(`corrupt_files: skip`), the second would silently lose good rows.
"""

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa

from privet.components.ingest.sources.errors import CorruptFileError
from privet.components.shared import files
from privet.components.shared.errors import DataError, StoreError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files."""

_PIECE = 1 << 20  # bytes asked for at a time, so that a damaged length allocates no more
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, OSError, MemoryError)


class SourceStream:
    """The decompressed bytes of a file, read once from the start; a context manager.

    Attributes:
      failure: what ended the reading, for those whose libraries swallow errors.

    Raises (also from `read`):
      CorruptFileError: the compressed data are damaged or end too early. All bytes before that
        have been given by earlier calls of `read`.
      DataError: the file cannot be read, for a reason that lies outside of it.
    """

    def __init__(self, path: str):
        self._path = path
        self._file = open_file(path)
        self._bytes = _decompressed(path, _Reported(path, self._file))
        self._position = 0
        self.failure: DataError | None = None

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes (fewer only at the end; all that is left if negative)."""
        parts: list[bytes] = []
        missing = size
        while missing and not self.failure:
            try:
                part = self._bytes.read1(_PIECE if size < 0 else min(missing, _PIECE))
            except DataError as error:  # not of the file's making: what was read does not matter
                self.failure = error
                raise
            except _DAMAGED as error:
                self.failure = CorruptFileError(self._path, _reason(error))
            else:
                if not part:
                    break
                parts.append(part)
                missing -= len(part)
        if self.failure and not parts and size:
            raise self.failure
        content = b"".join(parts)
        self._position += len(content)
        return content

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._position

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_file(path: str) -> BinaryIO:
    """Opens a file as it is, without decompression.

    Raises:
      DataError: it does not exist (any more) or may not be read.
    """
    try:
        return files.open_read(path)
    except StoreError as error:
        cause = error.__cause__ or error
        raise DataError(
            f"cannot read {path}: {cause}. Check that it still exists and may be read."
        ) from error


def open_random(path: str) -> pa.NativeFile:
    """Opens a file for reading in any order; a local one is mapped into memory.

    Raises:
      CorruptFileError: it is empty.
      DataError: it does not exist (any more) or may not be read.
    """
    if "://" in path:
        return pa.PythonFile(_Reported(path, open_file(path)), mode="r")
    with open_file(path) as file:
        if not file.read(1):
            raise CorruptFileError(path, "it is empty")
    return pa.memory_map(path)


def without_compression(path: str) -> str:
    """The path without the ending of a compression: a.csv.gz -> a.csv."""
    ending = next((ending for ending in COMPRESSIONS if path.endswith(ending)), "")
    return path.removesuffix(ending)


class _Reported(io.RawIOBase):
    """A file whose failures (disk, network) become DataErrors, apart from those of its content."""

    def __init__(self, path: str, file: BinaryIO):
        self._path = path
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        filled = 0
        with self._named_errors():
            while filled < len(buffer) and (part := self._file.read(len(buffer) - filled)):
                buffer[filled : filled + len(part)] = part
                filled += len(part)
        return filled

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._named_errors():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each filesystem has errors of its own
            raise DataError(
                f"reading {self._path} failed: {type(error).__name__}: {error}. The file itself "
                "may be sound: check the disk or network and run again."
            ) from error


def _decompressed(path: str, raw: io.RawIOBase) -> Any:
    """A reader with `read1`."""
    buffered = io.BufferedReader(raw, _PIECE)
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=buffered, mode="rb")
    if path.endswith(".bz2"):
        return bz2.BZ2File(buffered)
    if path.endswith(".xz"):
        return lzma.LZMAFile(buffered)
    if path.endswith(".zst"):
        return pa.CompressedInputStream(buffered, "zstd")
    return buffered


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError) or "Truncated" in str(error):
        return "its compressed data end too early"
    return "its compressed data are damaged, or it is not compressed as its ending says"
