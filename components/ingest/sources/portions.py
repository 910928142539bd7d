"""What to read: the source cut into portions, each read by one worker from end to end."""

import dataclasses


@dataclasses.dataclass(frozen=True, order=True)
class Portion:
    """A part of a source.

    Attributes:
      name: what the source is called wherever the data lie: a file's path below the fixed part
        of its pattern. Rows of a client are stored in the order of (name, row number), and the
        choice of `max_examples_per_client` is seeded by them, so that moved data give the same
        store.
      first_row: rows of the source before this portion; its first row has number first_row + 1.
      source: where it is, as people are told: a path, a database without password, a function.
      part: which part of the source, in the reader's own terms: "" for the whole, or for example
        a range of Parquet row groups.
    """

    name: str
    first_row: int
    source: str
    part: str = ""
