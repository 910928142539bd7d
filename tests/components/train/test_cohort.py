"""The order of a client's examples in a round."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared.storage import ClientData
from privet.components.train.cohort import training_order


def of_size(name: str, examples: int) -> ClientData:
    return ClientData(name, {}, np.zeros(examples))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**31), st.integers(1, 1000))
def test_every_epoch_sees_every_example_once(
    examples: int, epochs: int, seed: int, number: int
) -> None:
    order = training_order(of_size("a", examples), seed=seed, round_number=number, epochs=epochs)

    assert order.shape == (epochs * examples,)
    for epoch in order.reshape(epochs, examples):
        assert sorted(epoch) == list(range(examples))


def test_order_depends_on_seed_round_and_client_alone() -> None:
    def order(name: str = "a", **changes: Any) -> list[int]:
        settings = {"seed": 0, "round_number": 1, "epochs": 1, **changes}
        return training_order(of_size(name, 50), **settings).tolist()

    orders = [order(), order("b"), order(seed=1), order(round_number=2)]
    assert order() == order()
    assert len({tuple(one) for one in orders}) == 4


def test_epochs_have_different_orders() -> None:
    order = training_order(of_size("a", 50), seed=0, round_number=1, epochs=2)

    assert order[:50].tolist() != order[50:].tolist()
