"""Pruning in training: when masks are made, and that what is pruned stays an exact zero."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.shared.sparsity import share_of_zeros
from privet.components.train.aggregation import build_query
from privet.components.train.client_noise import build_client_noise
from privet.components.train.correlated_noise import BandedNoise, TreeNoise
from privet.components.train.engines import Late
from privet.components.train.privacy_config import AdaptiveClipConfig
from privet.components.train.pruning import kept_by_round, sparsity_by_round
from privet.components.train.pruning_config import PruningConfig

COMPILED: list[dict[str, Any]] = [{"engine": "compiled", "xla": xla} for xla in ("on", "off")]
ENGINES = [*COMPILED, {"engine": "beam", "xla": "off"}, {"engine": "tff"}]
FIRST = {"sparsity": 0.5, "schedule": "constant", "begin_round": 0}
"""Half of the weights, before the first round."""


# The settings, and the schedule.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sparsity": 1.0}, "sparsity=1.0 must lie between 0 and 1"),
        ({"sparsity": 0.5, "initial_sparsity": 0.6}, "initial_sparsity=0.6 must lie between 0 and"),
        ({"sparsity": 0.5, "begin_round": -1}, "begin_round=-1 must be >= 0"),
        ({"sparsity": 0.5, "every": 0}, "every=0 must be >= 1"),
        ({"sparsity": 0.5, "power": 0}, "power=0.0 must be > 0"),
        ({"sparsity": 0.5, "block": [0, 2]}, r"block=\[0, 2\] must be two sizes"),
        ({**FIRST, "end_round": 3}, "schedule=constant prunes once, at begin_round"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "pattern=2:4 prunes half of the weights at once"),
        ({**FIRST, "pattern": "2:4", "scope": "global"}, "scope=global does not apply"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PruningConfig.from_mapping(values)


@pytest.mark.parametrize(
    "settings",
    [{"end_round": 31}, {"begin_round": 18, "end_round": 18}, {"end_round": 2}],
)
def test_pruning_must_end_within_the_rounds(train_config: Any, settings: Any) -> None:
    with pytest.raises(ConfigError, match="does not fit into rounds=30"):
        train_config(rounds=30, pruning={"sparsity": 0.8, **settings})


def test_sparsity_rises_as_the_polynomial_says_and_ends_exactly() -> None:
    reached = sparsity_by_round(PruningConfig(sparsity=0.8, every=4), 30)  # rounds 3 to 18
    assert len(reached) == 31
    wanted = {3: 0.0, 7: 0.8 * (1 - (11 / 15) ** 3), 15: 0.8 * (1 - 0.2**3)}
    for number, value in wanted.items():
        assert reached[number] == reached[number + 2] == pytest.approx(value)
    assert reached[17] == reached[15]
    assert reached[18:] == (0.8,) * 13  # the end is always due


def test_constant_sparsity_begins_at_its_round() -> None:
    constant = PruningConfig(sparsity=0.8, schedule="constant", begin_round=2)
    assert sparsity_by_round(constant, 4) == (0.0, 0.0, 0.8, 0.8, 0.8)
    assert kept_by_round(constant, 4, [(10, 5), (5,)]) == [50, 50, 10, 10]


# Rounds that one can follow by hand: clients see the sum of x @ kernel, loss is squared error.


def summing_model() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((2,), name="x")
    products = layers.Dense(2, use_bias=False)(inputs)
    total = layers.Lambda(lambda value: tf.reduce_sum(value, 1, keepdims=True))(products)
    model = tf.keras.Model(inputs, total)
    model.set_weights([np.array([[1, 2], [3, 4]], np.float32)])
    return model


@pytest.fixture(scope="module")
def summed(store_of: Any, client: Any) -> Any:
    """With a kernel of [[0, 0], [3, 4]] the errors are 2 and 4: steps of 0.4 and 0.8."""
    return store_of(
        [
            client("ann", [5.0], dtype="float32", x=[[1, 1]]),
            client("bob", [3.0], dtype="float32", x=[[1000, 1]]),
        ]
    )


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_two_clients_by_hand(how: Any, make_engine: Any, train_config: Any, summed: Any) -> None:
    config = train_config(
        rounds=2, pruning=FIRST, server_optimizer={"learning_rate": 1.0, "momentum": 0.5}, **how
    )
    engine = make_engine(config, model=summing_model(), store=summed, query=None, seed=0)
    try:
        state = engine.initialize()
        np.testing.assert_array_equal(engine.weights(state)[0], [[0, 0], [3, 4]])
        state, _ = engine.next(state, engine.read(np.arange(2), 1))
        np.testing.assert_allclose(engine.weights(state)[0], [[0, 0], [2.4, 3.4]], rtol=1e-6)
        # Errors of 0.8 and 2.8: steps of 0.16 and 0.56 make 0.36, and half of 0.6 is momentum.
        state, _ = engine.next(state, engine.read(np.arange(2), 2))
        np.testing.assert_allclose(engine.weights(state)[0], [[0, 0], [1.74, 2.74]], rtol=1e-6)
        assert not np.signbit(engine.weights(state)[0]).any()
    finally:
        engine.close()


@pytest.mark.parametrize("how", COMPILED, ids=str)
@pytest.mark.parametrize("adaptive", [None, AdaptiveClipConfig(target_quantile=0.5)], ids=str)
def test_clip_applies_to_what_is_left_of_an_update(
    how: Any, adaptive: Any, make_engine: Any, train_config: Any, summed: Any
) -> None:
    """Bob's step of 0.8 twice has norm 1.13; what is pruned of it would be 1,000 times longer."""
    query = build_query(1.2, 0.0, 2.0, adaptive)
    config = train_config(rounds=2, pruning=FIRST, **how)
    engine = make_engine(config, model=summing_model(), store=summed, query=query, seed=0)
    try:
        state, _ = engine.next(engine.initialize(), engine.read(np.arange(2), 1))
        np.testing.assert_allclose(engine.weights(state)[0], [[0, 0], [2.4, 3.4]], rtol=1e-6)
    finally:
        engine.close()


# To prune the weights of a feature is to train on data without it, whatever the algorithm.

ALGORITHMS: dict[str, dict[str, Any]] = {
    "scaffold": {"algorithm": "scaffold"},
    "median": {"robust_aggregation": {"kind": "median"}},
    "norm_filter": {"robust_aggregation": {"kind": "norm_filter", "largest_norm": 1.5}},
    "fed_prox": {"algorithm": "fed_prox", "proximal_strength": 0.5},
    "fed_sgd": {"algorithm": "fed_sgd"},
    "update_bits": {"update_bits": 8},
    "late": {"simulation": {"late_rate": 0.5}},
}


@pytest.mark.parametrize(
    ("name", "engine"), [*((name, "compiled") for name in ALGORITHMS), ("scaffold", "beam")]
)
def test_pruned_feature_is_as_one_that_is_not_there(
    name: str,
    engine: str,
    make_engine: Any,
    train_config: Any,
    store_of: Any,
    schema_of: Any,
    client: Any,
) -> None:
    import tensorflow as tf

    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, 3, 4)).astype(np.float32)
    labels = generator.normal(size=(4, 3)).astype(np.float32)
    without = x * np.array([1, 0, 1, 0], np.float32)
    ends = []
    for values, pruning, kernel in (
        (x, FIRST, [[0.5], [-0.1], [-0.4], [0.2]]),
        (without, None, [[0.5], [0.0], [-0.4], [0.0]]),
    ):
        clients = [
            client(f"c{place}", labels[place], dtype="float32", x=values[place])
            for place in range(4)
        ]
        settings = {"local_epochs": 1 if name == "fed_sgd" else 2, **ALGORITHMS[name]}
        optimizer = {"learning_rate": 0.5, "momentum": 0.9}
        config = train_config(
            engine=engine,
            xla="off",
            rounds=3,
            batch_size=2,
            pruning=pruning,
            server_optimizer=optimizer,
            **settings,
        )
        model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(1)])
        model.set_weights([np.array(kernel), np.zeros(1)])
        store = store_of(clients, schema_of({"x": 4}, None))
        trainer = make_engine(config, model=model, store=store, query=None, seed=0)
        states = [trainer.initialize()]
        for number in (1, 2, 3):
            late = []
            if name == "late" and number > 1:
                late = [Late(states[-2], trainer.read(np.array([3]), number - 1), 0.5)]
            cohort = trainer.read(np.arange(3), number)
            states.append(trainer.next(states[-1], cohort, late)[0])
        ends.append(trainer.weights(states[-1]))
        trainer.close()
    (kernel, bias), (wanted, wanted_bias) = ends
    assert kernel[1] == kernel[3] == 0
    np.testing.assert_array_equal(kernel[::2], wanted[::2])
    np.testing.assert_array_equal(bias, wanted_bias)


def test_what_scaffold_keeps_is_pruned_with_the_weights(
    make_engine: Any, train_config: Any, linear_model: Any, store_of: Any, two_clients: list[Any]
) -> None:
    config = train_config(algorithm="scaffold", rounds=3, pruning=FIRST | {"begin_round": 1})
    store = store_of(two_clients)
    engine = make_engine(config, model=linear_model(), store=store, query=None, seed=0)
    state = engine.initialize()
    for number in (1, 2, 3):
        state, _ = engine.next(state, engine.read(np.arange(2), number))
        pruned = engine.weights(state)[0] == 0
        assert pruned.sum() == 1
        assert (state.algorithm[0] == 0).tolist() == pruned.tolist()
    engine.close()


# Noise.

CLIP, NOISE, DENOMINATOR = 0.5, 3.0, 2.0


@pytest.fixture(scope="module")
def silent(store_of: Any, schema_of: Any, client: Any) -> Any:
    """Two clients whose updates are zero: of inputs that are zero nothing is learned."""
    x = np.zeros((1, 100), np.float32)
    clients = [client(name, [0.0], dtype="float32", x=x) for name in "ab"]
    return store_of(clients, schema_of({"x": 100}, None))


@pytest.mark.parametrize(
    "query",
    [
        build_query(CLIP, NOISE, DENOMINATOR),
        build_query(CLIP, NOISE, DENOMINATOR, rounded=True),
        build_query(CLIP, NOISE, DENOMINATOR, correlation=TreeNoise(4)),
        build_query(CLIP, NOISE, DENOMINATOR, correlation=BandedNoise(4, 2)),
    ],
    ids=["gaussian", "rounded", "tree", "banded"],
)
def test_no_noise_is_on_what_is_pruned_and_all_of_it_on_the_rest(
    query: Any,
    make_engine: Any,
    train_config: Any,
    square_model: Any,
    silent: Any,
    check_noise: Any,
) -> None:
    """Also where momentum has gathered noise before: the second round alone adds this."""
    momentum = {"learning_rate": 1.0, "momentum": 0.9}
    pruning = FIRST | {"begin_round": 1}
    config = train_config(rounds=3, pruning=pruning, server_optimizer=momentum)
    engine = make_engine(config, model=square_model(), store=silent, query=query, seed=1)
    states = [engine.initialize()]
    for number in (1, 2, 3):
        states.append(engine.next(states[-1], engine.read(np.arange(0), number))[0])
    engine.close()
    for place, size in enumerate((10_000, 10_000, 100)):
        start, first, second, third = (state.weights[place].astype(np.float64) for state in states)
        pruned = ~states[1].masks[place]
        assert pruned.sum() == size // 2
        for one in (first, second, third):
            np.testing.assert_array_equal(one == 0, pruned)
        added = second - first - 0.9 * (first - start)
        noise = -DENOMINATOR * added[~pruned]
        if query.correlation is None:
            check_noise(noise, CLIP * NOISE)
        else:
            assert 0.1 * CLIP * NOISE < noise.std() < 3 * CLIP * NOISE
    gathered = [[part for part in state.optimizer if part.ndim == 2] for state in states]
    for mask, before, after in zip(states[1].masks, gathered[1], gathered[2], strict=True):
        np.testing.assert_allclose(after[~mask], 0.9 * before[~mask], rtol=1e-6)
    kept = [part for part in states[-1].noise if part.size]
    assert all(np.count_nonzero(part[0]) == part[0].size for part in kept)  # it is not masked


@pytest.mark.parametrize("kind", ["local", "example"])
@pytest.mark.parametrize("bits", [None, 8])
def test_noise_of_clients_is_masked_before_it_is_sent(
    kind: Any,
    bits: Any,
    make_engine: Any,
    train_config: Any,
    square_model: Any,
    silent: Any,
    check_noise: Any,
) -> None:
    query = build_client_noise(kind, CLIP, NOISE, DENOMINATOR)
    adam = {"name": "adam", "learning_rate": 1.0} if bits else {"learning_rate": 1.0}
    config = train_config(
        rounds=1, pruning=FIRST, update_bits=bits, batch_size=1, client_optimizer=adam
    )
    engine = make_engine(config, model=square_model(), store=silent, query=query, seed=1)
    state, _ = engine.next(engine.initialize(), engine.read(np.arange(2), 1))
    engine.close()
    for weights, masks in zip(state.weights, state.masks, strict=True):
        assert masks.sum() == masks.size // 2
        assert not weights[~masks].any()
        if bits is None:  # two clients: variances add up
            check_noise(-DENOMINATOR * weights[masks], np.sqrt(2) * CLIP * NOISE)


def test_private_run_ends_with_the_configured_sparsity_and_tells_each_rounds(
    trained_privately: Any, train_config: Any
) -> None:
    privacy = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1.0, "noise_multiplier": 2.0}
    pruning = {"sparsity": 0.5, "begin_round": 1, "end_round": 3, "power": 1}
    result = trained_privately(train_config(rounds=4, privacy=privacy, pruning=pruning))

    kernel, bias = result.model.get_weights()
    assert share_of_zeros([kernel, bias]) == 0.5
    assert bias.all()
    rounds = result.history["rounds"]
    assert [row["sparsity"] for row in rounds] == pytest.approx([0, 2 / 6, 0.5, 0.5])
    # Clients get 6, 6, 4 and 3 weights of the kernel (and a byte that says which) and 3 biases;
    # all nine take 36 bytes. A message has a header of 12.
    assert result.history["bytes"] == {
        "down_per_client_round": round(12 + (36 + 36 + 29 + 25) / 4),
        "up_per_client_round": round(12 + (36 + 36 + 28 + 24) / 4),
        "up_measured": False,
        "down_total": (4 * 12 + 36 + 36 + 29 + 25) * 4,
        "up_total": (4 * 12 + 36 + 36 + 28 + 24) * 4,
    }
