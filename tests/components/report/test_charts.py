"""What the charts show: texts, words for those who cannot see them, and limits."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest

from privet.components.report import (
    audit_charts,
    data_charts,
    evaluation_charts,
    training_charts,
    variant_charts,
    wording,
)
from privet.components.report.evaluation_charts import ClientHistogram
from privet.components.report.partition import ClientLabels
from privet.components.report.variant_charts import Variant

HOSTILE = "<script>alert(1)</script> & $x^2$"
EDGES, COUNTS = [0.0, 0.25, 0.5, 0.75, 1.0], [0, 0, 3, 7]
CURVE = {"confidence": [None, 0.7], "accuracy": [None, 0.6], "counts": [0, 9]}

DRAWN: dict[str, Callable[[], str]] = {
    "epsilon": partial(training_charts.epsilon_over_rounds, [0.6, 0.9, 1.2], 4.0),
    "metric": partial(training_charts.metric_over_rounds, [1, 5, 10], [0.4, 0.8, 0.9], HOSTILE),
    "cohorts": partial(training_charts.cohorts_over_rounds, [1, 2], [200, 198]),
    "sparsity": partial(training_charts.sparsity_over_rounds, [1, 2], [0.0, 0.5]),
    "clients": partial(
        evaluation_charts.client_distribution,
        [ClientHistogram(HOSTILE, EDGES, COUNTS, 0.8, HOSTILE)],
        HOSTILE,
    ),
    "calibration": partial(evaluation_charts.calibration, {HOSTILE: CURVE}),
    "confusion": partial(evaluation_charts.confusion, ["a", HOSTILE], [[3, 1], [0, 2]]),
    "slices": partial(
        evaluation_charts.slices,
        [{"name": HOSTILE, "value": 0.9, "interval": [0.8, 1.0]}],
        HOSTILE,
        0.85,
    ),
    "roc": partial(audit_charts.roc, [0.0, 0.5, 1.0], [0.0, 0.75, 1.0], 0.625),
    "canaries": partial(audit_charts.canaries, [-0.1, 0.0, 0.1], [1, 4], [3, 2]),
    "sizes": partial(variant_charts.variant_sizes, [Variant(HOSTILE, 4100, 3600, served=True)]),
    "times": partial(variant_charts.variant_times, [Variant("a", 1, 1, 0.7, 2.4)]),
    "labels": partial(
        data_charts.label_shares, {"train": {"$x^2$": 3, HOSTILE: 1}, "eval": {"<b>": 1}}
    ),
    "partition": partial(
        data_charts.clients_by_label,
        ClientLabels([HOSTILE], {HOSTILE: [3], "1": [0]}, [3], 200, 2),
    ),
}


@pytest.fixture(params=DRAWN, ids=list(DRAWN))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def picture(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn[drawn.index("<svg") : drawn.index("</svg>") + 6])


def texts(drawn: str) -> list[str]:
    return [element.text or "" for element in picture(drawn).iter("text")]


def description(drawn: str) -> str:
    return next(element.text or "" for element in picture(drawn).iter("desc"))


def rows(drawn: str, layer: int) -> list[dict[str, Any]]:
    """The rows of one layer's own data, as the script gets them."""
    spec = json.loads(re.search(r'json">(.*?)</script>', drawn)[1])  # type: ignore[index]
    found: list[dict[str, Any]] = spec["layer"][layer]["data"]["values"]
    return found


def test_every_chart_is_safe_says_what_it_shows_and_follows_the_page(name: str) -> None:
    drawn = DRAWN[name]()
    assert drawn.count("<script") == drawn.count("</script>") == 1
    assert "<b>" not in drawn
    assert description(drawn)
    assert f'id="chart-{name}"' in drawn
    assert not re.search(r"(fill|stroke)=.#", drawn)
    assert "http" not in drawn


def test_epsilon_is_rounded_up_and_its_target_named() -> None:
    shown = texts(training_charts.epsilon_over_rounds([1.0, 3.9901], 4.5))
    assert "4.00" in shown
    assert "target 4.5" in shown


def test_epsilon_starts_from_what_was_spent_before_the_first_round() -> None:
    drawn = training_charts.epsilon_over_rounds([0.8, 1.2], before=0.405)
    assert "Epsilon rises from 0.41 to 1.20 over 2 rounds" in drawn


def test_single_round_can_be_drawn() -> None:
    assert "0.50" in texts(training_charts.epsilon_over_rounds([0.5]))
    assert "0.5" in texts(training_charts.metric_over_rounds([1], [0.5], "accuracy"))


def test_rounds_without_a_known_epsilon_are_drawn_through() -> None:
    drawn = training_charts.epsilon_over_rounds([0.5, None, None, 1.5], 4.0)
    assert "Epsilon rises to 1.50 over 4 rounds" in drawn


def test_long_run_is_thinned_and_keeps_its_end() -> None:
    drawn = training_charts.metric_over_rounds(list(range(5000)), [0.5] * 4999 + [0.75], "m")
    assert len(drawn) < 40_000
    assert "0.75" in texts(drawn)


def test_noised_counts_below_nothing_are_drawn_as_nothing() -> None:
    noised, plain = ({"train": {"0": 3, "1": one}, "eval": {"0": one}} for one in (-5, 0))
    assert data_charts.label_shares(noised) == data_charts.label_shares(plain)


def test_only_the_most_frequent_of_many_labels_are_drawn() -> None:
    counts = {f"class {index}": index + 1 for index in range(100)}
    drawn = data_charts.label_shares({"train": counts})
    assert "class 99" in texts(drawn)
    assert "class 0" not in texts(drawn)
    assert "The 76 rarest are not drawn." in description(drawn)


def test_labels_that_are_shortened_alike_keep_rows_of_their_own() -> None:
    counts = {f"a label with a long name {index}": 5 for index in range(3)}
    drawn = data_charts.label_shares({"train": counts})
    assert len([text for text in texts(drawn) if text.startswith("a label")]) == 3


def test_histogram_starts_at_the_first_bin_with_a_client() -> None:
    histogram = [ClientHistogram("Float", EDGES, COUNTS)]
    shown = texts(evaluation_charts.client_distribution(histogram, "accuracy"))
    assert "0.5" in shown
    assert "0.4" not in shown


def test_models_without_clients_can_be_drawn() -> None:
    histogram = [ClientHistogram("Float", EDGES, [0, 0, 0, 0])]
    assert "Float" in texts(evaluation_charts.client_distribution(histogram, "accuracy"))


def test_confusion_writes_the_counts_of_few_labels_only() -> None:
    few = evaluation_charts.confusion(["a", "b"], [[3, 1], [0, 2]])
    assert sorted(texts(few)) == ["1", "2", "3", "a", "a", "b", "b", "predicted", "true"]
    assert "5 of 6 examples lie on the diagonal" in description(few)
    names = [f"label {index}" for index in range(20)]
    many = evaluation_charts.confusion(names, [[7] * 20 for _ in names])
    assert "7" not in texts(many)


def test_slices_say_their_range_and_do_without_intervals() -> None:
    values = [("a", 0.5, None), ("b", 0.75, [0.5, 1.0])]
    drawn = evaluation_charts.slices(
        [{"name": name, "value": value, "interval": pair} for name, value, pair in values],
        "accuracy",
        None,
    )
    assert "2 slices, from 0.5 to 0.75" in description(drawn)


def test_attack_says_its_area_beside_that_of_guessing() -> None:
    assert "The area under the curve is 0.625; guessing" in description(DRAWN["roc"]())


def test_canaries_that_were_left_out_are_drawn_downwards() -> None:
    spec = json.loads(re.search(r'json">(.*?)</script>', DRAWN["canaries"]())[1])  # type: ignore[index]
    counts = [(row["what"], row["count"]) for row in spec["data"]["values"]]
    assert counts == [("included", 1), ("included", 4), ("left out", -3), ("left out", -2)]
    assert "-5" not in texts(DRAWN["canaries"]())


def test_time_of_an_example_in_a_batch_is_its_share() -> None:
    drawn = variant_charts.variant_times([Variant("a", 1, 1, 8.0, 64.0), Variant("b", 1, 1)])
    assert description(drawn) == "a: 8 µs alone, 2 µs in a batch of 32."


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB")]
)
def test_bytes_are_written_in_powers_of_ten(count: int, expected: str) -> None:
    assert wording.byte_size(count) == expected
