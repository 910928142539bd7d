"""Settings of ingestion: where the rows are, how clients are split, what is refused."""

from typing import Literal

from privet.components.shared.configuration import Config, check
from privet.components.shared.schema import FeatureConfig, LabelConfig, Schema

Format = Literal["csv", "parquet"]


class SplitConfig(Config, frozen=True):
    """How clients are divided into train, eval and test.

    Either by a hash of the client id (stable: adding clients never moves an old one), or by a
    column of the data that holds the name of the split.

    Attributes:
      eval, test: fractions of the clients.
      seed: another seed gives another division.
      column: the column with `train`, `eval` or `test`; then the fractions do not apply.
    """

    eval: float = 0.2
    test: float = 0.0
    seed: int = 0
    column: str | None = None

    def __post_init__(self) -> None:
        check(0.0 < self.eval < 1.0, f"eval={self.eval} must lie between 0 and 1")
        check(0.0 <= self.test < 1.0, f"test={self.test} must lie in [0, 1)")
        check(
            self.eval + self.test < 1.0,
            f"eval={self.eval} + test={self.test} must leave clients to train on (sum < 1)",
        )


class IngestConfig(Config, frozen=True):
    """Per-client rows and how they become a client store.

    Attributes:
      files: path or glob, or several; any filesystem that Beam knows.
      client_id: the column that names the client a row belongs to.
      features, label: see FeatureConfig and LabelConfig.
      format: csv or parquet; by default what the file's ending says.
      split: how clients are divided.
      max_examples_per_client: keep at most this many examples of a client, a uniform choice.
      max_rejected_fraction: share of rows that may be refused before ingestion stops; by default
        one bad row stops it, with the first reasons in the error. Rows refused within the
        allowance are listed in rejects/.
      allow_empty_clients: drop (and count) a client whose rows were all refused, instead of
        stopping.
      shards: files per split.
    """

    files: str | tuple[str, ...]
    client_id: str
    features: dict[str, FeatureConfig]
    label: LabelConfig
    format: Format | None = None
    split: SplitConfig = SplitConfig()
    max_examples_per_client: int | None = None
    max_rejected_fraction: float = 0.0
    allow_empty_clients: bool = False
    shards: int = 8

    def __post_init__(self) -> None:
        check(len(self.patterns) > 0, "files=[] must name at least one file")
        check(
            self.max_examples_per_client is None or self.max_examples_per_client >= 1,
            f"max_examples_per_client={self.max_examples_per_client} must be >= 1",
        )
        check(
            0.0 <= self.max_rejected_fraction <= 1.0,
            f"max_rejected_fraction={self.max_rejected_fraction} must lie in [0, 1]",
        )
        check(1 <= self.shards <= 99999, f"shards={self.shards} must lie between 1 and 99999")
        assert self.schema  # the schema's own rules

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths or globs."""
        return (self.files,) if isinstance(self.files, str) else self.files

    @property
    def schema(self) -> Schema:
        """The schema of one example."""
        return Schema(client_id=self.client_id, features=self.features, label=self.label)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the files must have."""
        split = (self.split.column,) if self.split.column else ()
        return (*self.schema.columns, *split)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the store will have."""
        with_test = self.split.column is not None or self.split.test > 0
        return ("train", "eval", "test") if with_test else ("train", "eval")
