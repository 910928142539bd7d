"""SQLite as tff.simulation.datasets.SqlClientData reads it.

TFF's own save_to_sql_client_data writes the same two tables. It is not used: it wants all client
ids and their splits in memory, each client in one split only, builds the file in the system's
temporary folder, takes almost twice as long, and makes no index. Without an index TFF reads the
whole file for each client.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator

from privet.components.ingest.export.blocks import Block
from privet.components.ingest.export.examples import serialized_examples
from privet.components.ingest.export.table import Table
from privet.components.shared import files
from privet.components.shared.errors import DataError

_TABLES = """
CREATE TABLE examples (
    split_name TEXT NOT NULL,
    client_id TEXT NOT NULL,
    serialized_example_proto BLOB NOT NULL);
CREATE TABLE client_metadata (
    client_id TEXT NOT NULL,
    split_name TEXT NOT NULL,
    num_examples INTEGER NOT NULL);
"""
_INDEX = "CREATE INDEX examples_of_client ON examples (client_id, split_name)"
_SAFE = ("journal_mode = OFF", "synchronous = OFF")  # a file of temporary name is written once


def write_tff_sqlite(path: str, table: Table, blocks: Iterable[Block]) -> None:
    """Writes a SQLite file.

    Raises:
      DataError: the path is not on a local disk, where alone SQLite works.
    """
    if not files.is_local(path):
        raise DataError(f"SQLite writes to a local disk only, not to {path}. Copy the file there.")
    files.open_write(path).close()  # makes the folder; SQLite takes an empty file for a new one
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for setting in _SAFE:
            connection.execute(f"PRAGMA {setting}")
        connection.executescript(_TABLES)
        _write_rows(connection, table, blocks)
        connection.execute(_INDEX)
        connection.commit()


def _write_rows(connection: sqlite3.Connection, table: Table, blocks: Iterable[Block]) -> None:
    """Writes the examples, and how many each client has."""
    pending: list[tuple[str, str, int]] = []  # one client: a large one comes in several blocks
    for block in blocks:
        connection.executemany("INSERT INTO examples VALUES (?, ?, ?)", _examples(block, table))
        for client_id, count in zip(block.client_ids, block.counts.tolist(), strict=True):
            if pending and pending[-1][:2] == (client_id, block.split):
                count += pending.pop()[2]
            pending.append((client_id, block.split, count))
        connection.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", pending[:-1])
        del pending[:-1]
    connection.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", pending)


def _examples(block: Block, table: Table) -> Iterator[tuple[str, str, bytes]]:
    records = serialized_examples(block, table, with_ids=False)
    for client_id, record in zip(block.row_ids, records, strict=True):
        yield block.split, client_id, record
