"""Charts in a page: the static picture, the spec beside it, and the one script that may run."""

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from privet.components.report import vega
from privet.components.report.shell import environment

HOSTILE = "</script><script>1 & $x^2$"
LINE: dict[str, Any] = {
    "height": 200,
    "data": {"values": [{"x": 1, "y": 2.0}, {"x": 2, "y": float("nan")}, {"x": 3, "y": 4.0}]},
    "mark": {"type": "line", "clip": True, "point": True},
    "encoding": {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "y", "type": "quantitative", "title": HOSTILE},
    },
}


def picture(drawn: Markup) -> ElementTree.Element:
    """The static picture of a chart."""
    return ElementTree.fromstring(drawn[drawn.index("<svg") : drawn.index("</svg>") + 6])


def spec_of(drawn: Markup) -> dict[str, Any]:
    """What the script will draw."""
    found = re.search(r'<script type="application/json">(.*?)</script>', drawn)
    assert found
    spec: dict[str, Any] = json.loads(found[1])
    return spec


@pytest.fixture(scope="module")
def line() -> Markup:
    return vega.chart(LINE, "line", "A line", "It rises from 2 to 4.")


def test_chart_scales_and_says_what_it_shows(line: Markup) -> None:
    root = picture(line)
    assert root.attrib["viewBox"] == "0 0 380 200"
    assert "width" not in root.attrib
    assert root.attrib["role"] == "img"
    words = {element.attrib.get("id"): element.text for element in root}
    shown = [words[one] for one in root.attrib["aria-labelledby"].split()]
    assert shown == ["A line", "It rises from 2 to 4."]
    assert 'style="aspect-ratio: 380 / 200; --height: 200px"' in line


def test_chart_is_drawn_to_the_same_bytes_each_time(line: Markup) -> None:
    assert vega.chart(LINE, "line", "A line", "It rises from 2 to 4.") == line


def test_ids_start_with_the_chart_and_references_meet_them(line: Markup) -> None:
    ids = re.findall(r' id="([^"]*)"', line)
    assert len(ids) == len(set(ids))
    assert [one for one in ids if not one.startswith("line-")] == ["chart-line"]
    references = re.findall(r"url\(#([^)]*)\)", line)
    assert references
    assert set(references) <= set(ids)


def test_colours_are_variables_of_the_page(line: Markup) -> None:
    assert not re.search(r"(fill|stroke)=.#", line)
    style = resources.files("privet.components.report").joinpath("report.css").read_text("utf-8")
    variables = set(re.findall(r"var\((--\w+)\)", line + json.dumps(vega.THEME)))
    assert {"--accent", "--muted", "--line"} <= variables
    for variable in variables:
        assert f"{variable}:" in style


def test_texts_end_no_script_and_become_no_markup(line: Markup) -> None:
    assert line.count("</script>") == 1
    assert "<script>" not in line
    assert HOSTILE in [element.text for element in picture(line).iter("text")]
    assert spec_of(line)["encoding"]["y"]["title"] == HOSTILE


def test_numbers_that_json_does_not_know_are_left_out(line: Markup) -> None:
    assert [row["y"] for row in spec_of(line)["data"]["values"]] == [2.0, None, 4.0]


@pytest.mark.parametrize("wrong", [{"mark": "line"}, {"height": 200, "hconcat": []}])
def test_chart_that_cannot_follow_the_width_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one view, or layers, with a height"):
        vega.chart(wrong, "wrong", "Wrong", "")


def test_policy_names_the_scripts_of_the_page_and_nothing_else() -> None:
    page = environment().from_string('{% extends "shell.html.jinja" %}').render()
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    sources = re.search(r"script-src ([^;]*);", page)
    assert sources
    assert sources[1].split() == [
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in scripts
    ]
    assert "default-src 'none'" in page
    assert "<!--" not in "".join(scripts)
