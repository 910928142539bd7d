"""Sensitivity: one client, whatever it sends or holds, moves the sum by the clip at most."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared.errors import PrivacyError
from privet.components.train.aggregation import build_query
from privet.components.train.participation import Cohorts
from privet.components.train.participation_config import SimulationConfig
from privet.components.train.privacy_config import AdaptiveClipConfig
from privet.components.train.sampling import AllClients

ROUNDING = 1e-6  # of float32, in the clipping of a record and in adding it to a sum of a few

LARGEST = float(np.finfo(np.float32).max)
LEAST = float(np.finfo(np.float32).smallest_subnormal)
VALUES = st.sampled_from(
    [0.0, 1.0, np.nan, np.inf, 1e38, LARGEST, 2e19, 1e15, LEAST, 1e-42, 1e-20]
).flatmap(lambda value: st.sampled_from([value, -value])) | st.floats(width=32)
UPDATES = st.lists(VALUES, min_size=5, max_size=5)
SHAPES = [(3,), (2, 1)]
ADAPTIVE = AdaptiveClipConfig(target_quantile=0.5, learning_rate=0.2)


def record_of(update: list[float]) -> list[tf.Tensor]:
    """An update as the tensors of a model."""
    first, second = np.split(np.array(update, np.float32), [3])
    return [tf.constant(first), tf.constant(second[:, None])]


def adder(query: Any) -> Callable[[Any, Any], Any]:
    """Adds a record to a sum by a query, compiled once."""
    params = query.derive_sample_params(query.initial_global_state())
    return tf.function(lambda total, record: query.accumulate_record(params, total, record))


@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3])
def test_one_update_moves_the_sum_by_the_clip_at_most(clip: float, adaptive: Any) -> None:
    query = build_query(clip, 0.0, 1.0, adaptive)
    nothing = query.initial_sample_state([tf.zeros(shape) for shape in SHAPES])
    add = adder(query)

    # Drawn from a pool, so that some are there several times.
    @given(st.lists(UPDATES, min_size=1, max_size=3), st.data())
    def check(pool: list[list[float]], data: st.DataObject) -> None:
        others = data.draw(st.lists(st.sampled_from(pool), max_size=6))
        adversary = data.draw(st.sampled_from(pool) | UPDATES)
        without = nothing
        for update in others:
            without = add(without, record_of(update))
        moved = add(without, record_of(adversary))
        alone = query.merge_sample_states(without, add(nothing, record_of(adversary)))
        before, *after = (tf.nest.flatten(total) for total in (without, moved, alone))
        for total in after:
            parts = [
                np.ravel(a.numpy()).astype(np.float64) - np.ravel(b.numpy())
                for a, b in zip(total, before, strict=True)
            ]
            assert np.linalg.norm(np.concatenate(parts[:2])) <= clip * (1 + ROUNDING)
            for count in parts[2:]:  # of those within the clip, where it is adaptive
                assert abs(count) <= 0.5

    check()


@pytest.mark.parametrize("adaptive", [None, ADAPTIVE], ids=["fixed", "adaptive"])
@pytest.mark.parametrize(
    "shapes", [[(1,), (2, 1)], [(3,), ()], [(3,), (1, 2)], [(5,)], [(3, 1)] * 2]
)
def test_update_of_other_shapes_is_refused(shapes: list[tuple[int, ...]], adaptive: Any) -> None:
    query = build_query(1.0, 0.0, 1.0, adaptive)
    nothing = query.initial_sample_state([tf.zeros(shape) for shape in SHAPES])
    with pytest.raises(PrivacyError, match=r"a client's update has tensors of shapes .* the model"):
        adder(query)(nothing, [tf.ones(shape) for shape in shapes])


CLIP, DENOMINATOR, SERVER_RATE = 0.5, 4.0, 0.5
PRIVATE = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": CLIP, "noise_multiplier": 1.0}
ENGINES = [
    {"engine": "compiled", "xla": "on", "privacy": PRIVATE},
    {"engine": "compiled", "xla": "off", "privacy": PRIVATE},
    {"engine": "beam", "xla": "off", "privacy": PRIVATE},
    {"engine": "tff"},
]
ADVERSARIES: dict[str, tuple[list[list[float]], float]] = {
    "not a number": ([[np.nan, 1]], 1),
    "infinite": ([[np.inf, -np.inf]], 1),
    "huge": ([[1e38, -1e38]], 1),
    "largest": ([[LARGEST, LARGEST]], LARGEST),
    "denormal": ([[LEAST, 1e-42]], 1),
    "huge label": ([[1, 2]], 1e38),
    "label that is no number": ([[1, 2]], np.nan),
    "far away": ([[1, 2]], 1e4),
    "five hundred times the same": ([[1, 2]] * 500, -1e4),
    "one bad example of many": ([[1, 2]] * 9 + [[np.nan, 0]], 1e4),
}


@pytest.fixture(scope="module")
def clients(store_of: Any, client: Any, two_clients: list[Any]) -> Any:
    """A store of two usual clients and the adversaries."""
    adversaries = [
        client(name, [label] * len(x), dtype="float32", x=x)
        for name, (x, label) in ADVERSARIES.items()
    ]
    return store_of([*two_clients, *adversaries])


@pytest.fixture(scope="module", params=ENGINES, ids=lambda how: f"{how['engine']} {how.get('xla')}")
def weights_after(
    request: Any, make_engine: Any, train_config: Any, linear_model: Any, clients: Any
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """The weights after a round of a cohort, in one row, without noise."""
    config = train_config(server_optimizer={"learning_rate": SERVER_RATE}, **request.param)
    query = build_query(CLIP, 0.0, DENOMINATOR)
    engine = make_engine(config, model=linear_model(), store=clients, query=query, seed=0)
    initial = engine.initialize()

    def run(cohort: np.ndarray) -> np.ndarray:
        state, _ = engine.next(initial, engine.read(cohort, 1))
        return np.concatenate([part.ravel() for part in engine.weights(state)])

    yield run
    engine.close()


def test_one_client_moves_the_weights_by_the_clip_at_most(
    weights_after: Callable[[np.ndarray], np.ndarray], clients: Any
) -> None:
    place = {reference.client_id: position for position, reference in enumerate(clients)}
    usual = [place["ann"], place["bob"]]
    without = weights_after(np.array(usual))
    most = CLIP / DENOMINATOR * SERVER_RATE
    moved = {
        name: np.linalg.norm(weights_after(np.array([*usual, place[name]])) - without) / most
        for name in ADVERSARIES
    }
    assert max(moved.values()) <= 1 + 1e-5  # rounding of weights, which are larger than the step
    for name in ("far away", "five hundred times the same"):
        assert moved[name] == pytest.approx(1, rel=1e-5)
    for name in ("not a number", "infinite", "label that is no number", "one bad example of many"):
        assert moved[name] == 0


class Repeating(AllClients):
    """Draws its first clients more than once, which no sampler should."""

    def draw(self, round_number: int) -> np.ndarray:
        return np.array([2, 0, 0, 1, 2, 0])


def test_client_drawn_twice_contributes_once(
    weights_after: Callable[[np.ndarray], np.ndarray],
) -> None:
    (part,) = Cohorts(Repeating(3), SimulationConfig(), None).parts(1)
    np.testing.assert_array_equal(weights_after(part.clients), weights_after(np.arange(3)))


@pytest.mark.parametrize("simulation", [SimulationConfig(), SimulationConfig(dropout_rate=0.3)])
def test_cohort_has_each_client_once(simulation: SimulationConfig) -> None:
    for number in range(20):
        (part,) = Cohorts(Repeating(3), simulation, None).parts(number)
        assert len(set(part.clients.tolist())) == len(part.clients)
