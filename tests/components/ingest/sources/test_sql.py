"""A SQL query as a source, on SQLite and on a real PostgreSQL: streamed, and silent on secrets."""

import contextlib
import socket
import sqlite3
import threading
from types import SimpleNamespace

import psutil
import pyarrow as pa
import pytest

from privet.components.ingest.batches import BATCH_ROWS
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import sql
from privet.components.shared.errors import ConfigError, DataError

SECRET = "PRIVET_TEST_SQL_PASSWORD"
ROWS = [("ann", 0.5, 1, b"\x00\xff"), ("bob", 1.5, 0, b"ab"), ("ann", None, 1, None)]
QUERY = "SELECT client, x, label, raw FROM rows ORDER BY number"
WANTED = ("client", "x", "label", "raw")


def config_of(database: SimpleNamespace, query: str = QUERY, **changes) -> IngestConfig:
    source = {"url": database.url, "query": query, "password_env": database.password_env}
    return IngestConfig.from_mapping(
        {
            "sql": {**source, **changes},
            "client_id": "client",
            "label": {"column": "label", "classes": 2},
        }
    )


def read(config: IngestConfig, wanted: tuple[str, ...] = WANTED):
    (portion,) = sql.portions(None, config)
    return sql.read(portion, config, wanted)


@pytest.fixture
def sqlite(tmp_path):
    path = tmp_path / "rows.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE rows (number INTEGER, client TEXT, x REAL, label INT, raw BLOB)"
        )
        connection.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?)",
            [(number, *row) for number, row in enumerate(ROWS)],
        )
    return SimpleNamespace(url=f"sqlite:///{path}", password_env=None)


@pytest.fixture
def postgresql(postgres, monkeypatch):
    import psycopg2

    monkeypatch.setenv(SECRET, postgres.password)
    with (
        contextlib.closing(psycopg2.connect(postgres.url, password=postgres.password)) as made,
        made,
        made.cursor() as cursor,
    ):
        cursor.execute("DROP TABLE IF EXISTS rows")
        cursor.execute("CREATE TABLE rows (number int, client text, x real, label int, raw bytea)")
        cursor.executemany(
            "INSERT INTO rows VALUES (%s, %s, %s, %s, %s)",
            [(number, *row) for number, row in enumerate(ROWS)],
        )
    return SimpleNamespace(url=postgres.url, password_env=SECRET)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    return request.getfixturevalue(request.param)


def test_rows_are_those_of_the_query(database, drained):
    found = drained(read(config_of(database)), *WANTED)
    assert found.error is None
    assert found.numbers == [1, 2, 3]
    assert found.rows == ROWS


def test_columns_have_the_types_of_the_first_rows(database):
    config = config_of(database)
    (portion,) = sql.portions(None, config)
    assert portion.source == database.url
    assert sql.columns(portion, config) == {
        "client": pa.string(),
        "x": pa.float64(),
        "label": pa.int64(),
        "raw": pa.binary(),
    }


def test_a_result_without_rows_has_columns(database):
    config = config_of(database, "SELECT client, x FROM rows WHERE number > 99")
    (portion,) = sql.portions(None, config)
    assert sql.columns(portion, config) == {"client": None, "x": None}
    assert list(read(config)) == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT '12:30 100%' AS client",
        "WITH one AS (SELECT '12:30 100%' AS client) SELECT * FROM one",
        "-- a comment\nSELECT client FROM (SELECT '12:30 100%' AS client) AS a "
        "WHERE client LIKE '%:3%' AND client LIKE '1_%s%' OR client LIKE '1%'",
    ],
)
def test_a_query_reaches_the_database_as_it_is_written(database, drained, query):
    found = drained(read(config_of(database, query), ("client",)), "client")
    assert found.error is None
    assert found.rows == [("12:30 100%",)]


def test_many_rows_come_in_bounded_batches(database):
    series = {
        "sqlite": "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 40000)"
        " SELECT i FROM s",
        "postgresql": "SELECT i FROM generate_series(1, 40000) AS i",
    }
    query = series[database.url.split(":")[0]]
    batches = list(read(config_of(database, query), ("i",)))
    assert max(len(batch) for batch in batches) == BATCH_ROWS
    assert [i for batch in batches for i in batch.columns["i"]] == list(range(1, 40001))
    assert [n for batch in batches for n in batch.numbers] == list(range(1, 40001))


@pytest.mark.parametrize("start", ["SELECT", "WITH one AS (SELECT 1) SELECT"])
def test_a_large_result_is_never_in_memory(postgresql, start):
    """400 MB in rows of 20 kB; the first is there before the last is made."""
    query = f"{start} i, repeat(md5(i::text), 625) AS x FROM generate_series(1, 20000) AS i"
    process = psutil.Process()
    batches = read(config_of(postgresql, query), ("i", "x"))
    rows = len(next(batches))
    before, highest = process.memory_info().rss, 0
    for batch in batches:
        rows += len(batch)
        highest = max(highest, process.memory_info().rss)
        assert sum(map(len, batch.columns["x"])) < 40e6
    assert rows == 20000
    assert highest - before < 150e6


def test_numbers_of_types_that_only_databases_have_are_plain(postgresql, drained):
    query = (
        "SELECT 5::numeric AS whole, 2.50::numeric AS part, ARRAY[1, 2] AS list, "
        "'6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid AS id"
    )
    found = drained(
        read(config_of(postgresql, query), ("whole", "part", "list", "id")),
        *("whole", "part", "list", "id"),
    )
    assert found.rows == [(5, 2.5, [1, 2], "6f9619ff-8b86-d011-b42d-00c04fc964ff")]
    assert [type(value) for value in found.rows[0]] == [int, float, list, str]


@pytest.mark.parametrize("query", ["SELECT nothing FROM rows", "SELEC 1", "SELECT * FROM absent"])
def test_a_wrong_query_is_told_in_the_databases_words(database, query):
    with pytest.raises(DataError, match=r"refuses data\.sql\.query: .*(nothing|SELEC|absent)"):
        list(read(config_of(database, query)))


def test_a_column_given_twice_is_told(database):
    with pytest.raises(ConfigError, match="the column x twice: name them apart with AS"):
        list(read(config_of(database, "SELECT x, x FROM rows")))


@pytest.mark.parametrize(
    "statement", ["DELETE FROM rows", "DROP TABLE rows", "DELETE FROM rows RETURNING client, x"]
)
def test_a_statement_that_is_no_query_is_refused_and_changes_nothing(database, drained, statement):
    if "RETURNING" in statement and sqlite3.sqlite_version_info < (3, 35):
        pytest.skip("needs SQLite 3.35")
    with pytest.raises((ConfigError, DataError), match="must be one SELECT"):
        list(read(config_of(database, statement)))
    assert len(drained(read(config_of(database))).numbers) == 3


def test_a_value_that_breaks_the_query_is_not_quoted(postgresql, drained):
    query = (
        "SELECT CASE WHEN i < 200 THEN i ELSE ('secret' || i)::int END AS x "
        "FROM generate_series(1, 300) AS i"
    )
    found = drained(read(config_of(postgresql, query), ("x",)), "x")
    assert found.rows[:2] == [(1,), (2,)]
    assert "SQLSTATE 22P02" in str(found.error)
    assert "secret" not in str(found.error)
    assert found.error.__cause__ is None


def test_text_that_is_no_text_is_not_quoted(sqlite, drained):
    query = "SELECT CAST(x'736563726574ff' AS TEXT) AS client"
    found = drained(read(config_of(sqlite, query), ("client",)), "client")
    assert isinstance(found.error, DataError)
    assert "secret" not in str(found.error)


def test_an_unset_password_variable_is_told(postgresql, monkeypatch):
    monkeypatch.delenv(SECRET)
    with pytest.raises(ConfigError, match=f"password_env={SECRET}: there is no such environment"):
        list(read(config_of(postgresql)))


def test_a_wrong_password_is_told_but_not_shown(postgresql, monkeypatch):
    monkeypatch.setenv(SECRET, "wrong battery")
    with pytest.raises(DataError, match=r"cannot reach .*password authentication failed") as caught:
        list(read(config_of(postgresql)))
    assert "wrong battery" not in str(caught.value)


def test_a_database_that_is_not_there_is_told_without_the_password(monkeypatch):
    monkeypatch.setenv(SECRET, "correct horse")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"postgresql://privet@127.0.0.1:{port}/postgres"
    with pytest.raises(DataError, match=r"cannot reach .*Connection refused") as caught:
        list(read(config_of(SimpleNamespace(url=url, password_env=SECRET))))
    assert "correct horse" not in str(caught.value)
    assert url in str(caught.value)


def test_a_host_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(sql, "_CONNECT_SECONDS", 2)  # libpq's least
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://privet@127.0.0.1:{silent.getsockname()[1]}/postgres"
        config = config_of(SimpleNamespace(url=url, password_env=None))
        found: list[Exception] = []

        def attempt() -> None:
            try:
                list(read(config))
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(30)
    assert [type(error) for error in found] == [DataError]
    assert "timeout expired" in str(found[0])


def test_a_missing_driver_is_told():
    url = "mysql+mysqldb://privet@127.0.0.1/rows"
    with pytest.raises(ConfigError, match=r"no driver for mysql\+mysqldb.*MySQLdb"):
        list(read(config_of(SimpleNamespace(url=url, password_env=None))))
    url = "nosuchdb://privet@127.0.0.1/rows"
    with pytest.raises(ConfigError, match="no driver for nosuchdb"):
        list(read(config_of(SimpleNamespace(url=url, password_env=None))))


def test_a_missing_sqlite_file_is_told_and_not_made(tmp_path):
    url = f"sqlite:///{tmp_path}/absent.db"
    with pytest.raises(DataError, match="there is no such file"):
        list(read(config_of(SimpleNamespace(url=url, password_env=None))))
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize("url", ["postgresql://u:p@host/db", "postgresql://u@host/db?password=p"])
def test_a_url_with_a_password_is_refused(url):
    with pytest.raises(ConfigError, match="recorded in ML Metadata"):
        config_of(SimpleNamespace(url=url, password_env=None))


def test_connections_are_closed(postgresql, postgres):
    import psycopg2

    batches = read(config_of(postgresql, "SELECT i FROM generate_series(1, 99999) AS i"), ("i",))
    next(batches)
    batches.close()
    with (
        contextlib.closing(psycopg2.connect(postgres.url, password=postgres.password)) as other,
        other.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%99999%'")
        assert cursor.fetchone() == (1,)  # this one
