"""Nothing about a training client leaves a private run but what the mechanism has noised.

Whole runs of the command line on data with canaries: a client whose name, values and numbers occur
nowhere else. Then every file that a run leaves, and what it printed, is searched for them.
"""

import base64
import contextlib
import dataclasses
import gzip
import io
import itertools
import json
import os
import re
import sqlite3
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from privet.components.shared import tfrecord
from privet.components.shared.storage import ClientStore
from privet.components.train.checkpoint import Checkpoints

OWNER = "canary-7f3a91"
"""In the id of every training client."""

HIGHEST = float(np.float32(731.41593))  # of all values of its column, so exact statistics show it
INNER = float(np.float32(-487.30298))  # well within the range of its column
REFUSED = float(np.float32(-9173.2646))  # outside of the public range
WORD = "canaryword5be2"  # not in the vocabulary
NO_NUMBER = "canarytext08c4"  # where a number is wanted

CLIENTS, COHORT = 30_000, 15_000
EXAMPLES = 12_347  # of the client with the canaries; every other one has one
RARE = 4_561  # of them, those of a label that nobody else has
TRAINED = CLIENTS - 1 + EXAMPLES
ROWS = TRAINED + 2 + 6  # with those refused and those held out

MODEL = '''
"""A linear model of two numbers and a word."""
import tensorflow as tf

def build_model():
    layers = tf.keras.layers
    x = tf.keras.Input((2,), name="x")
    word = tf.keras.Input((1,), name="word", dtype=tf.int64)
    known = layers.Flatten()(layers.Embedding(3, 2)(word))
    joined = layers.concatenate([layers.Rescaling(1 / 1000)(x), known])
    return tf.keras.Model([x, word], layers.Dense(3)(joined))
'''

WORDS = {"columns": "word", "dtype": "int64", "vocabulary": ["a", "b"], "unknown": "index"}
CONFIG: dict[str, Any] = {
    "name": "leaks",
    "data": {
        "files": "rows.csv",
        "client_id": "owner",
        "split": {"column": "split"},
        "features": {
            "x": {"columns": "x_{0..1}", "minimum": -1000, "maximum": 1000},
            "word": WORDS,
        },
        "label": {"column": "y", "classes": 3},
        "max_reject_fraction": 0.01,
        "shards": 2,
    },
    "model": {"module_file": "model.py"},
    "train": {
        "privacy": {
            "mechanism": "gaussian",
            "delta": 1e-6,
            "clip_norm": 1.0,
            "noise_multiplier": 2.0,
        },
        "sampling": {"kind": "poisson", "cohort_size": COHORT},
        "rounds": 2,
        "batch_size": 512,
    },
    "gate": {"rules": [{"metric": "compressed.accuracy", "lower_bound": 0.0}]},
}

NOISED = "data.dp_statistics={epsilon: 1.0, delta: 1.0e-7, max_examples_per_client: 10}"
RUNS = {"exact": ("train.engine=compiled",), "noised": ("train.engine=beam", NOISED)}

STORE = "work/artifacts/ClientExampleGen/examples/1"
REPORTS = "work/report.html", "work/artifacts/RunReporter/report/11/report.html"
COUNTS = {"client's examples", "examples of a label", "all examples"}
TELLING: dict[str, dict[str, set[str]]] = {
    "exact": {
        f"{STORE}/statistics.json": COUNTS | {"highest value"},
        f"{STORE}/rejects/summary.json": {"rows"},
        **{report: COUNTS | {"rows"} for report in REPORTS},
    },
    "noised": {
        f"{STORE}/rejects/summary.json": {"rows"},
        **{report: {"rows"} for report in REPORTS},
    },
}
"""Files outside of the trust boundary that hold exact numbers, and so must say that they do."""

INSIDE = re.compile(rf"{STORE}/Split-train/|work/(train|ingest)/")
"""What docs/privacy.md puts inside it: the client store, checkpoints, the salt of ids."""


def rows() -> Iterator[str]:
    """The CSV file. Its other numbers are small, so that nothing is taken for a canary."""
    generator = np.random.default_rng(0)
    yield "owner,split,x_0,x_1,word,y"
    for client in range(CLIENTS - 1):
        a, b = generator.integers(1, 190, 2)
        yield f"{OWNER}-{client},train,{a},{-b},a,{int(client % 5 == 0)}"
    for example in range(EXAMPLES):
        b = INNER if example % 100 == 0 else -600
        yield f"{OWNER}-itself,train,{HIGHEST!r},{b!r},{WORD},{2 if example < RARE else 1}"
    yield f"{OWNER}-itself,train,{REFUSED!r},1,a,0"
    yield f"{OWNER}-itself,train,{NO_NUMBER},1,a,0"
    for client, label in itertools.product(range(3), range(2)):
        yield f"held-out-{client},eval,{20 * label},5,b,{label}"


Search = Callable[[bytes], bool]
"""Whether a canary is in some content."""


def text(*words: str) -> Search:
    return lambda content: any(word.encode() in content for word in words)


def value(number: float) -> Search:
    """A float32 number: its bytes, or text of six digits or more, cut off or rounded."""
    raw = [struct.pack(form, number) for form in ("<f", ">f", "<d", ">d")]
    rounded = f"{number:.6g}"
    cut_off = repr(number)[: len(rounded)]
    forms = [*raw, rounded.encode(), cut_off.encode()]
    return lambda content: any(form in content for form in forms)


def count(number: int) -> Search:
    """A whole number: as text of its own, also with thousands set off, or its bytes."""
    # A time of day, as logs write it, is no count: 03:51:42,346.
    written = rb"(?<![\w.,-])(?<!\d:)(?:%d|%s)(?:\.0+)?(?!\w|-|,\d|\.\d)" % (
        number,
        f"{number:,}".encode(),
    )
    raw = [re.escape(struct.pack(form, number)) for form in ("<q", "<d", "<f")]
    pattern = re.compile(b"|".join((written, *raw)), re.DOTALL)
    return lambda content: pattern.search(content) is not None


def ids(stored: Iterable[str]) -> Search:
    """Any of the stored (hashed) client ids."""
    wanted = {one.encode() for one in stored}
    (length,) = {len(one) for one in wanted}
    run = re.compile(rb"[0-9a-f]{%d,}" % length)

    def search(content: bytes) -> bool:
        return any(
            digits[start : start + length] in wanted
            for digits in run.findall(content)
            for start in range(len(digits) - length + 1)
        )

    return search


def readable(content: bytes) -> Iterator[bytes]:
    """A file's bytes, and what they hold compressed, encoded or in columns and pages."""
    yield content
    packed: list[bytes] = []
    if content.startswith(b"\x1f\x8b"):
        packed.append(gzip.decompress(content))
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            packed += [members.read(name) for name in members.namelist()]
    if content.startswith(b"PAR1"):
        packed.append(
            repr(pyarrow.parquet.read_table(pa.BufferReader(content)).to_pylist()).encode()
        )
    if content.startswith(b"SQLite format 3"):
        packed.append(repr(list(database_rows(content))).encode())
    # So ML Metadata keeps properties that are structures, and HTML pages images.
    encoded = re.findall(rb"(?:mlmd-struct::|;base64,)([A-Za-z0-9+/]+=*)", content)
    packed += [base64.b64decode(each) for each in encoded]
    for each in packed:
        yield from readable(each)


def database_rows(content: bytes) -> Iterator[tuple[Any, ...]]:
    """All rows of an SQLite file, in whose pages a long value lies in pieces."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(content)
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            yield from database.execute(f'SELECT * FROM "{table}"')


def find(root: Path, canaries: Mapping[str, Search]) -> dict[str, set[str]]:
    """The canaries in each file below a folder, in what it holds or its path; only where any is."""
    found: dict[str, set[str]] = {}
    for path in sorted(root.rglob("*")):
        place = str(path.relative_to(root))
        contents = [place.encode(), *(readable(path.read_bytes()) if path.is_file() else ())]
        names = {name for name, search in canaries.items() if any(map(search, contents))}
        if names:
            found[place] = names
    return found


def written_as(form: str, content: str, folder: Path) -> None:
    """Hides a text in a file of a kind."""
    raw = content.encode()
    path = folder / "file"
    if form == "parquet":
        pyarrow.parquet.write_table(pa.table({"a": [content] * 9}), path, compression="zstd")
    elif form == "sqlite, over several pages":
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE a (b TEXT)")
            for start in range(9):
                database.execute("INSERT INTO a VALUES (?)", [" " * (4070 + start) + content])
            database.commit()
    elif form == "zip":
        np.savez_compressed(path, a=np.frombuffer(raw, np.uint8))
    elif form == "path":
        (folder / content).mkdir()
    else:
        packed = {
            "plain": raw,
            "gzip": gzip.compress(b"\x00" * 99 + raw),
            "gzip of a record": gzip.compress(tfrecord.frame(raw)),
            "property": b"x mlmd-struct::" + base64.b64encode(b"." + raw) + b" y",
            "image": b'<img src="data:image/svg+xml;base64,' + base64.b64encode(raw) + b'">',
        }
        path.write_bytes(packed[form])


@pytest.mark.parametrize(
    "form",
    [
        *("plain", "path", "gzip", "gzip of a record", "zip", "parquet"),
        *("sqlite, over several pages", "property", "image"),
    ],
)
def test_search_reads_what_is_packed(form: str, tmp_path: Path) -> None:
    written_as(form, f"name {OWNER}-1 of", tmp_path)
    (path,) = tmp_path.iterdir()
    assert find(tmp_path, {"name": text(OWNER), "other": text(WORD)}) == {path.name: {"name"}}


@pytest.mark.parametrize(
    ("search", "contents", "others"),
    [
        (
            value(HIGHEST),
            [b"731.41595", b'"max": 731.4159545898438', b"is 731.416.", struct.pack("<d", HIGHEST)]
            + [np.array([1, HIGHEST, 2], kind).tobytes() for kind in ("<f4", "<f8", ">f4")],
            [b"731.42", b"731.4", struct.pack("<f", 731.416)],
        ),
        (
            count(EXAMPLES),
            [b"12347", b'"max": 12347,\n', b"<td>12,347</td>", b"12347.0", b"(1, 12347)"]
            + [np.array([1, EXAMPLES, 2], kind).tobytes() for kind in ("<i8", "<f4", "<f8")],
            [
                b"112347",
                b"123470",
                b"0.12347",
                b"12347.5",
                b"12,347,001",
                b"1,12,3471",
                b"03:51:12,347",
            ],
        ),
        (
            ids(["00112233445566778899aabbccddeeff"]),
            [b"x00112233445566778899aabbccddeeffx", b"5500112233445566778899aabbccddeeff"],
            [b"00112233445566778899aabbccddeef", b"00112233445566778899aabbccddeefe"],
        ),
    ],
    ids=["value", "count", "ids"],
)
def test_search_knows_the_forms_of_a_canary(
    search: Search, contents: list[bytes], others: list[bytes]
) -> None:
    assert all(map(search, contents))
    assert not any(map(search, others))


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: of which kind, where, the canaries, and which are in which of its files."""

    kind: str
    root: Path
    canaries: dict[str, Search]
    found: dict[str, set[str]]


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A private run by Poisson sampling, what it printed, and its folder for temporary files."""
    project, root = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("run")
    (project / "rows.csv").write_text("\n".join(rows()) + "\n")
    (project / "model.py").write_text(MODEL)
    (project / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (root / "tmp").mkdir()
    overrides = [word for each in RUNS[request.param] for word in ("--set", each)]
    command = [sys.executable, "-m", "privet.pipeline.cli", "run", str(project / "config.yaml")]
    with (root / "stdout").open("wb") as output, (root / "stderr").open("wb") as errors:
        done = subprocess.run(
            [*command, "--workdir", str(root / "work"), *overrides],
            stdout=output,
            stderr=errors,
            env={**os.environ, "TMPDIR": str(root / "tmp")},
            check=False,
        )
    assert done.returncode == 0, (root / "stderr").read_text()
    canaries = canaries_of(root)
    return Run(request.param, root, canaries, find(root, canaries))


def canaries_of(root: Path) -> dict[str, Search]:
    """What nobody is to learn of the training clients. Who took part is known after the run."""
    store = ClientStore(str(root / STORE), "train")
    assert (len(store), store.example_counts().max()) == (CLIENTS, EXAMPLES)
    (kept,) = (path for path in (root / "work" / "train").iterdir() if path.is_dir())
    checkpoint = Checkpoints(str(kept.parent), kept.name, private=True).load()
    assert checkpoint is not None
    cohorts = {one.cohort for one in checkpoint.rounds} - {COHORT}  # which is public
    with_canary = {cohort + EXAMPLES - 1 for cohort in cohorts}
    return {
        "name": text(OWNER),
        "stored id": ids(reference.client_id for reference in store),
        "word": text(WORD),
        "text in place of a number": text(NO_NUMBER),
        "highest value": value(HIGHEST),
        "inner value": value(INNER),
        "refused value": value(REFUSED),
        "client's examples": count(EXAMPLES),
        "examples of a label": count(RARE),
        "all examples": count(TRAINED),
        "rows": count(ROWS),
        **{f"cohort {number}": count(number) for number in cohorts},
        **{f"examples of cohort {number}": count(number) for number in with_canary},
    }


@pytest.mark.slow
def test_canaries_are_where_clients_are_kept_so_they_can_be_found(run: Run) -> None:
    shards = [names for path, names in run.found.items() if path.endswith(".tfrecord")]
    assert set().union(*shards) == {"stored id", "highest value", "inner value"}
    (checkpoint,) = (names for path, names in run.found.items() if "/checkpoint-" in path)
    assert checkpoint == {name for name in run.canaries if name.startswith("cohort")}


@pytest.mark.slow
def test_outside_of_the_trust_boundary_only_what_says_so_is_exact(run: Run) -> None:
    outside = {path: names for path, names in run.found.items() if not INSIDE.match(path)}
    assert outside == TELLING[run.kind]
    for path in outside:
        content = (run.root / path).read_text()
        if path in REPORTS:
            assert "exact, not covered by ε" in content
            assert "Keep this page inside the trust boundary." in content
        else:
            assert json.loads(content)["private"] is False


@pytest.mark.slow
def test_names_and_refused_values_are_in_no_file_at_all(run: Run) -> None:
    names = {"name", "word", "text in place of a number", "refused value"}
    assert names <= set(run.canaries)
    assert not {path for path, found in run.found.items() if found & names}


@pytest.mark.slow
def test_log_has_no_number_of_what_privet_has_seen(run: Run) -> None:
    log = (run.root / "work" / "run.log").read_text()
    said = re.findall(r"^\S+ \S+ \w+ privet\.\S+: (.*)$", log, re.MULTILINE)
    assert said
    assert not [message for message in said if re.search(r"\d", message)]
