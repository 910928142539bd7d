"""The order of a client's examples in a round."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared.storage import ClientData
from privet.components.train.client_order import training_orders


def of_size(name: str, examples: int) -> ClientData:
    return ClientData(name, {}, np.zeros(examples))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**31), st.integers(1, 1000))
def test_every_epoch_sees_every_example_once(
    examples: int, epochs: int, seed: int, number: int
) -> None:
    order = training_orders([of_size("a", examples)], seed=seed, round_number=number, epochs=epochs)

    assert order.shape == (epochs * examples,)
    for epoch in order.reshape(epochs, examples):
        assert sorted(epoch) == list(range(examples))


def test_order_depends_on_seed_round_and_client_alone() -> None:
    def order(name: str = "a", **changes: Any) -> list[int]:
        settings = {"seed": 0, "round_number": 1, "epochs": 1, **changes}
        return training_orders([of_size(name, 50)], **settings).tolist()

    orders = [order(), order("b"), order(seed=1), order(round_number=2)]
    assert order() == order()
    assert len({tuple(one) for one in orders}) == 4


def test_epochs_have_different_orders() -> None:
    order = training_orders([of_size("a", 50)], seed=0, round_number=1, epochs=2)

    assert order[:50].tolist() != order[50:].tolist()


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 3))
def test_order_does_not_depend_on_who_else_is_read(sizes: list[int], epochs: int) -> None:
    clients = [of_size(f"c{index}", size) for index, size in enumerate(sizes)]
    together = training_orders(clients, seed=1, round_number=2, epochs=epochs)
    alone = [training_orders([one], seed=1, round_number=2, epochs=epochs) for one in clients]

    assert together.tolist() == [place for order in alone for place in order]


def test_every_place_is_equally_likely() -> None:
    """Chi-square of where the first of five examples goes, over 20,000 clients."""
    clients = [of_size(f"c{index}", 5) for index in range(20_000)]
    orders = training_orders(clients, seed=0, round_number=1, epochs=1).reshape(-1, 5)
    places = np.bincount(np.argmin(orders, axis=1), minlength=5)

    assert ((places - 4000) ** 2 / 4000).sum() < 40  # 4 degrees of freedom: probability 4e-8
    assert len(np.unique(orders, axis=0)) == 120
