"""The figures as SVG: colours, ids, text, escaping and the same bytes each time."""

import re
import warnings
from collections.abc import Callable
from functools import partial
from importlib import resources
from xml.etree import ElementTree

import pytest

from privet.components.report import figures, wording
from privet.components.report.figures import ClientHistogram, VariantSize
from privet.components.report.partition import ClientLabels, clients_by_label

HOSTILE = "<script>alert(1)</script> & $x^2$"
EDGES, COUNTS = [0.0, 0.25, 0.5, 0.75, 1.0], [0, 0, 3, 7]

DRAWN: dict[str, Callable[[], str]] = {
    "epsilon": partial(figures.epsilon_over_rounds, [0.6, 0.9, 1.2], 4.0),
    "metric": partial(figures.metric_over_rounds, [1, 5, 10], [0.4, 0.8, 0.9], "accuracy"),
    "clients": partial(
        figures.client_distribution,
        [ClientHistogram("Float", EDGES, COUNTS, 0.8, "worst 0.5")],
        "accuracy",
    ),
    "sizes": partial(
        figures.variant_sizes,
        [VariantSize("float32", 4100, 3600), VariantSize("int8_weights", 1900, 1150, served=True)],
    ),
    "labels": partial(figures.label_shares, {"train": {"0": 3, "1": 1}, "eval": {"0": 1, "1": 1}}),
    "partition": partial(
        clients_by_label, ClientLabels(["client-0000"], {"0": [3], "1": [0]}, [3], 200, 2)
    ),
}


@pytest.fixture(params=DRAWN, ids=list(DRAWN))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_figure_is_drawn_to_the_same_bytes_each_time(name: str) -> None:
    assert DRAWN[name]() == DRAWN[name]()


def test_every_colour_is_a_variable_of_the_page(name: str) -> None:
    svg = DRAWN[name]()
    assert not re.search(r"(fill|stroke): #|=\"#[0-9a-f]{6}\"", svg)
    style = resources.files("privet.components.report").joinpath("report.css").read_text("utf-8")
    for variable in set(re.findall(r"var\((--\w+)\)", svg)):
        assert f"{variable}:" in style


def test_ids_start_with_the_figure_and_references_meet_them(name: str) -> None:
    svg = DRAWN[name]()
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert all(identifier.startswith(f"{name}-") for identifier in ids)
    references = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', svg)
    assert {one or other for one, other in references} <= set(ids)


def test_figure_scales_and_says_what_it_shows(name: str) -> None:
    root = ElementTree.fromstring(DRAWN[name]())
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert root.attrib["role"] == "img"
    words = {element.attrib.get("id"): element.text for element in root}
    for identifier in root.attrib["aria-labelledby"].split():
        assert words[identifier]


def test_figure_brings_neither_addresses_nor_styles_of_its_own(name: str) -> None:
    svg = DRAWN[name]()
    for unwanted in ("http", "<style", "<metadata", "font-family", "<!DOCTYPE", "<image"):
        assert unwanted not in svg


def test_hostile_names_stay_text_and_dollars_are_no_formula() -> None:
    drawn = [
        figures.metric_over_rounds([1], [0.5], HOSTILE),
        figures.client_distribution([ClientHistogram("a", EDGES, COUNTS, None, HOSTILE)], "m"),
        figures.variant_sizes([VariantSize(HOSTILE, 1, 1)]),
        figures.label_shares({"train": {"$x^2$": 1, "<b>": 2}}),
        clients_by_label(ClientLabels([HOSTILE], {"<b>": [1]}, [1], 1, 1)),
    ]
    for svg in drawn:
        assert "<script" not in svg
        assert "<b>" not in svg
    assert "↑ " + HOSTILE in texts(drawn[0])
    assert "$x^2$" in texts(drawn[3])


def test_labels_of_other_scripts_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.label_shares({"train": {"猫": 3, "犬": 2}})
    assert "猫" in texts(svg)


def test_epsilon_is_rounded_up_and_its_target_named() -> None:
    shown = texts(figures.epsilon_over_rounds([1.0, 3.9901], 4.5))
    assert "4.00" in shown
    assert "target 4.5" in shown


def test_epsilon_starts_from_what_was_spent_before_the_first_round() -> None:
    assert "Epsilon rises from 0.41 to 1.20 over 2 rounds" in figures.epsilon_over_rounds(
        [0.8, 1.2], before=0.405
    )


def test_noised_counts_below_nothing_are_drawn_as_nothing() -> None:
    noised, plain = ({"train": {"0": 3, "1": one}, "eval": {"0": one}} for one in (-5, 0))
    assert figures.label_shares(noised) == figures.label_shares(plain)


def test_single_round_can_be_drawn() -> None:
    assert "0.50" in texts(figures.epsilon_over_rounds([0.5]))


def test_rounds_without_a_known_epsilon_are_drawn_through() -> None:
    drawn = figures.epsilon_over_rounds([0.5, None, None, 1.5], 4.0)
    assert "Epsilon rises to 1.50 over 4 rounds" in drawn
    assert "0.5" in texts(figures.metric_over_rounds([1], [0.5], "accuracy"))


def test_only_the_most_frequent_of_many_labels_are_drawn() -> None:
    svg = figures.label_shares({"train": {f"class {index}": index + 1 for index in range(100)}})
    shown = texts(svg)
    assert "class 99" in shown
    assert "class 0" not in shown
    assert "The 76 rarest are not drawn." in svg


def test_numeric_labels_are_ordered_as_numbers() -> None:
    assert figures.in_order({"10", "9", "1"}) == ["1", "9", "10"]
    assert figures.in_order({"10", "9", "cat"}) == ["10", "9", "cat"]


def test_histogram_starts_at_the_first_bin_with_a_client() -> None:
    svg = figures.client_distribution([ClientHistogram("Float", EDGES, COUNTS)], "accuracy")
    assert "0.5" in texts(svg)
    assert "0.25" not in texts(svg)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB")]
)
def test_bytes_are_written_in_powers_of_ten(count: int, expected: str) -> None:
    assert wording.byte_size(count) == expected
