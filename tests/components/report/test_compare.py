"""Two runs side by side: what may be called better, and which clients are the same."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privet.components.report import compare_page
from privet.components.report.compare import Side, compare, compare_privacy, config_differences
from privet.components.report.page import RunFacts
from privet.components.report.paired import Evaluated, describe, pair_clients

LEDGER: dict[str, Any] = {
    "private": True,
    "epsilon": 2.0,
    "delta": 1e-5,
    "unit": "client",
    "neighbouring_relation": "add_or_remove_one_client",
    "trust_model": "central",
    "rounds": 10,
}


def test_smaller_epsilon_promises_more_where_all_else_is_alike() -> None:
    found = compare_privacy(LEDGER, {**LEDGER, "epsilon": 1.0})
    assert (found["comparable"], found["stronger"]) == (True, 1)
    assert compare_privacy(LEDGER, LEDGER)["stronger"] is None


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("delta", 1e-6, "deltas"),
        ("neighbouring_relation", "replace_one_client", "neighbouring relations"),
        ("unit", "example", "units"),
        ("trust_model", "local", "trust models"),
    ],
)
def test_guarantees_of_two_kinds_are_never_ranked(key: str, value: Any, named: str) -> None:
    for epsilon in (0.1, 100.0):
        found = compare_privacy(LEDGER, {**LEDGER, key: value, "epsilon": epsilon})
        assert (found["comparable"], found["stronger"]) == (False, None)
        assert f"the {named}" in found["because"]


def test_a_guarantee_is_more_than_none() -> None:
    none = {**LEDGER, "private": False, "epsilon": None, "delta": None}
    assert compare_privacy(none, LEDGER)["stronger"] == 1
    assert compare_privacy(none, none)["stronger"] is None
    assert not compare_privacy(None, LEDGER)["comparable"]


def test_differences_name_the_keys() -> None:
    first = {"train": {"rounds": 3, "seed": 1, "pruning": None}, "data": {"files": ["a"]}}
    second = {
        "train": {"rounds": 5, "seed": 1, "pruning": {"sparsity": 0.5}},
        "data": {"files": []},
    }
    assert config_differences(first, second) == [
        {"key": "train.rounds", "values": [3, 5]},
        {"key": "train.pruning", "values": [None, {"sparsity": 0.5}]},
        {"key": "data.files", "values": [["a"], []]},
    ]


@pytest.fixture
def evaluated(
    tmp_path: Path, write_store: Any, client: Any, schema_of: Any
) -> Callable[..., Evaluated]:
    """Makes the evaluation of clients: id -> (their one feature, the accuracy)."""

    def make(name: str, clients: dict[str, tuple[float, float]], **options: Any) -> Evaluated:
        rows = [client(one, [0], x=[[feature]]) for one, (feature, _) in clients.items()]
        store = write_store(tmp_path / name / "examples", schema_of({"x": 1}, 2), {"eval": rows})
        folder = tmp_path / name / "evaluation"
        (folder / "per_client").mkdir(parents=True)
        table = {
            "client_id": list(clients),
            "examples": [1] * len(clients),
            "float.accuracy": [0.5] * len(clients),
            "int8.accuracy": [accuracy for _, accuracy in clients.values()],
        }
        pq.write_table(pa.table(table), folder / "per_client" / "clients.parquet")
        return Evaluated(str(folder), store, "eval", "int8.accuracy", **options)

    return make


def test_clients_are_paired_by_id(evaluated: Callable[..., Evaluated]) -> None:
    first = evaluated("a", {"ann": (1, 0.5), "bob": (2, 0.5), "cleo": (3, 1.0)})
    second = evaluated("b", {"bob": (2, 1.0), "ann": (1, 0.25), "dan": (4, 0.0)})
    paired = pair_clients(first, second)
    assert paired.by == "id"
    assert paired.same_examples is False
    assert paired.values.tolist() == [[0.5, 0.25], [0.5, 1.0]]
    assert paired.alone == (1, 1)


def test_clients_under_two_salts_are_paired_by_what_they_hold(
    evaluated: Callable[..., Evaluated],
) -> None:
    first = evaluated("a", {"f00d": (1, 0.5), "beef": (2, 0.75)})
    second = evaluated("b", {"cafe": (2, 1.0), "d00d": (1, 0.25)})
    paired = pair_clients(first, second)
    assert paired.by == "examples"
    assert paired.same_examples is True
    assert sorted(paired.values.tolist()) == [[0.5, 0.25], [0.75, 1.0]]


def test_clients_with_equal_examples_count_each(evaluated: Callable[..., Evaluated]) -> None:
    first = evaluated("a", {"a": (1, 0.5), "b": (1, 0.5)})
    second = evaluated("b", {"c": (1, 1.0), "d": (1, 1.0), "e": (1, 1.0)})
    paired = pair_clients(first, second)
    assert paired.values.tolist() == [[0.5, 1.0]] * 2
    assert paired.alone == (0, 1)


def test_numbers_of_simulated_clients_are_no_ids(evaluated: Callable[..., Evaluated]) -> None:
    first = evaluated("a", {"0": (1, 0.5)}, simulated=True)
    second = evaluated("b", {"0": (2, 1.0)}, simulated=True)
    paired = pair_clients(first, second)
    assert (paired.by, paired.same_examples, len(paired.values)) == (None, False, 0)


def test_lost_store_leaves_the_ids(evaluated: Callable[..., Evaluated]) -> None:
    first, second = evaluated("a", {"ann": (1, 0.5)}), evaluated("b", {"ann": (1, 1.0)})
    Path(first.examples).rename(f"{first.examples}-gone")
    paired = pair_clients(first, second)
    assert (paired.by, paired.same_examples) == ("id", None)


def test_differences_of_clients_by_hand(evaluated: Callable[..., Evaluated]) -> None:
    first = evaluated("a", {"a": (1, 0.5), "b": (2, 0.5), "c": (3, 0.5)})
    second = evaluated("b", {"a": (1, 0.75), "b": (2, 0.5), "c": (3, 0.75)})
    found = describe(pair_clients(first, second), higher_is_better=True)
    assert (found["better"], found["same"], found["worse"]) == (2, 1, 0)
    assert found["mean"] == pytest.approx(1 / 6)
    # Deviations 1/12, -1/6, 1/12: a variance of 1/48, so the mean's error is 1/12.
    assert found["interval"] == pytest.approx([1 / 6 - 1.96 / 12, 1 / 6 + 1.96 / 12], abs=1e-5)
    assert sum(found["histogram"]["counts"]) == 3
    assert found["histogram"]["counts"][10] == 1  # the middle bin holds no difference


def side(facts: dict[str, Any], label: str, one: Evaluated, **config: Any) -> Side:
    folders = {"evaluation": one.folder, "examples": one.examples}
    return Side(label, RunFacts(**facts), {"train": config}, folders)


def facts_of(accuracy: float, interval: list[float]) -> dict[str, Any]:
    model = {"overall": {"accuracy": accuracy}, "intervals": {"accuracy": interval}}
    return {
        "name": "digits",
        "model_name": "digits",
        "ledger": LEDGER,
        "evaluation": {
            "metric": "accuracy",
            "higher_is_better": True,
            "split": "eval",
            "clients": 2,
            "examples": 2,
            "models": {"float": model, "compressed": model},
        },
        "selection": {"variant": "int8"},
        "compression": {"variants": [{"name": "int8", "bytes": 200, "bytes_gzip": 100}]},
        "audit": {"membership": {"auc": 0.5, "auc_interval": [0.4, 0.6]}, "canaries": None},
    }


@pytest.fixture
def sides(evaluated: Callable[..., Evaluated]) -> tuple[Side, Side]:
    first = evaluated("a", {"ann": (1, 0.5), "bob": (2, 0.5)})
    second = evaluated("b", {"ann": (1, 1.0), "bob": (2, 1.0)})
    return (
        side(facts_of(0.5, [0.4, 0.6]), "runs/a", first, rounds=3),
        side(facts_of(0.9, [0.8, 1.0]), "runs/<b>", second, rounds=5),
    )


def test_quality_is_ranked_only_where_the_intervals_do_not_meet(sides: tuple[Side, Side]) -> None:
    first, second = sides
    (row, *_) = compare(first, second)["quality"]["models"]
    assert (row["separate"], row["better"]) == (True, 1)
    for interval, told in (([0.55, 1.0], False), (None, None)):
        wider = RunFacts(**facts_of(0.9, interval))
        other = Side("b", wider, None, second.folders)
        (row, *_) = compare(first, other)["quality"]["models"]
        assert (row["separate"], row["better"]) == (told, None)


def test_comparison_adds_up(sides: tuple[Side, Side]) -> None:
    found = compare(*sides)
    assert found["private"] is False
    assert found["config"] == [{"key": "train.rounds", "values": [3, 5]}]
    assert found["quality"]["same_examples"] is True
    assert found["clients"]["better"] == 2
    sizes = {row["name"]: row["ratio"] for row in found["numbers"]}
    assert sizes["served model, gzipped"] == 1.0
    assert found["audit"][0]["separate"] is False


def test_page_is_self_contained_and_escapes_what_it_shows(sides: tuple[Side, Side]) -> None:
    page = compare_page.render(compare(*sides))
    assert "runs/&lt;b&gt;" in page
    assert "<b>" not in page.partition("<script")[0]
    text = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"https?:|@import|<iframe|<img|<object|\bon\w+=|\bsrc=", text)
    assert "they meet" in text
    assert "apart: B is better" in text
    assert "Keep this page inside the trust boundary" in text
    gate = text.partition('<section id="gate">')[2].partition("</section>")[0]
    assert "not covered by" in gate


def test_page_of_runs_that_failed_early_says_what_is_missing() -> None:
    empty = Side("a", RunFacts("a", "a"), None, {})
    text = compare_page.render(compare(empty, Side("b", RunFacts("b", "b"), None, {})))
    assert "no metric that both runs have measured" in text
    assert "a run without a privacy ledger claims nothing yet" in text
    assert "No client can be paired" in text
