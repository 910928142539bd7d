"""Which variant is served, by numbers that one can compare by eye."""

import math
from typing import Any

import pytest

from privet.components.select.choice import choose
from privet.components.select.config import SelectConfig
from privet.components.shared.errors import ModelError

VARIANTS = {  # name -> accuracy, gzipped bytes, microseconds, why it cannot be served
    "float32": (0.900, 1000, 10.0, None),
    "float16": (0.899, 500, 11.0, None),
    "int8": (0.895, 200, 4.0, None),
    "k4": (0.850, 100, 10.0, None),
    "dynamic_range": (0.900, 150, 20.0, "it rounds activations"),
}


def facts(values: dict[str, Any] = VARIANTS, **changes: Any) -> tuple[dict, dict]:
    values = {**values, **changes}
    evaluation = {
        "metric": "accuracy",
        "higher_is_better": True,
        "models": {
            "float": {"overall": {"accuracy": 0.900}},
            **{name: {"overall": {"accuracy": row[0]}} for name, row in values.items()},
        },
    }
    report = {
        "variants": [
            {
                "name": name,
                "bytes_gzip": size,
                "latency_us": {"1": time, "32": 32 * time},
                "not_servable_because": problem,
            }
            for name, (_, size, time, problem) in values.items()
        ],
        "failed": [{"name": "int16", "because": "the converter does not know LSTM"}],
    }
    return evaluation, report


def chosen(config: SelectConfig, **changes: Any) -> str:
    return choose(config, *facts(**changes))["variant"]


def test_smallest_within_half_a_point() -> None:
    assert chosen(SelectConfig()) == "int8"
    assert chosen(SelectConfig(within=0.001)) == "float16"
    assert chosen(SelectConfig(within=0.05)) == "k4"


def test_nothing_may_be_lost_with_within_0() -> None:
    assert chosen(SelectConfig(within=0)) == "float32"


def test_fastest_of_those_that_are_good_enough() -> None:
    assert chosen(SelectConfig(by="fastest")) == "int8"
    assert chosen(SelectConfig(by="fastest", within=0.002)) == "float32"


def test_equal_speed_is_decided_by_size() -> None:
    assert chosen(SelectConfig(by="fastest", within=1), int8=(0.9, 200, 10.0, None)) == "k4"


def test_a_variant_that_is_named_is_taken_whatever_it_costs() -> None:
    assert chosen(SelectConfig(variant="k4")) == "k4"


def test_what_no_savedmodel_can_repeat_is_never_chosen() -> None:
    selection = choose(SelectConfig(), *facts())
    (row,) = [row for row in selection["variants"] if row["name"] == "dynamic_range"]
    assert not row["servable"]
    assert row["passed_over_because"] == "it rounds activations"
    with pytest.raises(ModelError, match="dynamic_range cannot be served: it rounds activations"):
        chosen(SelectConfig(variant="dynamic_range"))


def test_a_variant_that_could_not_be_built_is_named_with_its_reason() -> None:
    assert choose(SelectConfig(), *facts())["failed"][0]["name"] == "int16"
    with pytest.raises(ModelError, match="int16 could not be built: the converter does not know"):
        chosen(SelectConfig(variant="int16"))


def test_every_variant_says_why_it_was_passed_over() -> None:
    rows = {row["name"]: row for row in choose(SelectConfig(), *facts())["variants"]}
    assert rows["k4"]["passed_over_because"] == "its accuracy is worse by 0.05, 0.005 is allowed"
    assert rows["int8"]["passed_over_because"] is None
    assert rows["int8"]["loss"] == pytest.approx(0.005)


def test_a_metric_that_is_not_a_number_is_not_good_enough() -> None:
    assert chosen(SelectConfig(), int8=(math.nan, 200, 4.0, None)) == "float16"


def test_lower_is_better_for_errors() -> None:
    evaluation, report = facts()
    evaluation["higher_is_better"] = False
    assert choose(SelectConfig(), evaluation, report)["variant"] == "k4"


def test_rounding_of_large_numbers_is_no_loss() -> None:
    evaluation, report = facts(float32=(2_500_000.0, 1000, 10.0, None))
    evaluation["models"]["float"]["overall"]["accuracy"] = 2_499_999.0  # say, a mean error in yen
    evaluation["higher_is_better"] = False
    for variant in report["variants"][1:]:
        variant["not_servable_because"] = "it is not asked about here"
    assert choose(SelectConfig(), evaluation, report)["variant"] == "float32"


def test_no_variant_that_is_good_enough_is_an_error_with_every_reason() -> None:
    with pytest.raises(ModelError, match=r"float32: its accuracy .* int8: .*Raise select\.within"):
        chosen(
            SelectConfig(within=0),
            **{name: (0.5, *row[1:]) for name, row in VARIANTS.items()},
        )


def test_the_choice_is_marked_as_not_private() -> None:
    selection = choose(SelectConfig(), *facts())
    assert selection["private"] is False
    assert "held-out clients" in selection["note"]
