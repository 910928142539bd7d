"""Writes the tutorial's data: the digits of Federated EMNIST, out of TFF's own file.

TFF keeps the train and the test images of every writer under one client id. Privet holds out
clients, so a writer's test images become a client of their own in the split `eval`.

    python examples/tff_tutorial/make_data.py                            # downloads by TFF
    python examples/tff_tutorial/make_data.py --source emnist_all.sqlite # a copy that is there
"""

import argparse
import contextlib
import sqlite3
from pathlib import Path

DATA = Path(__file__).with_name("data")
SPLITS = {"digits_only_train": ("train", ""), "digits_only_test": ("eval", "/test")}
"""TFF's split -> the split here, and what is put after a client id."""


def write(source: Path, output: Path) -> int:
    """Copies the digits into a SQLite file of TFF's layout.

    Args:
      source: TFF's emnist_all.sqlite.
      output: replaced if it exists.

    Returns:
      The number of clients in train.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(partial, uri=True)) as database, database:
        database.execute("ATTACH ? AS tff", (f"{source.resolve().as_uri()}?mode=ro",))
        database.execute(
            "CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)"
        )
        for theirs, (ours, suffix) in SPLITS.items():
            database.execute(
                "INSERT INTO examples SELECT ?, client_id || ?, serialized_example_proto "
                "FROM tff.examples WHERE split_name = ?",
                (ours, suffix, theirs),
            )
        ((clients,),) = database.execute(
            "SELECT COUNT(DISTINCT client_id) FROM examples WHERE split_name = 'train'"
        )
    partial.replace(output)
    return int(clients)


def download(folder: Path) -> Path:
    """TFF's own file, downloaded by TFF unless it is there."""
    import tensorflow_federated as tff

    tff.simulation.datasets.emnist.load_data(only_digits=True, cache_dir=str(folder))
    return folder / "emnist_all.sqlite"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="TFF's emnist_all.sqlite, if it is there")
    given = parser.parse_args().source
    path = DATA / "digits.sqlite"
    print(f"wrote {path}: {write(given or download(DATA), path)} clients to train")
