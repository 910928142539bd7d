"""A Python function of the user's that yields examples: one row each."""

import inspect
import itertools
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import RowBatch, batch_of_rows
from privet.components.ingest.config import IngestConfig, PythonConfig
from privet.components.ingest.sources.batching import in_batches, size_of
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.values import common_type
from privet.components.shared.errors import DataError
from privet.components.shared.user_code import load_function

_SAMPLE = 100  # rows that are looked at for the columns


def portions(source: None, config: IngestConfig) -> list[Portion]:
    """One portion: a generator has no middle to start from."""
    return [Portion(name="python", first_row=0, source=_name(_python(config)))]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The columns of the first rows; runs the function until it has yielded those."""
    rows = list(itertools.islice(_rows(config), _SAMPLE))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: common_type([row.get(name) for row in rows]) for name in names}


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows, in the order in which they are yielded.

    Raises:
      DataError: the function fails, or yields something else than mappings.
      ConfigError: there is no such function.
    """
    kept = (
        {name: _frozen(row[name]) for name in wanted if row.get(name) is not None}
        for row in _rows(config)
    )
    first = portion.first_row + 1
    for batch in in_batches(kept, lambda row: sum(map(size_of, row.values()))):
        yield batch_of_rows(range(first, first + len(batch)), batch, wanted)
        first += len(batch)


def _rows(config: IngestConfig) -> Iterator[Mapping[str, Any]]:
    python = _python(config)
    function = load_function(python.module_file, python.function)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise DataError(f"{_name(python)} must need no arguments: {error}.") from error
    number = 1
    try:
        made = function()
        if isinstance(made, Mapping) or not isinstance(made, Iterable):
            raise DataError(
                f"{_name(python)} gives a {type(made).__name__}, wanted an iterator of mappings "
                "(column -> value), one per example: use yield."
            )
        for row in made:
            if not isinstance(row, Mapping):
                raise DataError(
                    f"{_name(python)} yields a {type(row).__name__} as row {number}, wanted a "
                    "mapping (column -> value)"
                )
            yield row
            number += 1
    except DataError:
        raise
    except Exception as error:
        # Not its message, which may quote the data.
        line = traceback.extract_tb(error.__traceback__)[-1]
        raise DataError(
            f"{_name(python)} fails while making row {number}: {type(error).__name__} in line "
            f"{line.lineno} of {line.filename}. Run it by hand to see the whole error."
        ) from error


def _frozen(value: Any) -> Any:
    """A copy of an array: the function may fill the same one again for the next row."""
    return value.copy() if isinstance(value, np.ndarray) else value


def _python(config: IngestConfig) -> PythonConfig:
    assert config.python is not None  # or another source would be asked
    return config.python


def _name(python: PythonConfig) -> str:
    return f"{python.function}() of {python.module_file}"
