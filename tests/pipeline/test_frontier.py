"""The frontier: flags by hand, the order that they come from, the table and the page."""

import dataclasses
import io
import itertools
import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privet.pipeline import frontier
from privet.pipeline.frontier import COSTS, Row, dominates, judged
from privet.pipeline.frontier_page import render

DOCS = Path(__file__).resolve().parents[2] / "docs"
BROWSER = Path(__file__).parents[1] / "components" / "report" / "test_browser.py"


def row(name: str, low: float | None, high: float | None, **given: Any) -> Row:
    """A configuration that costs 1 in everything, unless it is said otherwise."""
    plain: dict[str, Any] = {
        "configuration": name,
        "levers": {"epsilon": "1", "train.rounds": 10},
        "repeats": 3,
        "accepted": 3,
        "metric": "accuracy",
        "higher_is_better": True,
        "quality": 0.5 if low is None or high is None else (low + high) / 2,
        "quality_low": low,
        "quality_high": high,
        "interval": None if low is None else "repeats",
        "quality_float": 0.5,
        "epsilon": 1.0,
        "delta": 1e-5,
        "guarantee": "client, add_or_remove_one_client",
        "noise_multiplier": 1.0,
        "bytes_down_per_client_round": 1.0,
        "bytes_up_per_client_round": 1.0,
        "bytes_down": 0.5,
        "bytes_up": 0.5,
        "bytes_total": 1.0,
        "model_bytes": 1.0,
        "variants": ("int8",),
        "weights": 10,
        "weights_nonzero": 10,
        "client_rounds": 1.0,
        "examples": 1.0,
        "seconds": 1.0,
        "rounds": 10.0,
        "cohort": 5.0,
        "local_epochs": 1,
    }
    return Row(**{**plain, **given})


def flags(*rows: Row) -> dict[str, tuple[bool | None, tuple[str, ...]]]:
    return {one.configuration: (one.frontier, one.dominated_by) for one in judged(rows)}


def test_dominated_only_where_intervals_separate() -> None:
    assert flags(row("good", 0.8, 0.9), row("bad", 0.6, 0.7), row("near", 0.65, 0.85)) == {
        "good": (True, ()),
        "bad": (False, ("good",)),
        "near": (True, ()),
    }


@pytest.mark.parametrize("cost", COSTS)
def test_whatever_costs_less_in_one_thing_is_not_dominated(cost: str) -> None:
    dear = row("dear", 0.8, 0.9, **{cost: 2e-5 if cost == "delta" else 1.2})
    assert flags(dear, row("cheap", 0.1, 0.2))["cheap"] == (True, ())
    assert flags(dear, row("dearer", 0.1, 0.2, **{cost: 1.3}))["dearer"][0] is False


def test_costs_are_compared_in_two_digits() -> None:
    """Epsilon is calibrated to just below its target, and gzip of like models differs by bytes."""
    one = row("one", 0.8, 0.9, epsilon=3.9998, model_bytes=1771)
    assert flags(one, row("other", 0.1, 0.2, epsilon=3.9951, model_bytes=1768))["other"] == (
        *(False, ("one",)),
    )


def test_no_epsilon_costs_more_than_any() -> None:
    open_one = row("open", 0.8, 0.9, epsilon=None, delta=None, guarantee=None)
    assert flags(open_one, row("private", 0.1, 0.2))["private"] == (True, ())
    private = row("private", 0.8, 0.9, epsilon=100.0)
    bad = dataclasses.replace(open_one, quality_low=0.1, quality_high=0.2)
    assert flags(private, bad)["open"] == (False, ("private",))


def test_guarantees_of_other_kinds_are_not_compared() -> None:
    example = row("example", 0.8, 0.9, guarantee="example, add_or_remove_one_example")
    assert flags(example, row("client", 0.1, 0.2))["client"] == (True, ())


def test_less_is_better_where_the_metric_says_so() -> None:
    found = flags(
        row("small", 0.1, 0.2, metric="mae", higher_is_better=False),
        row("large", 0.8, 0.9, metric="mae", higher_is_better=False),
    )
    assert found == {"small": (True, ()), "large": (False, ("small",))}


def test_without_an_interval_nothing_is_said() -> None:
    assert flags(row("known", 0.8, 0.9), row("once", None, None)) == {
        "known": (True, ()),
        "once": (None, ()),
    }


def test_dominators_are_named_by_those_of_the_frontier() -> None:
    found = flags(row("c", 0.1, 0.2), row("b", 0.3, 0.4), row("a", 0.5, 0.6))
    assert found["c"] == (False, ("a",))


few = st.sampled_from([1.0, 1.01, 2.0, 3.0])
some_rows = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 0.3), few, few, st.one_of(st.none(), few)),
    min_size=1,
    max_size=12,
).map(
    lambda drawn: [
        row(f"c{n}", low, low + width, bytes_total=traffic, model_bytes=size, epsilon=epsilon)
        for n, (low, width, traffic, size, epsilon) in enumerate(drawn)
    ]
)


@settings(max_examples=150, deadline=None)
@given(some_rows, st.randoms(use_true_random=False))
def test_domination_is_an_order_and_flags_do_not_depend_on_that_of_the_rows(
    rows: list[Row], random: Any
) -> None:
    for one, two in itertools.product(rows, rows):
        assert not (dominates(one, two) and dominates(two, one))
        for three in rows:
            if dominates(one, two) and dominates(two, three):
                assert dominates(one, three)
    found = flags(*rows)
    assert any(is_frontier for is_frontier, _ in found.values())
    for is_frontier, by in found.values():
        assert bool(by) is not is_frontier
        assert all(found[name][0] for name in by)
    assert flags(*random.sample(rows, len(rows))) == found


FREE = {"epsilon": None, "delta": None, "guarantee": None, "noise_multiplier": None}
ROWS = judged(
    [
        row("epsilon-1_rounds-10", 0.7, 0.8),
        row("epsilon-1_rounds-60", 0.5, 0.6),
        row("free", 0.9, 0.95, levers={"epsilon": "none", "train.rounds": 60}, **FREE),
    ]
)


def test_table_has_the_documented_columns_and_gives_the_rows_back() -> None:
    table = pq.read_table(io.BytesIO(frontier.to_parquet(ROWS)))
    section = (DOCS / "pipeline.md").read_text().partition("`frontier.parquet`:")[2]
    section = section.partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = [name for cell in cells for name in cell.replace("`", "").split(", ")]
    documented = [name.strip() for name in documented]
    columns = [name for name in table.column_names if not name.startswith("lever.")]
    assert columns == [name for name in documented if name in columns]
    assert set(columns) <= set(documented)
    assert "lever.<name>" in documented
    assert table["lever.train.rounds"].to_pylist() == [10.0, 10.0, 60.0]
    assert table["lever.epsilon"].to_pylist() == ["1", "1", "none"]
    for name in columns:
        values = table[name].to_pylist()
        assert [tuple(v) if isinstance(v, list) else v for v in values] == [
            getattr(one, name) for one in ROWS
        ]
    assert frontier.from_plain(json.loads(json.dumps(frontier.to_plain(ROWS)))) == ROWS


SPENT = {"epsilon": 3.5, "delta": 1e-5, "unit": "client"}
SWEEP = {
    "name": "<tiny>",
    "grid": {"epsilon": {}, "train.rounds": [10, 60]},
    "points": [{"status": "failed", "name": "dead", "error": "<b>out of memory</b>"}],
    "frontier": {"rule": frontier.RULE},
    "privacy": {
        "runs": 9,
        "together": None,
        "no_total": "free has no guarantee",
        "private_runs": 6,
        "together_private": {**SPENT, "neighbouring_relation": "add_or_remove_one_client"},
        "charged": False,
        "note": "NOT CHARGED",
    },
}


def test_page_tells_first_what_all_have_spent() -> None:
    page = render(SWEEP, ROWS)
    begin = page[page.index("<main") : page.index('id="frontier"')]
    assert "9 trainings on the same clients" in begin
    assert "All together have no guarantee: 3 of them have none." in begin
    assert "The 6 that have one spent together: epsilon 3.5 at delta 1e-05" in begin
    assert "NOT CHARGED" in begin
    assert "&lt;b&gt;out of memory" in page
    assert page.count("<small>frontier</small>") == sum(one.frontier is True for one in ROWS)
    assert render({**SWEEP, "points": []}, []).count("No point has finished.") == 1


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_page_is_quiet_offline_and_fits_a_phone(tmp_path: Path) -> None:
    path = tmp_path / "frontier.html"
    path.write_text(render(SWEEP, ROWS))
    browser = runpy.run_path(str(BROWSER))["Browser"](shutil.which("chromium"), tmp_path)
    try:
        for size, scheme in (((1440, 900), "light"), ((360, 800), "dark")):
            browser.open(path, scheme, size)
            root = "document.documentElement"
            browser.ask(
                "Runtime.evaluate",
                awaitPromise=True,
                expression="(async () => { while (!document.documentElement.dataset.charts)"
                " await new Promise(done => setTimeout(done, 20)); })()",
            )
            assert browser.evaluate("document.querySelectorAll('.chart.is-live').length") == 6
            assert browser.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
            kinds = {event["method"]: event for event in browser.events}
            assert "Runtime.exceptionThrown" not in kinds
            assert "Log.entryAdded" not in kinds, kinds
            urls = {
                event["params"]["request"]["url"]
                for event in browser.events
                if event["method"] == "Network.requestWillBeSent"
            }
            assert {url for url in urls if not url.startswith("data:")} == {path.as_uri()}
    finally:
        browser.close()
