"""docs/serving.md and docs/pipeline.md: flags, defaults, codes and fields are the real ones."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from msgspec import to_builtins

from privet.components.report.compare import Side, compare
from privet.components.report.page import RunFacts
from privet.pipeline import cli, summary
from privet.pipeline.assumptions import Assumption
from privet.pipeline.config import load_config
from privet.pipeline.grid import DenseSmallConfig, GridConfig, points_of
from privet.pipeline.plan import make_plan
from privet.pipeline.suggestions import Suggestion
from privet.serving.config import ServerConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
SERVING = (DOCS / "serving.md").read_text(encoding="utf-8")
PIPELINE = (DOCS / "pipeline.md").read_text(encoding="utf-8")
COMPARING = PIPELINE.partition("## Comparing two runs")[2].partition("\n## ")[0]
SWEEPS = PIPELINE.partition("## Sweeps")[2].partition("\n## ")[0]
PLANNING = PIPELINE.partition("## Planning")[2].partition("\n## ")[0]

_PER_CORE = {"num_tflite_pools": 1, "grpc_max_threads": 4, "rest_api_num_threads": 4}


def test_every_flag_of_serve_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `--(\w+)` \| ([^|]+) \|", SERVING, re.MULTILINE))
    fields = {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(ServerConfig)
    }
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        if default is None:
            assert rows[name] == "none"
        elif name in _PER_CORE:
            assert rows[name] == f"{_PER_CORE[name]} per core"
        else:
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert rows[name] == f"`{shown}`", name


def test_the_image_in_the_serving_example_fits_the_digits_model() -> None:
    (pixels,) = re.findall(r"^IMAGE=([\d,]+)$", SERVING, re.MULTILINE)
    assert len(pixels.split(",")) == 64


def test_every_exit_code_is_documented() -> None:
    section = PIPELINE.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    assert codes == {
        cli.EXIT_DONE,
        cli.EXIT_FAILED,
        cli.EXIT_USAGE,
        cli.EXIT_REJECTED,
        130,  # interrupted
        143,  # ended by SIGTERM
    }


def test_every_command_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out.partition("positional arguments")[2].partition("options:")[0]
    commands = re.findall(r"^    ([\w-]+)  ", shown, re.MULTILINE)
    assert {"run", "export-clients", "import-clients"} <= set(commands)
    for command in commands:
        assert f"privet {command}" in PIPELINE + SERVING, command


def test_every_flag_of_plan_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", "--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert flags == set(re.findall(r"^\| `(--[\w-]+)[^`]*` \|", PLANNING, re.MULTILINE))


def test_every_flag_of_sweep_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert flags == set(re.findall(r"^\| `(--[\w-]+)[^`]*` \|", SWEEPS, re.MULTILINE))


def test_every_flag_of_report_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["report", "--help"])
    flags = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert flags == set(re.findall(r"^\| `(--[\w-]+)[^`]*` \|", COMPARING, re.MULTILINE))


def test_every_field_of_a_comparison_is_documented() -> None:
    rows = dict(re.findall(r"^\| `(\w+)(?:\[\])?` \| (.*) \|$", COMPARING, re.MULTILINE))
    nothing = [Side(label, RunFacts(label, label), {}, {}) for label in ("a", "b")]
    written = compare(*nothing)
    assert rows.keys() == written.keys()
    for name in ("runs", "privacy", "quality", "gate"):
        found = written[name][0] if name == "runs" else written[name]
        assert found.keys() <= set(re.findall(r"`(\w+)(?:\[\])?`", rows[name])), name


def test_every_key_of_a_grid_is_documented_with_its_default_and_its_example_is_real() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| [^|]+ \|$", SWEEPS, re.MULTILINE))
    shown = {key: None if cell == "required" else cell.strip("`") for key, cell in rows.items()}
    small = DenseSmallConfig(argument="units")
    assert shown == {
        **{name: json.dumps(value) for name, value in to_builtins(GridConfig(seeds=(0,))).items()},
        "seeds": "[]",
        **{f"dense_small.{name}": str(value) for name, value in to_builtins(small).items()},
        "dense_small.argument": None,
    }
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", SWEEPS, re.MULTILINE | re.DOTALL)
    assert len(points_of(GridConfig.from_mapping(yaml.safe_load(example)))) == 12


def test_every_field_of_a_plan_is_documented_and_its_example_is_real() -> None:
    config = load_config(DOCS.parent / "examples" / "tff_tutorial" / "config.yaml")
    plan = make_plan(config)
    cells = re.findall(r"^\| (`[^|]+) \| ([^|]*) \|$", PLANNING, re.MULTILINE)
    rows = {key: text for names, text in cells for key in re.findall(r"`(\w+)(?:\[\])?`", names)}

    assert rows.keys() == {*plan, "suggestions", "together"}
    for name, struct in (("assumptions", Assumption), ("suggestions", Suggestion)):
        fields = {field.name for field in dataclasses.fields(struct)}
        assert fields <= set(re.findall(r"`(\w+)`", rows[name])), name
    lines = summary.plan_lines(plan)
    shown = lines[next(i for i, line in enumerate(lines) if "is assumed of" in line) :]
    assert "\n".join(shown) in PLANNING
