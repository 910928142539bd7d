"""docs/tutorial.md: its code runs from top to bottom, and the model learns."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "tutorial.md").read_text("utf-8"), re.M | re.S
)


def test_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    names: dict[str, Any] = {"__name__": "tutorial"}
    for block in BLOCKS:
        exec(block, names)

    assert names["after"]["mae"] < 0.9 * names["before"]["mae"]
    assert names["account"].epsilon() <= 8
    assert "clients; the first has 100 examples of shape (100,)" in capsys.readouterr().out
