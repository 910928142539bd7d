"""Which examples a client adapts to, and figures of before and after that one checks by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.evaluate.config import PersonalizationConfig
from privet.components.evaluate.metrics import ClientMetrics
from privet.components.evaluate.personalization import (
    PersonalizationSummary,
    Personalized,
    batches,
    compare,
    divide,
    merge_all,
    report,
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


def scores(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def client_of(labels: list[int]) -> ClientData:
    return ClientData("ann", {}, np.array(labels))


def test_both_models_are_measured_on_the_same_examples() -> None:
    before, after = scores([0.25, 0.75], [0.25, 0.75]), scores([0.75, 0.25], [0.5, 0.5])
    found = compare("multiclass", client_of([0] * 3), client_of([0, 1]), before, after)

    assert (found.adaptation_examples, found.metrics.examples, found.diverged) == (3, 2, False)
    assert found.metrics.means["baseline"] == pytest.approx(
        {"accuracy": 0.5, "loss": (np.log(4) + np.log(4 / 3)) / 2}
    )
    assert found.metrics.means["personalized"] == pytest.approx(
        {"accuracy": 0.5, "loss": (np.log(4 / 3) + np.log(2)) / 2}
    )


def test_client_that_diverged_keeps_the_global_model() -> None:
    found = compare("multiclass", client_of([0]), client_of([1]), scores([0.25, 0.75]), None)

    assert found.diverged
    assert found.metrics.means["personalized"] == found.metrics.means["baseline"]


def personalized(
    examples: int, before: tuple[float, float], after: tuple[float, float], **kind: Any
) -> Personalized:
    means = {
        model: dict(zip(("accuracy", "loss"), values, strict=True))
        for model, values in (("baseline", before), ("personalized", after))
    }
    return Personalized(
        ClientMetrics("c", examples, means), kind.get("adapting", 2), kind.get("diverged", False)
    )


CLIENTS = [
    personalized(1, (0.0, 2.0), (1.0, 0.5)),  # better in both
    personalized(3, (1.0, 0.25), (0.75, 0.5), adapting=4),  # worse in both
    personalized(2, (0.5, 1.0), (0.5, 0.75)),  # a lower loss only
    personalized(2, (0.5, 1.0), (0.5, 1.0), diverged=True),
]


def summary(clients: list[Personalized]) -> PersonalizationSummary:
    found = PersonalizationSummary()
    for client in clients:
        found.add(client)
    return found


def test_report_by_hand() -> None:
    config = PersonalizationConfig(epochs=3)
    found = report(summary(CLIENTS), config, "multiclass", clients=6)

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
    overall = {name: figures["overall"] for name, figures in found["models"].items()}
    assert overall == {
        "baseline": pytest.approx({"accuracy": 5 / 8, "loss": 6.75 / 8}),
        "personalized": pytest.approx({"accuracy": 5.25 / 8, "loss": 5.5 / 8}),
    }
    assert found["models"]["personalized"]["clients"]["accuracy"]["mean"] == 2.75 / 4
    gain = found["gain"]
    assert gain["overall"] == pytest.approx({"accuracy": 0.25 / 8, "loss": 1.25 / 8})
    accuracy, loss = gain["clients"]["accuracy"], gain["clients"]["loss"]
    assert (accuracy["mean"], accuracy["p50"], accuracy["worst"]) == (0.75 / 4, 0.0, -0.25)
    assert (accuracy["improved"], accuracy["worsened"]) == (0.25, 0.25)
    assert (loss["mean"], loss["worst"]) == (1.5 / 4, -0.25)
    assert (loss["improved"], loss["worsened"]) == (0.5, 0.25)


def test_order_and_grouping_do_not_matter() -> None:
    config = PersonalizationConfig()
    whole = report(summary(CLIENTS), config, "multiclass", clients=4)
    parts = [summary(CLIENTS[2:]), PersonalizationSummary(), summary(CLIENTS[:2])]

    assert report(merge_all(parts), config, "multiclass", clients=4) == whole


def test_without_a_client_that_could_be_personalized_there_are_no_figures() -> None:
    found = report(PersonalizationSummary(), PersonalizationConfig(), "regression", clients=3)

    assert (found["clients"], found["too_few_examples"]) == (0, 3)
    assert (found["models"], found["gain"]) == ({}, None)
