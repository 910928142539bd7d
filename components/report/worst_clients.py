"""The clients that the served model serves worst, out of the evaluation's rows per client."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privet.components.shared import files

MOST = 10


def per_client(folder: str, columns: Mapping[str, str]) -> pa.Table:
    """Rows of an evaluation's per_client/.

    Args:
      folder: of the FederatedEvaluation.
      columns: column to read -> the name that it gets.
    """
    paths = files.match(files.join(folder, "per_client", "*.parquet"))
    tables = []
    for path in paths:
        with files.open_arrow(path) as source:
            tables.append(pq.read_table(source, columns=list(columns)).select(list(columns)))
    return pa.concat_tables(tables).rename_columns(list(columns.values()))


def find_worst_clients(
    folder: str, evaluation: Mapping[str, Any], variant: str, key: bytes | None
) -> list[dict[str, Any]]:
    """The clients with the worst primary metric of the served variant, worst first.

    Args:
      folder: of the FederatedEvaluation.
      evaluation: content of evaluation.json.
      variant: name of the one that is served.
      key: what `hidden_id` hides ids with; None to show them as they are in the store, where
        ingestion has hidden them already.

    Returns:
      At most `MOST` rows: `client_id`, number of `examples`, and the metric of the `float` model
      and of the `compressed` one that is served.
    """
    metric = evaluation["metric"]
    columns = {
        "client_id": "client_id",
        "examples": "examples",
        f"float.{metric}": "float",
        f"{variant}.{metric}": "compressed",
    }
    table = per_client(folder, columns)
    table = table.filter(pc.is_valid(table["compressed"]))  # the metric may be undefined
    order = "ascending" if evaluation["higher_is_better"] else "descending"
    by = [("compressed", order), ("client_id", "ascending")]
    rows = pc.select_k_unstable(table, min(MOST, len(table)), by)
    worst = table.take(rows).to_pylist()
    return [row | {"client_id": hidden_id(row["client_id"], key)} for row in worst]


def hidden_id(client_id: str, key: bytes | None) -> str:
    """A keyed hash of an id (BLAKE2b, RFC 7693), which nobody without the key can guess.

    Who has the key finds a client by hashing the ids of per_client/.

    >>> hidden_id("ann", b"secret") == hidden_id("ann", b"secret")
    True
    >>> hidden_id("ann", b"secret") == hidden_id("ann", b"another")
    False
    """
    if key is None:
        return client_id
    return hashlib.blake2b(client_id.encode(), key=key, digest_size=16).hexdigest()
