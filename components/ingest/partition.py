"""Simulated clients: divides the rows of a table that names no client (PartitionConfig).

Pure functions of labels and a seed: the same table in the same order gives the same clients.
"""

import itertools

import numpy as np

from privet.components.ingest.config import PartitionConfig
from privet.components.shared.errors import ConfigError, DataError

MISSING = -1
"""Stands for an integer label that is missing or cannot be read; a missing float is NaN."""

VALUE_CLASSES = 10
"""Regression has no classes: label skew then goes by deciles of the label."""

_RADIX_SORTED = 1 << 16  # integers of 16 bits have a sort of linear time


def assign_clients(labels: np.ndarray, config: PartitionConfig) -> np.ndarray:
    """Gives every row a client; every client gets a row.

    * iid: shuffled; sizes differ by at most one.
    * quantity: shuffled; the clients' sizes are one draw of a symmetric Dirichlet(alpha).
    * dirichlet: the same for each class by itself, so that clients differ in their labels
      (Yurochkin et al., 2019, "Bayesian Nonparametric Federated Learning of Neural Networks",
      section 4; Hsu, Qi, Brown, 2019, "Measuring the Effects of Non-Identical Data Distribution"
      draw each client's labels instead, for clients of one size). A small alpha gives each class
      to few clients.
    * shards: sorted by label (rows with the same label stay in order) and cut into
      clients * shards_per_client runs of equal size, which are dealt out at random (McMahan et
      al., 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
      section 3).

    In dirichlet and quantity a client's share of a class is rounded up or down at random, so that
    it is right on average. A client that got no row receives one from among the largest clients.

    Rows with a missing label are a class of their own. For regression (labels of a float dtype)
    dirichlet uses `label_classes`, and shards sorts by the value.

    Args:
      labels: integers, MISSING where there is none, or floats, NaN where there is none; [rows].
      config: of any kind but by_feature, where a column holds the client.

    Returns:
      int64 [rows]: the row's client, from 0 to config.clients - 1.

    Raises:
      DataError: fewer rows than clients, or, for shards, than shards.
    """
    if config.clients is None:
        raise ConfigError(
            f"partition.kind={config.kind} assigns no clients: its column {config.column!r} "
            "already holds them. Read that column as the client id."
        )
    rows, clients = len(labels), config.clients
    generator = np.random.default_rng(config.seed)
    if config.kind == "shards":
        return _deal_shards(labels, clients, config.shards_per_client, generator)
    _check_rows(rows, clients, f"data.partition.clients={clients}", "client")
    if config.kind == "iid":
        owners = np.arange(rows) % clients
        generator.shuffle(owners)
        return owners
    skewed_by_label = config.kind == "dirichlet"
    classes = label_classes(labels) if skewed_by_label else np.zeros(rows, np.int64)
    owners = _divide_classes(classes, clients, config.alpha, generator)
    _fill_empty_clients(owners, clients, generator)
    return owners


def label_classes(labels: np.ndarray) -> np.ndarray:
    """The class of each row: its label, or for regression the decile that the label lies in.

    Equal labels are in the same decile, so with many equal ones some deciles are empty.

    >>> label_classes(np.array([7, -1, 3]))
    array([ 7, -1,  3])
    >>> label_classes(np.array([0.5, np.nan, 0.1, 0.3, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0]))
    array([ 4, -1,  0,  2,  1,  3,  5,  6,  7,  8,  9])

    Returns:
      int64 [rows]; MISSING where there is no label.
    """
    if labels.dtype.kind != "f":
        return labels.astype(np.int64, copy=False)
    missing = np.isnan(labels)
    known = labels[~missing]
    if not len(known):
        return np.full(len(labels), MISSING, np.int64)
    ranks = np.arange(1, VALUE_CLASSES) * len(known) // VALUE_CLASSES
    edges = np.partition(known, ranks)[ranks]
    classes = np.searchsorted(edges, labels, side="right")
    classes[missing] = MISSING
    return classes


def client_name(number: int, clients: int) -> str:
    """The client id of a simulated client; names sort as their numbers do.

    >>> client_name(7, 200), client_name(7, 100_000)
    ('client-0007', 'client-00007')
    """
    return f"client-{number:0{max(4, len(str(clients - 1)))}d}"


def _deal_shards(
    labels: np.ndarray, clients: int, shards_per_client: int, generator: np.random.Generator
) -> np.ndarray:
    """Sorted rows in runs whose sizes differ by at most one, `shards_per_client` for each."""
    rows, shards = len(labels), clients * shards_per_client
    named = f"data.partition.clients={clients} with shards_per_client={shards_per_client}"
    _check_rows(rows, shards, named, "shard")
    sizes = np.full(shards, rows // shards)
    sizes[: rows % shards] += 1
    owners = np.empty(rows, np.int64)
    owners[_sorting_order(labels)] = np.repeat(generator.permutation(shards) % clients, sizes)
    return owners


def _divide_classes(
    classes: np.ndarray, clients: int, alpha: float, generator: np.random.Generator
) -> np.ndarray:
    """Divides the rows of each class by shares of its own; some clients may get none."""
    order = _sorting_order(classes)
    in_order = classes[order]
    starts = np.flatnonzero(in_order[1:] != in_order[:-1]) + 1
    dealt = np.empty(len(classes), np.int64)
    for start, end in itertools.pairwise((0, *starts.tolist(), len(classes))):
        shares = _dirichlet(clients, alpha, generator)
        sizes = _random_rounding(shares, end - start, generator)
        dealt[start:end] = np.repeat(np.arange(clients), sizes)
        generator.shuffle(dealt[start:end])
    owners = np.empty_like(dealt)
    owners[order] = dealt
    return owners


def _dirichlet(size: int, alpha: float, generator: np.random.Generator) -> np.ndarray:
    """One draw of a symmetric Dirichlet distribution, for every finite alpha > 0.

    A Dirichlet draw is a vector of Gamma(alpha) draws over their sum. For a small alpha all of
    them underflow to 0, and 0/0 is no share; so this takes their logarithms, and
    Gamma(alpha) = Gamma(1 + alpha) * U^(1/alpha) with a uniform U (Marsaglia and Tsang, 2000, "A
    Simple Method for Generating Gamma Variables", section 6). The largest one becomes exp(0)
    before the division by alpha, so that the sum is never 0.

    Returns:
      float64 [size], adding up to 1.
    """
    tiny = np.finfo(np.float64).tiny
    if alpha >= 1.0:
        logs = np.log(np.maximum(generator.standard_gamma(alpha, size), tiny))
        logs -= logs.max()
    else:
        gammas = np.maximum(generator.standard_gamma(1.0 + alpha, size), tiny)
        logs = alpha * np.log(gammas) - generator.standard_exponential(size)  # times alpha
        with np.errstate(over="ignore"):  # to -inf, whose exponential is the 0 that is meant
            logs = (logs - logs.max()) / alpha
    shares = np.exp(logs)
    return np.asarray(shares / shares.sum())


def _random_rounding(shares: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Whole numbers that add up to `rows`: each rows * share, rounded up or down by chance.

    Systematic sampling in a random order: the expected number is exactly rows * share, which a
    plain rounding misses when there are more clients than rows of a class.
    """
    order = generator.permutation(len(shares))
    edges = np.floor(np.cumsum(shares[order]) * rows + generator.random())
    edges = np.minimum(edges, rows).astype(np.int64)
    edges[-1] = rows
    sizes = np.empty_like(edges)
    sizes[order] = np.diff(edges, prepend=0)
    return sizes


def _fill_empty_clients(owners: np.ndarray, clients: int, generator: np.random.Generator) -> None:
    """Gives each client without a row one row of the largest clients, in place.

    The largest are lowered to one common level, so that none of them loses much; which of their
    rows they give up is chosen at random.
    """
    sizes = np.bincount(owners, minlength=clients)
    empty = np.flatnonzero(sizes == 0)
    if not len(empty):
        return
    lowest, highest = 1, int(sizes.max())  # at level 1 there is enough: rows >= clients
    while lowest < highest:
        level = (lowest + highest + 1) // 2
        enough = np.maximum(sizes - level, 0).sum() >= len(empty)
        lowest, highest = (level, highest) if enough else (lowest, level - 1)
    given = np.maximum(sizes - lowest, 0)
    too_many = int(given.sum()) - len(empty)
    given[np.flatnonzero(given)[:too_many]] -= 1
    candidates = generator.permutation(np.flatnonzero(given[owners]))
    candidates = candidates[_sorting_order(owners[candidates])]
    first_of_owner = np.cumsum(np.where(given, sizes, 0)) - sizes
    owner = owners[candidates]
    chosen = np.arange(len(candidates)) - first_of_owner[owner] < given[owner]
    owners[candidates[chosen]] = empty


def _sorting_order(values: np.ndarray) -> np.ndarray:
    """Indices that sort the values (NaN last); equal ones stay in order."""
    if values.dtype.kind != "f" and len(values):
        lowest, highest = int(values.min()), int(values.max())
        if highest - lowest < _RADIX_SORTED:
            values = (values.astype(np.int64) - lowest).astype(np.uint16)
    return np.argsort(values, kind="stable")


def _check_rows(rows: int, parts: int, named: str, part: str) -> None:
    """Refuses a table that cannot give each part a row."""
    if rows < parts:
        raise DataError(
            f"{named} needs at least {parts} rows, one for each {part}, but the data have {rows}. "
            "Lower the setting or add rows."
        )
