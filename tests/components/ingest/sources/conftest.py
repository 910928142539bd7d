"""What the tests of sources share: writing protos, reading to the end, a real PostgreSQL."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from privet.components.ingest.batches import RowBatch
from privet.components.shared.errors import DataError


def make_feature(value: Any) -> Any:
    """A tf.train.Feature of the kind of the (first) value."""
    import tensorflow as tf

    values = value if isinstance(value, (list, np.ndarray)) else [value]
    first = values[0] if len(values) else 0
    if isinstance(first, (bytes, str)):
        encoded = [one.encode() if isinstance(one, str) else one for one in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    if isinstance(first, (float, np.floating)):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def make_features(row: Mapping[str, Any]) -> Any:
    """tf.train.Features; None is a feature that is not there."""
    import tensorflow as tf

    present = {name: make_feature(value) for name, value in row.items() if value is not None}
    return tf.train.Features(feature=present)


def make_example(row: Mapping[str, Any]) -> bytes:
    """A serialized tf.train.Example."""
    import tensorflow as tf

    return tf.train.Example(features=make_features(row)).SerializeToString()


def column_values(batch: RowBatch, name: str) -> list[Any]:
    """The values of a column as plain Python ones; None where it is missing."""
    column = batch.columns.get(name)
    if column is None:
        return [None] * len(batch)
    found = column.to_pylist() if isinstance(column, pa.Array) else list(column)
    assert len(found) == len(batch)
    return [one.tolist() if isinstance(one, np.ndarray) else one for one in found]


def read_to_the_end(batches: Iterable[RowBatch], *names: str) -> SimpleNamespace:
    """Reads all batches: numbers, rows (values of `names`), malformed ones, and the DataError."""
    found = SimpleNamespace(numbers=[], rows=[], malformed={}, error=None)
    try:
        for batch in batches:
            found.numbers += batch.numbers.tolist()
            found.rows += zip(*(column_values(batch, name) for name in names), strict=True)
            found.malformed |= {one.number: one.reason for one in batch.malformed}
    except DataError as error:
        found.error = error
    return found


@pytest.fixture(scope="session")
def features_of() -> Callable[[Mapping[str, Any]], Any]:
    return make_features


@pytest.fixture(scope="session")
def feature_of() -> Callable[[Any], Any]:
    return make_feature


@pytest.fixture(scope="session")
def example_of() -> Callable[[Mapping[str, Any]], bytes]:
    return make_example


@pytest.fixture(scope="session")
def values_of() -> Callable[[RowBatch, str], list[Any]]:
    return column_values


@pytest.fixture(scope="session")
def drained() -> Callable[..., SimpleNamespace]:
    return read_to_the_end


@pytest.fixture(scope="session")
def postgres() -> Iterator[SimpleNamespace]:
    """A PostgreSQL server of this session's own: url (without password), password, port."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's server (Debian: apt-get install postgresql)")
    user = _postgres_user()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        if user is not None:  # PostgreSQL refuses to run as root
            os.chown(folder, *pwd.getpwnam(user)[2:4])
        with _running_server(programs, Path(folder), user) as server:
            yield server


@contextlib.contextmanager
def _running_server(programs: Path, folder: Path, user: str | None) -> Iterator[SimpleNamespace]:
    run_as = {"user": user, "group": pwd.getpwnam(user).pw_gid} if user else {}
    password = "correct horse"
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    data = folder / "data"
    made = subprocess.run(
        [
            *(programs / "initdb", "-D", data, "-U", "privet", "-A", "scram-sha-256"),
            *("--no-sync", f"--pwfile={secret}", "-E", "UTF8", "--locale=C"),
        ],
        **run_as,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    port = _free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
    settings["unix_socket_directories"] = ""
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, *(f"--{k}={v}" for k, v in settings.items())],
        **run_as,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(programs, port, server)
        yield SimpleNamespace(
            url=f"postgresql://privet@127.0.0.1:{port}/postgres", password=password, port=port
        )
    finally:
        server.send_signal(2)  # SIGINT: fast shutdown
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(programs: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    check = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"]
    for _ in range(150):
        assert server.poll() is None, "PostgreSQL ended at once"
        if subprocess.run(check, check=False, timeout=10).returncode == 0:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(0.2)
    raise AssertionError("PostgreSQL did not start within 30 seconds")


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    path = found[-1] if found else Path(on_path).resolve() if on_path else None
    return path.parent if path else None


def _postgres_user() -> str | None:
    """Whom to run the server as: oneself, or, when that is root, the package's user."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
