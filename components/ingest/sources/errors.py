"""The errors of files that can only be read in part, or not at all."""

from collections.abc import Iterable, Sequence

from privet.components.shared.errors import DataError

NOT_UTF8 = "it is not text in UTF-8"


class CorruptFileError(DataError):
    """A file is damaged, or is not of its format.

    The rows that were read before it stand, as far as the format can tell (the checksum of gzip
    comes at the end, that of TFRecord, xz and bz2 along the way; plain CSV has none). The message
    never quotes the content of the file.

    Attributes:
      source: the file, as people are told.
      reason: what is wrong with it.
      row: number of the last row that was read, if any.
    """

    def __init__(self, source: str, reason: str, row: int = 0):
        super().__init__(source, reason, row)  # what pickle gives back to a worker's driver
        self.source = source
        self.reason = reason
        self.row = row

    def __str__(self) -> str:
        after = f" after row {self.row}" if self.row else ""
        return (
            f"{self.source} cannot be read{after}: {self.reason}. Write or copy the file again, "
            "correct data.format, or set data.corrupt_files to skip what cannot be read."
        )


def check_unique(names: Sequence[str], wanted: Iterable[str], source: str) -> None:
    """Checks that no wanted column occurs twice in a file.

    Raises:
      DataError: one does.
    """
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise DataError(f"{source} has more than one column {twice[0]}: rename or drop the others.")
