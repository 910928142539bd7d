"""The file formats that rows are read from and clients written to, by name."""

from typing import Literal, get_args

Format = Literal["csv", "jsonl", "parquet", "avro", "tfrecord", "sequence_tfrecord", "tff_sqlite"]
FORMATS: tuple[Format, ...] = get_args(Format)
