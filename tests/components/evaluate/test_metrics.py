"""From clients to a summary: overall by example, distributions by client, in any order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.evaluate.metrics import (
    ClientMetrics,
    Summary,
    distribution,
    evaluation,
    merge_all,
)


def client(examples: int, accuracy: float, loss: float = 0.0, model: str = "float") -> Any:
    return ClientMetrics("c", examples, {model: {"accuracy": accuracy, "loss": loss}})


def summary(clients: list[ClientMetrics]) -> Summary:
    found = Summary()
    for one in clients:
        found.add(one)
    return found


def test_overall_is_by_example_and_the_mean_over_clients_is_not() -> None:
    figures = summary([client(3, 1.0, loss=0.2), client(1, 0.0, loss=1.0)]).to_json()["float"]

    assert figures["overall"] == pytest.approx({"accuracy": 0.75, "loss": 0.4})
    assert figures["clients"]["accuracy"]["mean"] == 0.5
    assert figures["clients"]["loss"]["mean"] == pytest.approx(0.6)


def test_worst_is_the_minimum_of_accuracy_and_the_maximum_of_errors() -> None:
    figures = summary([client(1, 0.25, loss=3.0), client(1, 0.75, loss=5.0)]).to_json()["float"]

    assert figures["clients"]["accuracy"]["worst"] == 0.25
    assert figures["clients"]["loss"]["worst"] == 5.0
    assert distribution([1.0, 7.0], higher_is_better=False)["worst"] == 7.0


def test_percentiles_by_hand() -> None:
    found = distribution([i / 10 for i in range(11)], higher_is_better=True)

    assert (found["p10"], found["p50"], found["p90"]) == pytest.approx((0.1, 0.5, 0.9))
    assert found["mean"] == pytest.approx(0.5)


def test_histogram_counts_every_client_once() -> None:
    found = distribution([0.0, 0.01, 0.5, 1.0, 1.0], higher_is_better=True)["histogram"]

    assert sum(found["counts"]) == 5
    assert found["edges"][0] == 0
    assert found["edges"][-1] == 1
    assert (found["counts"][0], found["counts"][10], found["counts"][-1]) == (2, 1, 2)
    errors = distribution([0.0, 0.0], higher_is_better=False)["histogram"]
    assert sum(errors["counts"]) == 2


clients = st.lists(
    st.builds(
        client,
        st.integers(1, 50),
        st.integers(0, 8).map(lambda n: n / 8),
        st.integers(0, 2**20).map(lambda n: n / 1024),
    ),
    min_size=1,
    max_size=20,
)


@given(clients, st.integers(0, 20), st.integers(0, 20), st.randoms())
def test_order_and_grouping_do_not_matter(
    all_clients: list[ClientMetrics], first: int, second: int, random: Any
) -> None:
    shuffled = list(all_clients)
    random.shuffle(shuffled)
    first, second = sorted((first, second))
    parts = [
        summary(part) for part in (shuffled[:first], [], shuffled[first:second], shuffled[second:])
    ]
    whole, merged = summary(all_clients).to_json(), merge_all(parts).to_json()

    for kind in ("overall", "clients"):
        for metric in ("accuracy", "loss"):
            one, other = whole["float"][kind][metric], merged["float"][kind][metric]
            if kind == "clients":
                assert one.pop("histogram") == other.pop("histogram")
            assert one == pytest.approx(other)


@given(clients)
def test_overall_equals_the_mean_over_all_examples(all_clients: list[ClientMetrics]) -> None:
    examples = [one.means["float"]["loss"] for one in all_clients for _ in range(one.examples)]
    overall = summary(all_clients).to_json()["float"]["overall"]

    assert overall["loss"] == pytest.approx(np.mean(examples))


def test_evaluation_says_what_it_is() -> None:
    models = ClientMetrics(
        "c", 4, {name: {"mae": 1.0, "loss": 1.0} for name in ("float", "compressed")}
    )
    written = evaluation(summary([models]), "regression", "eval")

    assert (written["metric"], written["higher_is_better"]) == ("mae", False)
    assert (written["clients"], written["examples"], written["split"]) == (1, 4, "eval")
    assert list(written["models"]) == ["compressed", "float"]
    assert written["private"] is False
    assert "not covered by epsilon" in written["note"]
