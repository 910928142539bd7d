"""A query on a SQL database, through SQLAlchemy: one row per row of its result.

The result is streamed: by a server-side cursor where the database has one (PostgreSQL, MySQL),
so that it is never in memory as a whole.
"""

import contextlib
import decimal
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from privet.components.ingest.batches import BATCH_BYTES, BATCH_ROWS, RowBatch
from privet.components.ingest.config import IngestConfig, SqlConfig
from privet.components.ingest.sources.batching import in_batches, size_of
from privet.components.ingest.sources.portions import Portion
from privet.components.ingest.sources.values import common_type
from privet.components.shared.errors import ConfigError, DataError

_SAMPLE = 64  # rows that are looked at for the types of the columns
_CONNECT_SECONDS = 30


def portions(source: None, config: IngestConfig) -> list[Portion]:
    """One portion: a query cannot be cut without knowing its tables."""
    return [Portion(name="sql", first_row=0, source=_name(_sql(config)))]


def columns(portion: Portion, config: IngestConfig) -> dict[str, pa.DataType | None]:
    """The columns of the result, with the types of its first rows."""
    with _result(_sql(config)) as result:
        rows = result.fetchmany(_SAMPLE)
        values = list(zip(*rows, strict=True)) or [()] * len(result.keys())
        return {
            name: common_type(_plain(column))
            for name, column in zip(result.keys(), values, strict=True)
        }


def read(portion: Portion, config: IngestConfig, wanted: tuple[str, ...]) -> Iterator[RowBatch]:
    """The rows of the result, in its order.

    Raises:
      ConfigError: the password is not in the environment, a driver is not installed, or the
        query gives no rows or a column twice.
      DataError: the database cannot be reached, or refuses the query or to go on with it.
    """
    with _result(_sql(config)) as result:
        places = {name: place for place, name in enumerate(result.keys()) if name in wanted}
        first = portion.first_row + 1
        for rows in in_batches(_rows(result), _memory):
            values = list(zip(*rows, strict=True))
            yield RowBatch(
                np.arange(first, first + len(rows)),
                {name: _plain(values[place]) for name, place in places.items()},
            )
            first += len(rows)


def _rows(result: Any) -> Iterator[Any]:
    """The rows, fetched a few at a time: not more than BATCH_BYTES, by the size of the last."""
    size = 1
    while rows := result.fetchmany(size):
        yield from rows
        row_bytes = sum(map(_memory, rows)) // len(rows)
        size = max(1, min(BATCH_ROWS, 4 * size, BATCH_BYTES // row_bytes))


@contextlib.contextmanager
def _result(sql: SqlConfig) -> Iterator[Any]:
    """The running query. Errors hold neither the password nor, once rows flow, a value."""
    import sqlalchemy
    from sqlalchemy import exc, pool

    password = _password(sql)
    url = _url(sql, password)
    try:
        engine = sqlalchemy.create_engine(
            url, poolclass=pool.NullPool, connect_args=_connect_arguments(url)
        )
    except (ImportError, exc.NoSuchModuleError) as error:
        raise ConfigError(
            f"there is no driver for {_name(sql)}: {error}. Install one, or name one that is "
            f"installed, as in postgresql+psycopg2://user@host/database."
        ) from error
    except (exc.ArgumentError, TypeError) as error:
        raise ConfigError(f"url={_name(sql)} is not understood: {error}") from None
    try:
        with contextlib.closing(_connect(engine, sql, password)) as connection:
            yield _execute(connection, sql, password)
    except (exc.DBAPIError, UnicodeError) as error:  # the query runs: its errors may quote values
        cause = getattr(error, "orig", error)
        code = getattr(cause, "pgcode", None)
        raise DataError(
            f"reading from {_name(sql)} failed while rows were coming: "
            f"{type(cause).__name__}{f' (SQLSTATE {code})' if code else ''}. Run the query "
            "in the database's own client to see the cause, and try again."
        ) from None
    finally:
        engine.dispose()


def _connect(engine: Any, sql: SqlConfig, password: str | None) -> Any:
    """A connection that changes nothing."""
    from sqlalchemy import exc

    try:
        connection = engine.connect()
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        elif engine.dialect.name == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True)
        connection.begin()  # never committed; without it, SQLAlchemy commits each statement
        return connection
    except exc.DBAPIError as error:
        raise DataError(
            f"cannot reach {_name(sql)}: {_words(error, password)}. Check host, port, database, "
            "user and password (data.sql.url, data.sql.password_env), and that it is running."
        ) from None


def _execute(connection: Any, sql: SqlConfig, password: str | None) -> Any:
    from sqlalchemy import exc

    options = {"stream_results": True, "no_parameters": True}
    try:
        result = connection.exec_driver_sql(sql.query, execution_options=options)
    except (exc.ProgrammingError, exc.OperationalError, exc.NotSupportedError) as error:
        raise DataError(
            f"{_name(sql)} refuses data.sql.query: {_words(error, password)}. Correct the query; "
            "it must be one SELECT."
        ) from None
    if not result.returns_rows:
        raise ConfigError("data.sql.query gives no rows: it must be one SELECT.")
    names = list(result.keys())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"data.sql.query gives the column {twice[0]} twice: name them apart with AS."
        )
    return result


def _url(sql: SqlConfig, password: str | None) -> Any:
    from sqlalchemy import exc
    from sqlalchemy.engine import make_url

    try:
        url = make_url(sql.url)
    except exc.ArgumentError as error:
        raise ConfigError(
            f"data.sql.url={sql.url!r} is no SQLAlchemy URL such as postgresql://user@host/db"
        ) from error
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        path = Path(url.database)
        if not path.is_file() and "uri" not in url.query:  # SQLite would make an empty one
            raise DataError(f"cannot reach {_name(sql)}: there is no such file. Check the path.")
    return url if password is None else url.set(password=password)


def _connect_arguments(url: Any) -> dict[str, Any]:
    """Without it, a host that does not answer would be waited for by the minute."""
    if url.drivername in ("postgresql", "postgresql+psycopg2"):
        return {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS}
    return {}


def _password(sql: SqlConfig) -> str | None:
    if sql.password_env is None:
        return None
    password = os.environ.get(sql.password_env)
    if password is None:
        raise ConfigError(
            f"data.sql.password_env={sql.password_env}: there is no such environment variable. "
            "Set it to the database's password, where the pipeline runs and on its workers."
        )
    return password


def _words(error: Any, password: str | None) -> str:
    """The database's own words on one line, without SQLAlchemy's and without the password."""
    text = " ".join(str(error.orig).split()).rstrip(".")
    return text.replace(password, "***") if password else text


def _memory(row: Any) -> int:
    return 1 + sum(map(size_of, row))


def _plain(values: Sequence[Any]) -> list[Any]:
    """The values of a column, where a driver has types of its own: as plain ones."""
    kinds = set(map(type, values))
    if kinds & _PLAIN.keys():
        return [_PLAIN[type(one)](one) if type(one) in _PLAIN else one for one in values]
    return list(values)


def _number(value: decimal.Decimal) -> int | float:
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


_PLAIN: Mapping[type, Any] = {memoryview: bytes, decimal.Decimal: _number, uuid.UUID: str}


def _sql(config: IngestConfig) -> SqlConfig:
    assert config.sql is not None  # or another source would be asked
    return config.sql


def _name(sql: SqlConfig) -> str:
    """The database, as people are told; SqlConfig takes no URL with a password."""
    return sql.url
