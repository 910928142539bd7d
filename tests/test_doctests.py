"""The examples in docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(("privet", *path.relative_to(ROOT).with_suffix("").parts))
    for folder in ("components", "pipeline", "serving")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text()
)


def test_there_are_examples():
    assert MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
