"""Writes a synthetic handwriting population as Parquet: 62 classes, 28x28 grey, one hand a writer.

Everything is made up: letter shapes are the centre lines of free fonts, deformed by a habit of the
writer and by chance. It is a population to measure federated learning on where no real one may be
had, and no result on it says anything about real handwriting.

    python examples/handwriting/make_data.py [--writers 3400] [--held-out 600] [--images 100]
        [--seed 0] [--alphabets plain] [--files 4] [--output examples/handwriting/data]

The column `split` is `train` for the first group of writers and `eval` for the held-out one. A
writer is the same whatever the number of writers and files. With `--alphabets serif` all letters
come of other fonts: people who learned to write elsewhere, whose data may be public.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from alphabets import ALPHABETS, CLASSES
from writers import SIDE, draw_images, make_writer

SPLITS = ("train", "eval")
OUTPUT = Path(__file__).with_name("data")
ROWS = 8192
"""Rows of a row group at least, except the last of a file."""

SCHEMA = pa.schema(
    {
        "writer": pa.string(),
        "split": pa.string(),
        "image": pa.binary(SIDE * SIDE),  # row by row from the top left, 0 is paper
        "character": pa.string(),
        "class": pa.int64(),
    }
)


def draw_writer(
    split: str, number: int, images: int, seed: int = 0, alphabets: str = "plain"
) -> tuple[np.ndarray, np.ndarray]:
    """Draws all images of a writer.

    Args:
      split: train or eval.
      number: of the writer within the split, from 0.
      images: mean number of images of a writer. How many this one has is log-normal, between a
        quarter and four times of it; how often each class occurs is Dirichlet-distributed.
      seed: another seed gives another population.
      alphabets: which ones the writer learned, a key of ALPHABETS.

    Returns:
      Images, uint8 [n, SIDE, SIDE], and their classes, int64 [n].
    """
    generator = np.random.default_rng([seed, SPLITS.index(split), number])
    writer = make_writer(generator, alphabets)
    spread = 0.4
    share = np.clip(generator.lognormal(-(spread**2) / 2, spread), 0.25, 4.0)
    frequencies = generator.dirichlet(np.full(len(CLASSES), 4.0))
    labels = generator.choice(len(CLASSES), size=max(1, round(images * share)), p=frequencies)
    return draw_images(writer, labels, generator), labels


def write(
    directory: Path,
    writers: int = 3400,
    held_out: int = 600,
    images: int = 100,
    seed: int = 0,
    files: int = 4,
    alphabets: str = "plain",
) -> int:
    """Writes handwriting-*.parquet and removes those of another call.

    Args:
      directory: where to; made if missing.
      writers, held_out: how many writers train, and how many are held out.
      images: mean number of images of a writer.
      seed: another seed gives another population.
      files: over how many files the writers are spread, in order.
      alphabets: which ones the writers learned, a key of ALPHABETS.

    Returns:
      The number of images.

    Raises:
      ValueError: a number is out of its range.
    """
    for name, given, least in (
        ("writers", writers, 1),
        ("held_out", held_out, 0),
        ("images", images, 1),
        ("seed", seed, 0),
    ):
        if given < least:
            raise ValueError(f"{name}={given} must be >= {least}")
    names = [("train", n) for n in range(writers)] + [("eval", n) for n in range(held_out)]
    if not 1 <= files <= len(names):
        raise ValueError(
            f"files={files} must lie between 1 and the number of writers, {len(names)}"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("handwriting-*.parquet*"):
        old.unlink()
    ends = [len(names) * (file + 1) // files for file in range(files)]
    total = 0
    for file, end in enumerate(ends):
        start = ends[file - 1] if file else 0
        path = directory / f"handwriting-{file:05d}-of-{files:05d}.parquet"
        part = path.with_suffix(".parquet.part")
        plain = [name for name in SCHEMA.names if name != "image"]
        with pyarrow.parquet.ParquetWriter(
            part, SCHEMA, use_dictionary=plain, write_statistics=plain, compression="zstd"
        ) as output:
            for table in _row_groups(names[start:end], images, seed, alphabets):
                output.write_table(table)
                total += len(table)
        part.rename(path)
    return total


def _row_groups(
    names: list[tuple[str, int]], images: int, seed: int, alphabets: str
) -> Iterator[pa.Table]:
    """Whole writers, gathered to tables of at least ROWS rows."""
    gathered: list[pa.RecordBatch] = []
    for split, number in names:
        drawn = draw_writer(split, number, images, seed, alphabets)
        gathered.append(_batch(split, number, *drawn))
        if sum(map(len, gathered)) >= ROWS:
            yield pa.Table.from_batches(gathered)
            gathered = []
    if gathered:
        yield pa.Table.from_batches(gathered)


def _batch(split: str, number: int, images: np.ndarray, labels: np.ndarray) -> pa.RecordBatch:
    count = len(images)
    pixels = pa.Array.from_buffers(SCHEMA.field("image").type, count, [None, pa.py_buffer(images)])
    columns = {
        "writer": pa.repeat(f"{split}-{number:05d}", count),
        "split": pa.repeat(split, count),
        "image": pixels,
        "character": pa.array(list(CLASSES)).take(pa.array(labels)),
        "class": pa.array(labels),
    }
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=3400, help="who train (default 3400)")
    parser.add_argument("--held-out", type=int, default=600, help="further writers (default 600)")
    parser.add_argument("--images", type=int, default=100, help="mean of a writer (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the population (default 0)")
    parser.add_argument(
        "--alphabets", choices=ALPHABETS, default="plain", help="of the letters (default plain)"
    )
    parser.add_argument("--files", type=int, default=4, help="default 4")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory")
    arguments = vars(parser.parse_args())
    directory = arguments.pop("output")
    try:
        count = write(directory, **arguments)
    except ValueError as error:
        parser.error(str(error))
    print(f"wrote {count} images to {directory}")
