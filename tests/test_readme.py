"""The README's own project works, and its curl request is one that the example model takes."""

import json
import re
from pathlib import Path

from privet.pipeline.config import load_config
from privet.pipeline.plan import Questions, make_plan

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str) -> str:
    """The first code block of a language."""
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


def test_readme_starts_with_the_two_commands():
    assert re.search(r"^# Privet\n\n```\nmake run .*\nmake test ", README)


def test_readmes_project_can_be_planned(tmp_path):
    (tmp_path / "mine.yaml").write_text(block("yaml"))
    (tmp_path / "model.py").write_text(block("python"))
    (tmp_path / "data").mkdir()
    header = ",".join(["user", *(f"x_{i}" for i in range(10)), "y"])
    rows = [f"user-{user}," + ",".join(["0.5"] * 10) + f",{user % 3}" for user in range(20)]
    (tmp_path / "data" / "rows.csv").write_text("\n".join([header, *rows]) + "\n")
    plan = make_plan(load_config(tmp_path / "mine.yaml"), Questions(traffic=True))
    assert 3.9 < plan["epsilon"] <= 4
    assert plan["bytes_up_per_client_round"] == 12 + 4 * (10 * 3 + 3)


def test_readmes_request_is_one_image():
    body = re.search(r"curl -d '(.*?)'", README, re.DOTALL)[1]
    (image,) = json.loads(body)["instances"]
    assert len(image) == 64
    assert all(0 <= pixel <= 16 for pixel in image)
