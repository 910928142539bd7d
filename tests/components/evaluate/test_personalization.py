"""Which examples a client adapts to, and figures of before and after that one checks by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.evaluate.config import EvaluateConfig, PersonalizationConfig
from privet.components.evaluate.measure import Plan
from privet.components.evaluate.measures import Measures
from privet.components.evaluate.personalization import (
    PersonalizationSummary,
    Personalized,
    batches,
    compare,
    divide,
    merge_all,
    report,
    summarize,
)
from privet.components.shared.storage import ClientData


def numbered(examples: int, client_id: str = "ann") -> ClientData:
    """A client whose i-th example is i, in feature and label."""
    values = np.arange(examples)
    return ClientData(client_id, {"x": values[:, None].astype(np.float32)}, values)


def labels(part: ClientData) -> list[int]:
    np.testing.assert_array_equal(part.features["x"][:, 0], part.labels)
    return part.labels.tolist()


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_example_adapts_or_measures_and_none_does_both(
    examples: int, share: float, seed: int
) -> None:
    parts = divide(numbered(examples), share, seed)

    assert parts is not None
    adapting, measured = map(labels, parts)
    assert sorted(adapting + measured) == list(range(examples))
    assert abs(len(adapting) - share * examples) <= 1
    assert adapting
    assert measured


def test_choice_depends_on_the_seed_and_the_client_alone() -> None:
    def chosen(client_id: str, seed: int) -> list[int]:
        parts = divide(numbered(20, client_id), 0.5, seed)
        assert parts is not None
        return labels(parts[0])

    assert chosen("ann", 1) == chosen("ann", 1)
    assert len({tuple(chosen("ann", 1)), tuple(chosen("bob", 1)), tuple(chosen("ann", 2))}) == 3
    assert chosen("ann", 1) != list(range(10))  # a choice, not the head


@pytest.mark.parametrize("examples", [0, 1])
def test_client_with_fewer_than_two_examples_cannot_be_personalized(examples: int) -> None:
    assert divide(numbered(examples), 0.5, 0) is None


def test_every_epoch_sees_every_example_once_in_another_order() -> None:
    config = PersonalizationConfig(epochs=2, batch_size=4)
    steps = [batch.tolist() for batch in batches(numbered(10), config, seed=3)]

    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = (np.concatenate(part).tolist() for part in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert steps == [batch.tolist() for batch in batches(numbered(10), config, seed=3)]


MEASURES = Measures("binary", 2, EvaluateConfig().metric_directions("binary"))
PLAN = Plan(MEASURES, replicates=50)


def personalized(
    client_id: str, before: list[float], after: list[float] | None, adapting: int = 2
) -> Personalized:
    """A client whose every label is 1, by the scores that its examples get."""
    number = len(before)
    measured = ClientData(client_id, {}, np.ones(number, np.int64))
    baseline = np.array(before, np.float32)[:, None]
    personal = None if after is None else np.array(after, np.float32)[:, None]
    adapted = ClientData(client_id, {}, np.ones(adapting, np.int64))
    return compare(adapted, measured, baseline, personal)


CLIENTS = [
    personalized("ann", [0.25], [0.75]),  # better
    personalized("bob", [0.75, 0.75, 0.75], [0.75, 0.75, 0.25], adapting=4),  # worse
    personalized("eve", [0.75, 0.25], [0.875, 0.25]),  # a lower loss only
    personalized("joe", [0.75, 0.25], None),  # diverged
]


def test_client_that_diverged_keeps_the_global_model() -> None:
    found = CLIENTS[3]

    assert found.diverged
    np.testing.assert_array_equal(found.personal, found.baseline)
    assert found.adaptation_examples == 2


def test_report_by_hand() -> None:
    config = PersonalizationConfig(epochs=3)
    found = report(summarize(PLAN, CLIENTS)[0], config, MEASURES, clients=6)

    assert found["settings"] == {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.1,
        "momentum": 0.0,
        "share": None,
    }
    counts = {name: found[name] for name in ("clients", "too_few_examples", "diverged")}
    assert counts == {"clients": 4, "too_few_examples": 2, "diverged": 1}
    assert (found["examples"], found["adaptation_examples"]) == (8, 10)
    before, after = (found["models"][name] for name in ("baseline", "personalized"))
    assert before["overall"]["accuracy"] == 5 / 8
    assert after["overall"]["accuracy"] == 5 / 8
    third, quarter = np.log(4 / 3), np.log(4)
    assert before["overall"]["loss"] == pytest.approx((5 * third + 3 * quarter) / 8)
    assert after["clients"]["accuracy"]["mean"] == pytest.approx((1 + 2 / 3 + 0.5 + 0.5) / 4)
    gain = found["gain"]
    assert gain["overall"]["accuracy"] == 0
    assert gain["overall"]["loss"] == pytest.approx((third - np.log(8 / 7)) / 8, abs=1e-6)
    assert gain["overall"]["auc"] is None  # one label only
    assert gain["clients"]["auc"]["improved"] is None
    accuracy, loss = gain["clients"]["accuracy"], gain["clients"]["loss"]
    assert (accuracy["mean"], accuracy["p50"]) == (pytest.approx((1 - 1 / 3) / 4), 0.0)
    assert accuracy["worst"] == pytest.approx(-1 / 3)
    assert (accuracy["improved"], accuracy["worsened"]) == (0.25, 0.25)
    assert (loss["improved"], loss["worsened"]) == (0.5, 0.25)
    low, high = accuracy["mean_interval"]
    assert low <= accuracy["mean"] <= high


def test_order_and_grouping_do_not_matter() -> None:
    config = PersonalizationConfig()
    whole = report(summarize(PLAN, CLIENTS)[0], config, MEASURES, clients=4)
    parts = [
        summarize(PLAN, CLIENTS[2:])[0],
        PersonalizationSummary(),
        summarize(PLAN, CLIENTS[:2])[0],
    ]
    merged = report(merge_all(parts), config, MEASURES, clients=4)

    assert merged["gain"]["overall"] == pytest.approx(whole["gain"]["overall"])
    for metric, figures in whole["gain"]["clients"].items():
        found = dict(merged["gain"]["clients"][metric])
        low_and_high = found.pop("mean_interval"), figures.pop("mean_interval")
        assert low_and_high[0] == pytest.approx(low_and_high[1])
        assert found == pytest.approx(figures), metric


def test_without_a_client_that_could_be_personalized_there_are_no_figures() -> None:
    found = report(PersonalizationSummary(), PersonalizationConfig(), MEASURES, clients=3)

    assert (found["clients"], found["too_few_examples"]) == (0, 3)
    assert (found["models"], found["gain"]) == ({}, None)
