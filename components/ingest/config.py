"""Settings of ingestion: where the rows are, how clients are split, what is refused."""

import math
import re
from typing import Literal
from urllib.parse import unquote

import msgspec

from privet.components.ingest.formats import Format
from privet.components.shared.configuration import Config, check
from privet.components.shared.schema import FeatureConfig, LabelConfig, Schema

_SECRETS = re.compile("pass|pwd|secret|token", re.IGNORECASE)

SPAN = "{SPAN}"
"""Stands for a span's number in a path, as in TFX's ExampleGen."""

PARTITION_COLUMN = "partition"
"""The client id column's name in the schema when a partition makes the clients."""


class SqlConfig(Config, frozen=True):
    """A query on a SQL database, through SQLAlchemy.

    Attributes:
      url: SQLAlchemy's URL, without a password: it is recorded in ML Metadata.
      query: gives one row per example. Add ORDER BY over a unique key: the order of rows decides
        which examples of a client are kept and the order in which they are stored.
      password_env: the environment variable that holds the password.
    """

    url: str
    query: str
    password_env: str | None = None

    def __post_init__(self) -> None:
        scheme, separator, rest = self.url.partition("://")
        check(
            bool(scheme and separator),
            "url must be a SQLAlchemy URL such as postgresql://user@host/db",
        )
        # As SQLAlchemy reads it: a password may hold any character, and drivers take it as an
        # option too.
        user, at, _ = rest.rpartition("@")
        options = unquote(rest.partition("?")[2])
        check(
            not (at and ":" in user and not rest.startswith("/")) and not _SECRETS.search(options),
            "url holds a password, which would be recorded in ML Metadata: put it into an "
            "environment variable and name that in password_env",
        )


class PythonConfig(Config, frozen=True):
    """A Python function that yields examples.

    Attributes:
      module_file: a Python file.
      function: the function in it; takes nothing and yields one mapping (column -> value) per
        example.
    """

    module_file: str
    function: str = "examples"


class DatasetConfig(Config, frozen=True):
    """A data set of tff.simulation.datasets, downloaded by TFF on first use.

    Attributes:
      name: the data set.
      split: which of its parts; `train` and `test` hold the same clients in emnist and
        shakespeare, others in stackoverflow.
      cache_dir: where TFF keeps the download; by default its own cache.
    """

    name: Literal["emnist", "shakespeare", "stackoverflow"]
    split: Literal["train", "test", "held_out"] = "train"
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        check(
            self.split != "held_out" or self.name == "stackoverflow",
            f"split=held_out exists in stackoverflow only, not in {self.name}",
        )


class PartitionConfig(Config, frozen=True):
    """Simulated clients for data that name none.

    Attributes:
      kind: `iid` (shuffled, equal sizes), `dirichlet` (label skew: Yurochkin et al., 2019),
        `shards` (sorted by label, a few runs for each client: McMahan et al., 2017),
        `by_feature` (a column's value is the client), `quantity` (iid labels, unequal sizes).
      clients: how many; not for by_feature.
      alpha: concentration of the Dirichlet distribution (dirichlet, quantity): the smaller, the
        more skewed.
      shards_per_client: of kind shards.
      column: of kind by_feature.
      seed: another seed gives another partition.
    """

    kind: Literal["iid", "dirichlet", "shards", "by_feature", "quantity"]
    clients: int | None = None
    alpha: float = 0.5
    shards_per_client: int = 2
    column: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        by_feature = self.kind == "by_feature"
        check(
            (self.clients is None) == by_feature,
            f"clients={self.clients} "
            + ("does not apply to kind=by_feature" if by_feature else f"is needed for {self.kind}"),
        )
        check(self.clients is None or self.clients >= 1, f"clients={self.clients} must be >= 1")
        check(0 < self.alpha < math.inf, f"alpha={self.alpha} must be > 0 and finite")
        check(self.seed >= 0, f"seed={self.seed} must be >= 0")
        check(
            self.shards_per_client >= 1, f"shards_per_client={self.shards_per_client} must be >= 1"
        )
        check(
            (self.column is not None) == by_feature,
            f"column={self.column} is for kind=by_feature, which needs it",
        )


class SplitConfig(Config, frozen=True):
    """How clients are divided into train, eval and test.

    Either by a hash of the client id (stable: adding clients never moves an old one), or by a
    column of the data that holds the name of the split.

    Attributes:
      eval, test: fractions of the clients.
      seed: another seed gives another division.
      column: the column with `train`, `eval` or `test`; then the fractions do not apply.
      personalization: fraction of the examples of each eval (and test) client that is set apart
        for adapting the model to that client, in the splits eval_adapt (and test_adapt).
    """

    eval: float = 0.2
    test: float = 0.0
    seed: int = 0
    column: str | None = None
    personalization: float = 0.0

    def __post_init__(self) -> None:
        check(0.0 < self.eval < 1.0, f"eval={self.eval} must lie between 0 and 1")
        check(0.0 <= self.test < 1.0, f"test={self.test} must lie in [0, 1)")
        check(
            self.eval + self.test < 1.0,
            f"eval={self.eval} + test={self.test} must leave clients to train on (sum < 1)",
        )
        check(
            0.0 <= self.personalization < 1.0,
            f"personalization={self.personalization} must lie in [0, 1)",
        )


class DpStatisticsConfig(Config, frozen=True):
    """Statistics with user-level noise in place of exact ones.

    Attributes:
      epsilon, delta: what the release of all statistics together may spend; it is added to the
        ledger of the run.
      max_examples_per_client: a client counts with at most so many examples.
    """

    epsilon: float
    delta: float
    max_examples_per_client: int

    def __post_init__(self) -> None:
        check(
            0 < self.epsilon < math.inf,
            f"epsilon={self.epsilon} must be > 0 and finite",
        )
        check(0 < self.delta < 1, f"delta={self.delta} must lie between 0 and 1")
        check(
            self.max_examples_per_client >= 1,
            f"max_examples_per_client={self.max_examples_per_client} must be >= 1",
        )


class IngestConfig(Config, frozen=True):
    """Per-client rows and how they become a client store.

    Attributes:
      files: path or glob, or several; any filesystem that Beam knows.
      sql, python, dataset: other sources, in place of files.
      format: of the files; by default what their endings say.
      client_id: the column that names the client a row belongs to.
      partition: makes simulated clients, for data without a client id.
      client_ids: `hashed` (by the run's secret salt, so that no raw id lands in an artifact) or
        `exact`.
      salt_file: the secret that ids and the choice among examples depend on, at least 16 bytes;
        by default one that the first run makes. The same salt gives the same store.
      features, label: see FeatureConfig and LabelConfig. Without features every other column is
        one, of the type that it has.
      learned_features: names of features whose type, or whose indices' vocabulary, an earlier
        ingestion learned from clients; `privet export-clients` writes it. Training with privacy
        refuses them.
      split: how clients are divided.
      min_examples_per_client: leave out a client with fewer.
      max_examples_per_client: keep at most this many examples of a client, a uniform choice.
      max_reject_fraction: share of rows that may be refused before ingestion stops; by default
        one bad row stops it, with the first reasons in the error. Rows refused within the
        allowance are listed in rejects/.
      keep_rejected_rows: write the refused rows' values into rejects/ too.
      corrupt_files: `fail`, or `skip` a file from where it cannot be read, which the summary of
        refused rows then names.
      allow_empty_clients: drop (and count) a client whose rows were all refused, instead of
        stopping.
      dp_statistics: noised statistics in place of exact ones.
      spans: read only the spans ({SPAN} in files) that are new since the last run.
      shards: files per split.
    """

    label: LabelConfig
    files: str | tuple[str, ...] = ()
    sql: SqlConfig | None = None
    python: PythonConfig | None = None
    dataset: DatasetConfig | None = None
    format: Format | None = None
    client_id: str | None = None
    partition: PartitionConfig | None = None
    client_ids: Literal["hashed", "exact"] = "hashed"
    salt_file: str | None = None
    features: dict[str, FeatureConfig] = msgspec.field(default_factory=dict)
    learned_features: tuple[str, ...] = ()
    split: SplitConfig = SplitConfig()
    min_examples_per_client: int = 1
    max_examples_per_client: int | None = None
    max_reject_fraction: float = 0.0
    keep_rejected_rows: bool = False
    corrupt_files: Literal["fail", "skip"] = "fail"
    allow_empty_clients: bool = False
    dp_statistics: DpStatisticsConfig | None = None
    spans: bool = False
    shards: int = 8

    def __post_init__(self) -> None:
        named = [name for name in ("sql", "python", "dataset") if getattr(self, name) is not None]
        named += ["files"] if self.patterns else []
        check(
            len(named) == 1,
            f"give exactly one source of rows: files, sql, python or dataset (got {named or None})",
        )
        self._check_clients()
        self._check_limits()
        spanned = [SPAN in pattern for pattern in self.patterns]
        check(
            all(spanned) and bool(spanned) if self.spans else not any(spanned),
            f"spans={str(self.spans).lower()} and files={self.files!r} do not fit: with spans "
            f"every pattern holds {SPAN}, without none does",
        )
        if self.features:
            assert self.schema_of(self.features)  # the schema's own rules

    def _check_clients(self) -> None:
        check(
            self.client_id is None or self.partition is None,
            f"client_id={self.client_id!r} and partition exclude each other",
        )
        check(
            self.client_id is not None or self.partition is not None or self.dataset is not None,
            "client_id must name the column with the client, or partition must make clients",
        )
        check(
            self.partition is None or self.split.column is None,
            "split.column does not go with partition, whose clients mix rows of all splits",
        )
        check(
            self.partition is None or not self.spans,
            "spans do not go with partition, which needs all rows at once",
        )

    def _check_limits(self) -> None:
        low, high = self.min_examples_per_client, self.max_examples_per_client
        check(low >= 1, f"min_examples_per_client={low} must be >= 1")
        check(high is None or high >= 1, f"max_examples_per_client={high} must be >= 1")
        check(
            high is None or low <= high,
            f"min_examples_per_client={low} exceeds max_examples_per_client={high}",
        )
        check(
            0.0 <= self.max_reject_fraction <= 1.0,
            f"max_reject_fraction={self.max_reject_fraction} must lie in [0, 1]",
        )
        check(1 <= self.shards <= 99999, f"shards={self.shards} must lie between 1 and 99999")

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths or globs; none for another source than files."""
        return (self.files,) if isinstance(self.files, str) else self.files

    @property
    def client_column(self) -> str:
        """The column of the client id, also where the source or a partition makes it."""
        if self.client_id is not None:
            return self.client_id
        if self.partition is None:
            return "client_id"  # the column that TFF's data sets are given
        return self.partition.column or PARTITION_COLUMN

    def schema_of(self, features: dict[str, FeatureConfig]) -> Schema:
        """The schema of one example, given the (inferred) features."""
        return Schema(
            client_id=self.client_column,
            features=features,
            label=self.label,
            learned_features=self.learned_features,
        )

    def columns(self, schema: Schema) -> tuple[str, ...]:
        """Every column that is read from the source."""
        made = self.partition is not None and self.partition.kind != "by_feature"
        columns = schema.columns[1:] if made else schema.columns
        return (*columns, self.split.column) if self.split.column else columns

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the store will have."""
        with_test = self.split.column is not None or self.split.test > 0
        held_out = ("eval", "test") if with_test else ("eval",)
        adapt = tuple(f"{name}_adapt" for name in held_out) if self.split.personalization else ()
        return ("train", *held_out, *adapt)
