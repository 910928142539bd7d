"""Writing the clients of a store to one file that other tools read."""

import contextlib
import dataclasses
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from privet.components.ingest.export.avro_files import write_avro
from privet.components.ingest.export.blocks import Block, read_blocks
from privet.components.ingest.export.parquet_files import write_parquet
from privet.components.ingest.export.table import Table, table_of
from privet.components.ingest.export.text_files import write_csv, write_json_lines
from privet.components.ingest.export.tff_sqlite_file import write_tff_sqlite
from privet.components.ingest.export.tfrecord_files import write_examples, write_sequences
from privet.components.ingest.formats import Format
from privet.components.ingest.sources.dispatch import ENDINGS
from privet.components.ingest.sources.streams import COMPRESSIONS
from privet.components.shared import files
from privet.components.shared.errors import DataError, StoreError
from privet.components.shared.storage import ADAPT_SPLITS, SPLITS, ClientStore, read_schema

Writer = Callable[[str, Table, Iterable[Block]], None]

WRITERS: Mapping[Format, Writer] = MappingProxyType(
    {
        "csv": write_csv,
        "jsonl": write_json_lines,
        "parquet": write_parquet,
        "avro": write_avro,
        "tfrecord": write_examples,
        "sequence_tfrecord": write_sequences,
        "tff_sqlite": write_tff_sqlite,
    }
)
"""How each format is written: (path, table, blocks)."""


@dataclasses.dataclass
class Counts:
    """What was written of a split.

    Attributes:
      clients, examples: how many.
    """

    clients: int = 0
    examples: int = 0


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written, and what was not.

    Attributes:
      path: the file.
      schema: the file beside it, with which it is read back.
      splits: what was written of each split.
      left_out: splits of the store that were not written, though no split was asked for.
      learned_features: features whose vocabulary was learned from the clients' data.
    """

    path: str
    schema: str
    splits: Mapping[str, Counts]
    left_out: tuple[str, ...]
    learned_features: tuple[str, ...]


def schema_path(path: str) -> str:
    """The file beside an exported one that says how it is read back."""
    return f"{path}.schema.json"


def format_of(path: str) -> Format:
    """The format that a file's ending names.

    Raises:
      DataError: it names none.
    """
    for ending, file_format in ENDINGS.items():
        if path.endswith(ending):
            return file_format
    raise DataError(
        f"cannot tell the format of {path} by its ending: name one with --format "
        f"({', '.join(WRITERS)})."
    )


def export_clients(
    store_directory: str, splits: Sequence[str] | None, path: str, file_format: Format
) -> Exported:
    """Writes clients to a file, and beside it the configuration that reads them back.

    Streams client by client: memory does not grow with the store. The file has its name only
    when it is whole.

    Args:
      store_directory: a ClientExamples artifact.
      splits: names of the splits; None for train, eval and test, as far as there are any.
      path: the file to write; must not exist.
      file_format: one of WRITERS.

    Raises:
      StoreError: the store is damaged or has no such split, or the file cannot be written.
      DataError: the file exists, or its format cannot hold the columns.
    """
    schema = read_schema(store_directory)
    present = _splits_of(store_directory)
    chosen = tuple(dict.fromkeys(splits)) if splits else tuple(s for s in present if s in SPLITS)
    stores = [ClientStore(store_directory, split) for split in chosen]
    if not stores:
        raise StoreError(f"{store_directory} has no split to export. Ingest the data again.")
    if path.endswith(COMPRESSIONS):
        raise DataError(f"{path} would not be compressed. Leave that ending out.")
    beside = schema_path(path)
    for one in (path, beside):
        if files.exists(one):
            raise DataError(f"{one} exists already. Remove it, or choose another name.")
    table = table_of(schema, file_format)
    counts = {split: Counts() for split in chosen}
    blocks = _counted(stores, counts)
    _write_both(path, file_format, table, blocks, table.to_json(file_format, len(stores[0].shards)))
    return Exported(
        path=path,
        schema=beside,
        splits=counts,
        left_out=() if splits else tuple(split for split in present if split not in chosen),
        learned_features=schema.learned_features,
    )


def _counted(stores: Sequence[ClientStore], counts: Mapping[str, Counts]) -> Iterator[Block]:
    """The blocks of all splits; counts what it gives."""
    for store in stores:
        with store:
            counts[store.split].clients = len(store)
            for block in read_blocks(store):
                counts[store.split].examples += len(block)
                yield block


def _write_both(
    path: str, file_format: Format, table: Table, blocks: Iterator[Block], schema: str
) -> None:
    """Writes the file under a temporary name, the schema, then renames; cleans up on failure."""
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    try:
        WRITERS[file_format](temporary, table, blocks)
        files.write_bytes(schema_path(path), schema.encode())
        files.rename(temporary, path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"cannot write {path}: {error}. Check the folder and the space on the disk."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # there may not even be such a folder
            files.remove(temporary)


def _splits_of(directory: str) -> tuple[str, ...]:
    """The splits that a store has."""
    return tuple(
        split
        for split in (*SPLITS, *ADAPT_SPLITS)
        if files.match(files.join(directory, f"Split-{split}", "*.index"))
    )
