"""docs/privacy_pitfalls.md: every mistake names a test that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "privacy_pitfalls.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("## What Privet does")[2].partition("\n## ")[0]
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]


def mistake_of(row: str) -> str:
    return row.split("|")[1].strip()


@pytest.mark.parametrize("row", ROWS, ids=mistake_of)
def test_every_mistake_names_tests_that_are_there(row: str) -> None:
    proofs = re.findall(r"`(test_\w+)` in `(tests/[\w/]+\.py)`", row.rpartition("|")[0])
    assert proofs
    for name, path in proofs:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), (name, path)


def test_the_table_is_read() -> None:
    assert len(ROWS) >= 25
