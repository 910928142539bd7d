"""What TFF has no form of, on the compiled engines, against a few lines of NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import StoreError
from privet.components.train.client_order import training_orders
from privet.components.train.client_states import ClientStates
from privet.components.train.engines import Late

RATE, SERVER_RATE, BATCH, EPOCHS, SEED = 0.05, 0.5, 2, 2, 4
ENGINES: list[dict[str, Any]] = [
    {"engine": "compiled", "xla": "on"},
    {"engine": "compiled", "xla": "off"},
    {"engine": "beam", "xla": "off"},
]


@pytest.fixture(scope="module")
def store(store_of: Any, client: Any) -> Any:
    """Five clients of uneven size, one of them empty."""
    generator = np.random.default_rng(1)
    sizes = {"a": 3, "b": 1, "c": 6, "empty": 0, "d": 5}
    return store_of(
        [
            client(
                name,
                generator.normal(size=size).astype(np.float32),
                dtype="float32",
                x=generator.normal(size=(size, 2)).astype(np.float32),
            )
            for name, size in sizes.items()
        ]
    )


@pytest.fixture
def start(make_engine: Any, train_config: Any, linear_model: Any, store: Any) -> Any:
    """An engine for settings over the linear model."""

    def make(how: Any, **settings: Any) -> Any:
        given = {
            "local_epochs": EPOCHS,
            "batch_size": BATCH,
            "client_optimizer": {"learning_rate": RATE},
            "server_optimizer": {"learning_rate": SERVER_RATE},
        }
        config = train_config(**(given | settings), **how)
        return make_engine(config, model=linear_model(), store=store, query=None, seed=SEED)

    return make


def steps(weights: np.ndarray, client: Any, number: int, correction: Any = 0.0) -> Any:
    """By how much a client's weights fall, and in how many steps; weights are [kernel, bias]."""
    now = weights.astype(np.float64)
    order = training_orders([client], seed=SEED, round_number=number, epochs=EPOCHS)
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        x = np.column_stack([client.features["x"][chosen], np.ones(len(chosen))])
        error = x @ now - client.labels[chosen]
        now = now - RATE * (2 * x.T @ error / len(chosen) + correction)
    return weights - now, -(-len(order) // BATCH)


def flat(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_scaffold_is_algorithm_1_with_option_ii(start: Any, store: Any, how: Any) -> None:
    clients = list(store.read_many(store))
    engine = start(how, algorithm="scaffold")
    state = engine.initialize()
    weights = flat(engine.weights(state))
    mean, own = np.zeros(3), np.zeros((len(clients), 3))
    for number, cohort in enumerate([[0, 1, 2, 3, 4], [1, 3, 4], [0, 1], []], start=1):
        deltas, changes = [], []
        for place in cohort:
            delta, count = steps(weights, clients[place], number, mean - own[place])
            change = delta / (count * RATE) - mean if count else np.zeros(3)
            own[place] += change
            deltas.append(delta)
            changes.append(change)
        if cohort:
            weights = weights - SERVER_RATE * np.mean(deltas, axis=0)
            mean = mean + np.sum(changes, axis=0) / len(clients)
        before = state
        state, _ = engine.next(before, engine.read(np.array(cohort, int), number))
        again, _ = engine.next(before, engine.read(np.array(cohort, int), number))
        np.testing.assert_allclose(flat(engine.weights(state)), weights, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(flat(engine.weights(again)), flat(engine.weights(state)))
    engine.close()


@pytest.mark.parametrize("how", ENGINES, ids=str)
@pytest.mark.parametrize(
    ("robust", "aggregate"),
    [
        ({"kind": "median"}, lambda deltas: np.median(deltas, axis=0)),
        (
            {"kind": "trimmed_mean", "trim": 0.25},
            lambda deltas: np.sort(deltas, axis=0)[1:-1].mean(axis=0),
        ),
        (
            {"kind": "norm_filter", "largest_norm": 1.01},
            lambda deltas: deltas[
                np.linalg.norm(deltas, axis=1) <= 1.01 * np.median(np.linalg.norm(deltas, axis=1))
            ].mean(axis=0),
        ),
    ],
    ids=["median", "trimmed_mean", "norm_filter"],
)
def test_robust_aggregates(start: Any, store: Any, how: Any, robust: Any, aggregate: Any) -> None:
    clients = list(store.read_many(store))
    engine = start(how, robust_aggregation=robust)
    state = engine.initialize()
    weights = flat(engine.weights(state))
    for number, cohort in enumerate([[0, 1, 2, 3, 4], [0, 1, 2, 4], []], start=1):
        if cohort:
            deltas = np.array([steps(weights, clients[place], number)[0] for place in cohort])
            weights = weights - SERVER_RATE * aggregate(deltas)
        state, _ = engine.next(state, engine.read(np.array(cohort, int), number))
        np.testing.assert_allclose(flat(engine.weights(state)), weights, rtol=1e-5, atol=1e-6)
    engine.close()


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_late_updates_are_made_with_old_weights_and_count_less(
    start: Any, store: Any, how: Any
) -> None:
    clients = list(store.read_many(store))
    engine = start(how)
    first = engine.initialize()
    old = flat(engine.weights(first))
    second, _ = engine.next(first, engine.read(np.array([0]), 1))
    new = flat(engine.weights(second))
    late = Late(first, engine.read(np.array([1, 2]), 1), 0.5)
    third, _ = engine.next(second, engine.read(np.array([4]), 2), [late])
    wanted = [steps(new, clients[4], 2)[0]]
    wanted += [0.5 * steps(old, clients[place], 1)[0] for place in (1, 2)]
    np.testing.assert_allclose(
        flat(engine.weights(third)), new - SERVER_RATE * np.mean(wanted, axis=0), rtol=1e-5
    )
    engine.close()


@pytest.mark.parametrize("rotation", [None, "hadamard"])
@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_updates_are_near_the_exact_ones_and_equal_on_every_engine(
    make_engine: Any,
    train_config: Any,
    store_of: Any,
    schema_of: Any,
    client: Any,
    bits: int,
    rotation: str | None,
) -> None:
    import tensorflow as tf

    generator = np.random.default_rng(3)
    x = generator.normal(size=(4, 30)).astype(np.float32)
    labels = generator.normal(size=4).astype(np.float32)
    store = store_of([client("a", labels, dtype="float32", x=x)], schema_of({"x": 30}, None))
    changes = []
    exactly = {"update_bits": None, "update_rotation": None}
    for how in [*ENGINES, {"engine": "compiled", "xla": "off", **exactly}]:
        model = tf.keras.Sequential([tf.keras.Input((30,)), tf.keras.layers.Dense(1)])
        model.set_weights([np.full((30, 1), 0.1), np.zeros(1)])
        settings = {"update_bits": bits, "update_rotation": rotation, "batch_size": 4}
        config = train_config(**(settings | how))
        engine = make_engine(config, model=model, store=store, query=None, seed=SEED)
        before = engine.initialize()
        after, _ = engine.next(before, engine.read(np.arange(1), 1))
        changes.append(flat(engine.weights(after)) - flat(engine.weights(before)))
        engine.close()
    *quantized, exact = changes
    for other in quantized[1:]:
        np.testing.assert_allclose(other, quantized[0], rtol=1e-4, atol=1e-6)
    # Rotated values lie within their norm, which the rotation keeps, as does rotating back.
    norm = np.linalg.norm(exact[:30])
    level = (np.ptp(exact[:30]) if rotation is None else 2 * norm) / (2**bits - 1)
    errors = np.abs(quantized[0] - exact)[:30]
    assert 0.1 * level < errors.max() if rotation is None else errors.max() > 0
    assert errors.max() <= level * 1.001 * (1 if rotation is None else np.sqrt(30))


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_bytes_are_measured_on_what_clients_send_and_change_nothing(
    start: Any, how: dict[str, Any]
) -> None:
    """Five clients of a kernel of two and a bias: nothing to deflate, so the sizes are known."""
    ends = []
    for code in (None, "deflate"):
        engine = start(how, update_bits=8, update_code=code)
        state = engine.initialize()
        for number, cohort in enumerate([[0, 1, 2, 3, 4], [], [1, 4]], start=1):
            state, _ = engine.next(state, engine.read(np.array(cohort, int), number))
        state = engine.restore(engine.save(state))
        late = Late(state, engine.read(np.array([0]), 3), 0.5)
        state, _ = engine.next(state, engine.read(np.array([2]), 4), [late])
        ends.append((flat(engine.weights(state)), engine.sent(state)))
        engine.close()
    (plain, nothing), (weights, sent) = ends

    np.testing.assert_array_equal(weights, plain)
    assert nothing is None
    assert sent.tolist() == [9, 9 * (12 + 2 * 8 + 2 + 1)]


def test_finite_update_of_a_range_beyond_float32_counts_as_zero_and_spoils_no_sum(
    make_engine: Any, train_config: Any, linear_model: Any, store_of: Any, client: Any
) -> None:
    """Its values, of about 2e38 and -2e38, are finite, but not how far they are apart."""
    far = client("far", [1e30], dtype="float32", x=[[1, -1]])
    near = client("near", [1.0], dtype="float32", x=[[1, -1]])
    changes = []
    for clients in ([near], [near, far]):
        rate = {"learning_rate": 1e8}
        config = train_config(update_bits=8, client_optimizer=rate, **ENGINES[1])
        store = store_of(clients)
        engine = make_engine(config, model=linear_model(), store=store, query=None, seed=SEED)
        before = engine.initialize()
        after, _ = engine.next(before, engine.read(np.arange(len(clients)), 1))
        changes.append(flat(engine.weights(after)) - flat(engine.weights(before)))
        engine.close()
    assert np.abs(changes[0]).min() > 0
    np.testing.assert_allclose(changes[1], changes[0] / 2, rtol=1e-5)


def test_states_of_clients_are_cleared_up_and_checked(tmp_path: Path) -> None:
    states = ClientStates(str(tmp_path), 2)
    states.write(np.array([3, 4]), 1, np.array([[1, 2], [3, 4]], np.float32))
    states.write(np.array([3]), 2, np.array([[5, 6]], np.float32))
    (tmp_path / "4-1.tmp-0123").touch()  # what a kill leaves
    states.keep_only(np.array([0, 0, 0, 2, 1]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3-2", "4-1"]
    found = states.read(np.array([0, 3, 4]), np.array([0, 2, 1]))
    np.testing.assert_array_equal(found, [[0, 0], [5, 6], [3, 4]])

    (tmp_path / "4-1").write_bytes(b"1234")
    with pytest.raises(StoreError, match="holds 4 bytes, wanted 8: it is damaged"):
        states.read(np.array([4]), np.array([1]))


def test_levels_that_rounding_moves_do_not_keep_xla_from_a_model(
    make_engine: Any, train_config: Any, store_of: Any, schema_of: Any, client: Any
) -> None:
    """Of very many values a few fall on another level when they differ in the last bit."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 5)).astype(np.float32)
    labels = generator.normal(size=16).astype(np.float32)
    store = store_of([client("a", labels, dtype="float32", x=x)], schema_of({"x": 5}, None))
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [tf.keras.Input((5,)), layers.Dense(20_000, "tanh"), layers.Dense(1)]
    )
    rate = {"learning_rate": 1e-4}
    config = train_config(
        engine="compiled", xla="on", update_bits=4, batch_size=4, client_optimizer=rate
    )
    engine = make_engine(config, model=model, store=store, query=None, seed=SEED)
    engine.next(engine.initialize(), engine.read(np.arange(1), 1))  # raises no ModelError
