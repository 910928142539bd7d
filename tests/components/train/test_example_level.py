"""The mechanism `example`: clients train by DP-SGD, whose noise is on gradients of examples."""

from collections.abc import Callable, Sequence
from typing import Any

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.client_noise import build_client_noise
from privet.components.train.client_order import training_orders

CLIP, NOISE, BATCH, RATE, SEED = 0.5, 3.0, 2, 0.05, 4
ENGINES = ["compiled", "beam"]
PRIVACY = {"mechanism": "example", "delta": 1e-5, "clip_norm": CLIP, "noise_multiplier": NOISE}


@pytest.fixture
def weights_after(make_engine: Any, train_config: Any) -> Callable[..., list[list[np.ndarray]]]:
    """The weights after the first round with each of some cohorts, of which the mean is taken."""

    def run(model: Any, store: Any, noise: float, *cohorts: Sequence[int], **changes: Any) -> Any:
        settings = {"batch_size": BATCH, "client_optimizer": {"learning_rate": RATE}, **changes}
        config = train_config(**{"engine": "compiled", **settings})
        query = build_client_noise("example", CLIP, noise, 99.0)
        engine = make_engine(config, model=model, store=store, query=query, seed=SEED)
        try:
            weights = []
            for cohort in cohorts:
                reading = engine.read(np.array(cohort, int), 1)
                state, event = engine.next(engine.initialize(), reading)
                assert event == dp_accounting.GaussianDpEvent(noise)
                weights.append(engine.weights(state))
            return weights
        finally:
            engine.close()

    return run


def clipped(gradient: np.ndarray) -> np.ndarray:
    return gradient * min(1.0, CLIP / float(np.linalg.norm(gradient)))


def train_in_numpy(start: np.ndarray, one: Any, pull: float) -> np.ndarray:
    """DP-SGD without noise on the linear model's [a, b, bias], squared error, and a pull."""
    weights = start
    order = training_orders([one], seed=SEED, round_number=1, epochs=1)
    for first in range(0, len(order), BATCH):
        total = np.zeros(3)
        for example in order[first : first + BATCH]:
            inputs = np.append(one.features["x"][example], 1.0)
            total += clipped(2 * (inputs @ weights - one.labels[example]) * inputs)
        weights = weights - RATE * (total / BATCH + pull * (weights - start))
    return weights


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pull", [0.0, 3.0], ids=["fed_avg", "fed_prox"])
def test_round_without_noise_is_the_mean_of_steps_by_hand(
    engine: str,
    pull: float,
    weights_after: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
    client: Any,
) -> None:
    """Batches that are not full are divided by batch_size too; who has no example counts."""
    empty = client("empty", [], dtype="float32", x=np.zeros((0, 2), np.float32))
    store = store_of([*two_clients, empty])
    changes = {"algorithm": "fed_prox", "proximal_strength": pull} if pull else {}

    (got,) = weights_after(linear_model(), store, 0.0, [0, 1, 2], engine=engine, **changes)

    start = np.concatenate([part.ravel() for part in linear_model().get_weights()])
    wanted = np.mean([train_in_numpy(start, one, pull) for one in store.read_many(store)], axis=0)
    np.testing.assert_allclose(np.concatenate([part.ravel() for part in got]), wanted, rtol=1e-6)


def test_step_is_that_of_tensorflow_privacy(
    weights_after: Any, store_of: Any, schema_of: Any, client: Any
) -> None:
    import tensorflow as tf
    import tensorflow_privacy

    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Dense(6, "tanh"), tf.keras.layers.Dense(3)]
    model = tf.keras.Sequential([tf.keras.Input((5,)), *layers])
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(8, 5)).astype(np.float32)
    labels = generator.integers(0, 3, 8)
    store = store_of([client("one", labels, x=inputs)], schema_of({"x": 5}, 3))
    start = model.get_weights()

    rate = {"learning_rate": 1.0}
    (got,) = weights_after(model, store, 0.0, [0], batch_size=8, client_optimizer=rate)

    model.set_weights(start)
    optimizer = tensorflow_privacy.DPKerasSGDOptimizer(
        l2_norm_clip=CLIP, noise_multiplier=0.0, num_microbatches=8, learning_rate=1.0
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    variables = model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        losses = loss(labels, model(inputs))
    optimizer.minimize(losses, variables, tape=tape)
    for mine, theirs, before in zip(got, model.get_weights(), start, strict=True):
        assert np.abs(theirs - before).max() > 1e-3
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


def test_no_example_moves_the_sum_by_more_than_the_clip_norm(
    weights_after: Any, linear_model: Any, store_of: Any, client: Any
) -> None:
    """Also one whose gradient's norm overflows float32, or that is not finite, which is nothing."""
    moves = {"nan": 0.0, "inf": 0.0, "1e38": 0.0, "-3e38": 0.0, "1e19": CLIP, "-1000": CLIP}
    # The linear model's answer to [0, 0] is 0.1: that example's gradient is nothing.
    examples = {"0": [0, 0], **{value: [float(value), 1] for value in moves}}
    clients = [
        client(name, [1.0, 0.1], dtype="float32", x=[[1, 2], example])
        for name, example in examples.items()
    ]
    store = store_of(clients)
    names = [reference.client_id for reference in store]

    weights = weights_after(linear_model(), store, 0.0, *([at] for at in range(len(names))))

    flat = [np.concatenate([part.ravel() for part in one]) for one in weights]
    without = flat[names.index("0")]
    for name, one in zip(names, flat, strict=True):
        moved = np.linalg.norm(one - without) * BATCH / RATE
        assert moved == pytest.approx(moves.get(name, 0.0), abs=1e-5), name


def test_word_that_comes_twice_in_an_example_is_clipped_as_one_gradient(
    weights_after: Any, store_of: Any, schema_of: Any, client: Any
) -> None:
    """The rows of the embedding's gradient, each by itself, would pass sqrt(2) of the clip norm."""
    import tensorflow as tf

    words = tf.keras.Input((2,), dtype=tf.int64)
    vectors = tf.keras.layers.Embedding(5, 1, "zeros")(words)
    model = tf.keras.Model(words, tf.keras.layers.GlobalAveragePooling1D()(vectors))
    features = {"words": {"columns": "words", "dtype": "int64", "shape": [2]}}
    one = client("one", [100.0], dtype="float32", words=np.array([[3, 3]]))

    ((embedding,),) = weights_after(model, store_of([one], schema_of(features, None)), 0.0, [0])

    np.testing.assert_allclose(embedding.ravel(), [0, 0, 0, RATE * CLIP / BATCH, 0], rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_batch_has_noise_of_its_own(
    engine: str,
    weights_after: Any,
    square_model: Any,
    store_of: Any,
    schema_of: Any,
    client: Any,
    check_noise: Any,
    check_independent: Any,
) -> None:
    """Of examples whose gradients are nothing; the last batch of three has one example only."""
    clients = [
        client(name, [1.0] * 5, dtype="float32", x=np.zeros((5, 100), np.float32)) for name in "ab"
    ]
    store = store_of(clients, schema_of({"x": 100}, None))

    (one, same, _), (again, *_) = weights_after(
        square_model(), store, NOISE, [0, 1], [0, 1], engine=engine
    )

    step = RATE * CLIP * NOISE / BATCH
    for values in (one, same, again):
        check_noise(values, step * np.sqrt(6) / 2)  # three batches of each client, a mean of two
    check_independent(one, same)
    check_independent(one, again)


def test_ledger_states_that_examples_are_protected(
    trained_privately: Any, train_config: Any, epsilon_by_hand: Any
) -> None:
    rounds = 3
    ledger = trained_privately(
        train_config(rounds=rounds, batch_size=BATCH, privacy=PRIVACY)
    ).ledger

    assert (ledger["unit"], ledger["neighbouring_relation"]) == ("example", "zero_out_one_example")
    assert ledger["trust_model"].startswith("local to clients: each client is trusted")
    assert ledger["mechanism"]["kind"] == "example"
    assert ledger["mechanism"]["denominator"] is None
    assert any(line.startswith("A client as a whole") for line in ledger["not_covered"])
    exact = epsilon_by_hand(NOISE / np.sqrt(rounds), 1e-5)
    assert ledger["epsilon"] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"local_epochs": 2}, "one batch of a round only"),
        ({"algorithm": "fed_sgd"}, "one batch of a round only"),
        ({"gradient_clip_norm": 1.0}, "leave out gradient_clip_norm"),
    ],
    ids=str,
)
def test_what_makes_no_sense_for_examples_is_refused(
    changes: Any, reason: str, train_config: Any
) -> None:
    with pytest.raises(ConfigError, match=reason):
        train_config(privacy=PRIVACY, **changes)
