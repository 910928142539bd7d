"""One contract, run on every engine: the same cohorts give the weights that TFF's engine gives."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ModelError, StoreError
from privet.components.shared.sparsity import share_of_zeros
from privet.components.shared.storage import ClientStore
from privet.components.train.aggregation import build_query
from privet.components.train.client_order import training_orders
from privet.components.train.engines import build_engine
from privet.components.train.privacy_config import AdaptiveClipConfig

pytestmark = pytest.mark.usefixtures("no_worker_left")


def dense() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [tf.keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(5, "tanh"), layers.Dense(3)]
    )


def convolution() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, padding="same"),
            layers.GroupNormalization(2),
            layers.Activation("relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def embedding() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    word = tf.keras.Input((4,), name="word", dtype=tf.int64)
    x = tf.keras.Input((2,), name="x")
    together = layers.concatenate([layers.Flatten()(layers.Embedding(7, 3)(word)), x])
    return tf.keras.Model([word, x], layers.Dense(1)(together))


def recurrent() -> Any:
    """The next token after four of them."""
    import tensorflow as tf

    layers = tf.keras.layers
    tokens = tf.keras.Input((4,), name="tokens", dtype=tf.int64)
    hidden = layers.LSTM(5, unroll=True)(layers.Embedding(7, 4)(tokens))
    return tf.keras.Model(tokens, layers.Dense(7)(hidden))


def attention() -> Any:
    """The next token, by a small transformer that does not look at padding (token 0)."""
    import tensorflow as tf

    layers = tf.keras.layers
    tokens = tf.keras.Input((4,), name="tokens", dtype=tf.int64)
    embedded = layers.Embedding(7, 4)(tokens)
    known = layers.Lambda(lambda ids: tf.not_equal(ids, 0)[:, None, :])(tokens)
    attended = layers.MultiHeadAttention(2, 3)(embedded, embedded, attention_mask=known)
    hidden = layers.LayerNormalization()(layers.Add()([embedded, attended]))
    return tf.keras.Model(tokens, layers.Dense(7)(layers.Flatten()(hidden)))


def rounding() -> Any:
    """A model that rounds as int8 does, in ranges so narrow that they have to learn."""
    import tensorflow as tf

    from privet.components.shared.fake_quant import with_fake_quant

    layers = tf.keras.layers
    image = tf.keras.Input((6, 6, 1), name="image")
    hidden = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    hidden = layers.Flatten()(layers.MaxPool2D()(hidden))
    hidden = layers.Dense(5, "tanh", name="hidden")(hidden)
    model = tf.keras.Model(image, layers.Dense(3, name="logits")(hidden))
    narrow = {"image": 1.5, "conv": 0.8, "hidden/linear": 0.5, "logits": 0.4}
    return with_fake_quant(model, {name: [-end, 0.9 * end] for name, end in narrow.items()})


IMAGE = {"image": {"columns": "image", "dtype": "float32", "shape": [6, 6, 1]}}
WORDS = {
    "word": {"columns": "word", "dtype": "int64", "shape": [4]},
    "x": {"columns": "x", "shape": [2]},
}
TOKENS = {"tokens": {"columns": "tokens", "dtype": "int64", "shape": [4]}}
MODELS: dict[str, Any] = {
    "dense": (dense, IMAGE, 3),
    "convolution": (convolution, IMAGE, 3),
    "embedding": (embedding, WORDS, 2),
    "regression": (embedding, WORDS, None),
    "recurrent": (recurrent, TOKENS, 7),
    "attention": (attention, TOKENS, 7),
    "rounding": (rounding, IMAGE, 3),
}
SIZES = {"a": 7, "one example": 1, "c": 12, "empty": 0, "not finite": 5, "f": 4}
COHORTS = [[0, 1, 2, 3, 4, 5], [], [2, 5]]


@pytest.fixture(scope="module")
def stores(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ClientStore]:
    """A store of uneven clients, one of them empty, one whose numbers are not finite."""

    def make(model: str) -> ClientStore:
        _, features, classes = MODELS[model]
        generator = np.random.default_rng(0)

        def clients() -> Iterator[Any]:
            for name, count in SIZES.items():
                values: dict[str, np.ndarray] = {}
                for feature, one in features.items():
                    shape = (count, *one["shape"])
                    values[feature] = (
                        generator.integers(0, 7, shape)
                        if one.get("dtype") == "int64"
                        else generator.normal(size=shape).astype(np.float32)
                    )
                    if name == "not finite" and values[feature].dtype == np.float32:
                        values[feature][2] = np.nan
                labels = (
                    generator.normal(size=count)
                    if classes is None
                    else generator.integers(0, classes, count)
                )
                dtype = "float32" if classes is None else "int64"
                yield client(name, labels, dtype=dtype, **values)

        folder = write_store(
            tmp_path_factory.mktemp(model), schema_of(features, classes), {"train": list(clients())}
        )
        return ClientStore(folder, "train")

    made: dict[str, ClientStore] = {}
    return lambda model: made.setdefault(model, make(model))


def cohorts(config: Any, store: ClientStore) -> list[list[int]]:
    """Those of the rounds.

    TFF's Mime Lite gets over neither a gradient that is not finite nor an empty cohort, whose mean
    gradient it takes for one: from then on its weights stay as they are. So the one is left out and
    the other comes last.
    """
    if config.algorithm != "mime_lite":
        return COHORTS
    ids = [reference.client_id for reference in store]
    finite = [[place for place in cohort if ids[place] != "not finite"] for cohort in COHORTS]
    return sorted(finite, key=len, reverse=True)


def run(
    make_engine: Any, config: Any, store: ClientStore, model: Any, query: Any = None
) -> tuple[list[Any], Any]:
    """Weights after the rounds, and the last event."""
    engine = make_engine(config, model=model, store=store, query=query, seed=3)
    try:
        state = engine.initialize()
        for number, cohort in enumerate(cohorts(config, store), start=1):
            state, event = engine.next(state, engine.read(np.array(cohort, int), number))
        return engine.weights(state), event
    finally:
        engine.close()


def assert_equal(one: list[Any], other: list[Any]) -> None:
    assert all(np.isfinite(part).all() for part in other)
    for a, b in zip(one, other, strict=True):
        # (Some weights, as the bias of keys in attention, have a gradient of rounding alone.)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7 + 1e-5 * np.abs(b).max())


SETTINGS: dict[str, dict[str, Any]] = {
    "fed_avg": {"local_epochs": 2},
    "fed_avg by examples": {"weight_by": "examples"},
    "fed_prox": {"algorithm": "fed_prox", "proximal_strength": 0.5, "local_epochs": 3},
    "clipped gradients": {"gradient_clip_norm": 0.1},
    "at most two steps": {"max_steps": 2, "local_epochs": 2},
    "client adam, server yogi": {
        "client_optimizer": {"name": "adam", "learning_rate": 0.01},
        "server_optimizer": {"name": "yogi", "learning_rate": 0.1},
    },
    "client momentum, fed_adagrad": {
        "client_optimizer": {"learning_rate": 0.05, "momentum": 0.9},
        "algorithm": "fed_adagrad",
        "server_optimizer": {"learning_rate": 0.1},
    },
    "fed_adam": {
        "algorithm": "fed_adam",
        "server_optimizer": {"learning_rate": 0.1, "adaptivity": 0.01},
    },
    "fed_sgd": {
        "algorithm": "fed_sgd",
        "server_optimizer": {"learning_rate": 0.1, "momentum": 0.9},
    },
    "fed_sgd by examples": {"algorithm": "fed_sgd", "weight_by": "examples"},
    "mime_lite": {
        "algorithm": "mime_lite",
        "client_optimizer": {"learning_rate": 0.05, "momentum": 0.9},
        "local_epochs": 2,
    },
    "mime_lite by examples": {
        "algorithm": "mime_lite",
        "client_optimizer": {"name": "rmsprop", "learning_rate": 0.01},
        "weight_by": "examples",
    },
    "schedules": {
        "rounds": 3,
        "client_optimizer": {
            "learning_rate": 0.1,
            "momentum": 0.5,
            "schedule": {"kind": "exponential", "decay": 0.5},
        },
        "server_optimizer": {
            "learning_rate": 0.5,
            "schedule": {"kind": "cosine", "warmup_rounds": 2, "final": 0.1},
        },
        "gradient_clip_norm": 0.5,
    },
    "pruning": {
        "rounds": 3,
        "pruning": {
            "sparsity": 0.8,
            "initial_sparsity": 0.3,
            "begin_round": 0,
            "end_round": 2,
            "scope": "global",
        },
        "local_epochs": 2,
        "gradient_clip_norm": 0.5,
        "client_optimizer": {"learning_rate": 0.05, "momentum": 0.9},
        "server_optimizer": {"learning_rate": 0.5, "momentum": 0.9},
    },
    "pruning under mime_lite": {
        "algorithm": "mime_lite",
        "rounds": 3,
        "pruning": {"sparsity": 0.5, "schedule": "constant", "begin_round": 1, "pattern": "2:4"},
        "client_optimizer": {"name": "adam", "learning_rate": 0.01},
        "server_optimizer": {"learning_rate": 0.5, "momentum": 0.9},
    },
    "pruning under fed_adam by examples": {
        "algorithm": "fed_adam",
        "rounds": 3,
        "pruning": {
            "sparsity": 0.6,
            "pattern": "block",
            "block": [3, 1],
            "begin_round": 1,
            "end_round": 3,
        },
        "server_optimizer": {"learning_rate": 0.1},
        "weight_by": "examples",
    },
}
COMPILED = [{"engine": "compiled", "xla": xla} for xla in ("on", "off")]
BEAM = [{"engine": "beam", "xla": "off"}]
ENGINES = [*COMPILED, *BEAM, {"engine": "tff"}]
CLIENT_RATE, SERVER_RATE, BATCH, EPOCHS, PULL, SEED = 0.05, 0.5, 2, 3, 0.3, 4


@pytest.fixture(scope="module")
def wanted(make_engine: Any, stores: Any, train_config: Any) -> Callable[..., Any]:
    """What the `tff` engine gives, which is slow to build: once for each case."""
    import tensorflow as tf

    known: dict[str, Any] = {}

    def reference(model: str, settings: dict[str, Any], query: Any = None) -> Any:
        key = repr((model, settings, query and query.initial_global_state()))
        if key not in known:
            tf.keras.utils.set_random_seed(0)
            built = MODELS[model][0]()
            initial = built.get_weights()
            config = train_config(batch_size=4, engine="tff", **settings)
            known[key] = (initial, *run(make_engine, config, stores(model), built, query))
        return known[key]

    return reference


@pytest.mark.parametrize("how", [*COMPILED, *BEAM], ids=str)
@pytest.mark.parametrize(
    ("model", "settings"),
    [("dense", name) for name in SETTINGS]
    + [(model, "fed_avg") for model in MODELS if model != "dense"]
    + [("embedding", name) for name in ("fed_prox", "clipped gradients", "pruning")]
    + [("rounding", "mime_lite")],
)
def test_weights_are_those_of_tff(
    model: str,
    settings: str,
    how: Any,
    make_engine: Any,
    stores: Any,
    wanted: Any,
    train_config: Any,
) -> None:
    initial, weights, event = wanted(model, SETTINGS[settings])
    built = MODELS[model][0]()
    built.set_weights(initial)
    config = train_config(batch_size=4, **how, **SETTINGS[settings])
    got, got_event = run(make_engine, config, stores(model), built)

    assert_equal(got, weights)
    assert any(not np.array_equal(a, b) for a, b in zip(got, initial, strict=True))
    if config.pruning is not None:
        assert all(np.array_equal(a == 0, b == 0) for a, b in zip(got, weights, strict=True))
        assert share_of_zeros(got) == pytest.approx(config.pruning.sparsity, abs=0.05)
    assert got_event == event == dp_accounting.NonPrivateDpEvent()


PRIVATE = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1, "noise_multiplier": 1}
"""What makes the engines but `tff` train as they do in a private run; the query is given apart."""

NOISELESS = dp_accounting.GaussianDpEvent(0.0)
ADAPTIVE = AdaptiveClipConfig(target_quantile=0.7, learning_rate=0.5)


@pytest.mark.parametrize("how", [*COMPILED, *BEAM], ids=str)
@pytest.mark.parametrize("algorithm", ["fed_avg", "fed_sgd"])
@pytest.mark.parametrize(
    ("adaptive", "applied"),
    [(None, NOISELESS), (ADAPTIVE, dp_accounting.ComposedDpEvent([NOISELESS, NOISELESS]))],
    ids=["fixed", "adaptive"],
)
def test_clipped_weights_are_those_of_tff(
    adaptive: Any,
    applied: Any,
    algorithm: str,
    how: Any,
    make_engine: Any,
    stores: Any,
    wanted: Any,
    train_config: Any,
) -> None:
    query = build_query(0.05, 0.0, 4.0, adaptive)
    initial, weights, event = wanted("dense", {"algorithm": algorithm}, query)
    built = dense()
    built.set_weights(initial)
    config = train_config(batch_size=4, algorithm=algorithm, privacy=PRIVATE, **how)
    got, got_event = run(make_engine, config, stores("dense"), built, query)

    assert_equal(got, weights)
    assert got_event == event == applied


def numpy_round(weights: list[np.ndarray], clients: list[Any], number: int) -> list[np.ndarray]:
    """One round of federated averaging of a linear model under squared error, with FedProx."""
    deltas = []
    for client in clients:
        kernel, bias = (part.astype(np.float64) for part in weights)
        order = training_orders([client], seed=SEED, round_number=number, epochs=EPOCHS)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            x, y = client.features["x"][chosen], client.labels[chosen, None]
            error = 2 * (x @ kernel + bias - y) / len(chosen)
            pull_kernel, pull_bias = PULL * (kernel - weights[0]), PULL * (bias - weights[1])
            kernel = kernel - CLIENT_RATE * (x.T @ error + pull_kernel)
            bias = bias - CLIENT_RATE * (error.sum(0) + pull_bias)
        deltas.append((kernel - weights[0], bias - weights[1]))
    return [
        weights[part] + SERVER_RATE * np.mean([delta[part] for delta in deltas], axis=0)
        for part in (0, 1)
    ]


def linear_config(train_config: Any, how: Any, **changes: Any) -> Any:
    return train_config(
        local_epochs=EPOCHS,
        batch_size=BATCH,
        client_optimizer={"learning_rate": CLIENT_RATE},
        server_optimizer={"learning_rate": SERVER_RATE},
        **how,
        **changes,
    )


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_rounds_equal_fed_prox_in_numpy(
    how: Any,
    make_engine: Any,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
) -> None:
    store = store_of(two_clients)
    clients = list(store.read_many(store))
    config = linear_config(train_config, how, algorithm="fed_prox", proximal_strength=PULL)
    engine = make_engine(config, model=linear_model(), store=store, query=None, seed=SEED)
    try:
        wanted = linear_model().get_weights()
        state = engine.initialize()
        for part, value in zip(engine.weights(state), wanted, strict=True):
            np.testing.assert_array_equal(part, value)
        for number in (1, 2):
            state, event = engine.next(state, engine.read(np.arange(2), number))
            wanted = numpy_round(wanted, clients, number)
            assert_equal(engine.weights(state), wanted)
            assert event == dp_accounting.NonPrivateDpEvent()
    finally:
        engine.close()


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_same_seed_gives_equal_weights_to_the_last_bit(
    how: Any, make_engine: Any, stores: Any, train_config: Any
) -> None:
    built = dense()
    initial = built.get_weights()
    runs = []
    for _ in range(2):
        built = dense()
        built.set_weights(initial)
        weights, _ = run(make_engine, train_config(batch_size=4, **how), stores("dense"), built)
        runs.append(b"".join(part.tobytes() for part in weights))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_private_round_clips_ignores_what_is_not_finite_and_takes_an_empty_cohort(
    how: Any, make_engine: Any, train_config: Any, linear_model: Any, store_of: Any, client: Any
) -> None:
    noise = 1e-4  # so little that the clipped update can be seen
    query = build_query(clip_norm=0.5, noise_multiplier=noise, denominator=4.0)
    broken = client("broken", [1.0], dtype="float32", x=[[np.nan, np.inf]])
    far = client("far", [1000.0], dtype="float32", x=[[1, 2]])
    store = store_of([broken, far])
    place = {reference.client_id: position for position, reference in enumerate(store)}
    config = linear_config(train_config, how)
    engine = make_engine(config, model=linear_model(), store=store, query=query, seed=SEED)
    try:
        initial = engine.initialize()

        def change(*cohort: str) -> np.ndarray:
            positions = np.array([place[name] for name in cohort], int)
            state, event = engine.next(initial, engine.read(positions, 1))
            assert isinstance(event, dp_accounting.GaussianDpEvent)
            assert event.noise_multiplier == pytest.approx(noise)
            pairs = zip(engine.weights(state), engine.weights(initial), strict=True)
            return np.concatenate([(after - before).ravel() for after, before in pairs])

        clipped = 0.5 / 4.0 * SERVER_RATE
        tiny = 10 * 0.5 * noise / 4.0
        assert np.linalg.norm(change("far")) == pytest.approx(clipped, abs=tiny)
        assert np.linalg.norm(change("far", "broken")) == pytest.approx(clipped, abs=tiny)
        assert np.linalg.norm(change("broken")) < tiny
        nobody = change()
        assert 0 < np.linalg.norm(nobody) < tiny
        assert not np.array_equal(nobody, change())  # fresh noise though nothing else changed
    finally:
        engine.close()


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_noise_does_not_follow_any_seed(
    how: Any,
    make_engine: Any,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
) -> None:
    """Rule 7: building a model seeds TensorFlow, which must not seed the noise."""
    import tensorflow as tf

    query = build_query(clip_norm=0.5, noise_multiplier=1.0, denominator=2.0)
    store = store_of(two_clients)
    outcomes = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(7)
        model = linear_model()
        config = linear_config(train_config, how)
        engine = make_engine(config, model=model, store=store, query=query, seed=7)
        try:
            tf.keras.utils.set_random_seed(7)
            state, _ = engine.next(engine.initialize(), engine.read(np.arange(2), 1))
            outcomes.append(np.concatenate([part.ravel() for part in engine.weights(state)]))
        finally:
            engine.close()
    assert (outcomes[0] != outcomes[1]).all()


def dropping() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((2,)),
            layers.Dense(400, kernel_initializer="ones"),
            layers.Dropout(0.25),
            layers.Dense(1, kernel_initializer="ones"),
        ]
    )


def test_dropout_leaves_out_other_units_in_each_round(
    make_engine: Any, train_config: Any, store_of: Any, client: Any
) -> None:
    one = client("a", [0.0], dtype="float32", x=[[1, 1]])
    config = train_config(client_optimizer={"learning_rate": 1e-6}, engine="compiled")
    engine = make_engine(config, model=dropping(), store=store_of([one]), query=None, seed=0)
    state = engine.initialize()
    dropped = []
    for number in (1, 2):
        after, _ = engine.next(state, engine.read(np.arange(1), number))
        dropped.append(engine.weights(after)[2].ravel() == engine.weights(state)[2].ravel())
    for which in dropped:  # 400 units, each left out with probability 1/4
        assert abs(which.sum() - 100) < 6 * np.sqrt(400 * 0.25 * 0.75)
    assert (dropped[0] != dropped[1]).any()


def test_model_that_xla_cannot_compile_is_told(
    make_engine: Any, train_config: Any, store_of: Any, client: Any
) -> None:
    store = store_of([client("a", [0.0], dtype="float32", x=[[1, 1]])])
    config = train_config(engine="compiled", xla="on")
    engine = make_engine(config, model=dropping(), store=store, query=None, seed=0)
    with pytest.raises(ModelError, match=r"XLA cannot compile the model .* train\.xla: auto"):
        engine.next(engine.initialize(), engine.read(np.arange(1), 1))


@pytest.mark.parametrize("compiles", [True, False])
def test_log_of_a_private_run_does_not_tell_how_many_came(
    compiles: bool,
    make_engine: Any,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither clients, batches nor seconds: under Poisson sampling they are a secret."""
    query = build_query(clip_norm=0.5, noise_multiplier=1.0, denominator=2.0)
    config = train_config(engine="compiled", xla="auto", privacy=PRIVATE)
    model = linear_model() if compiles else dropping()
    engine = make_engine(config, model=model, store=store_of(two_clients), query=query, seed=0)
    with caplog.at_level("INFO"):
        engine.next(engine.initialize(), engine.read(np.arange(2), 1))
    said = [one.getMessage() for one in caplog.records if one.name.startswith("privet")]
    assert len(said) == 1
    assert not any(character.isdigit() for character in said[0])


@pytest.mark.parametrize("how", ENGINES, ids=str)
def test_gradient_of_repeated_words_is_clipped_as_their_sum(
    how: Any, make_engine: Any, train_config: Any, store_of: Any, schema_of: Any, client: Any
) -> None:
    import tensorflow as tf

    word = tf.keras.Input((4,), name="word", dtype=tf.int64)
    embedded = tf.keras.layers.Flatten()(tf.keras.layers.Embedding(7, 3)(word))
    model = tf.keras.Model(word, tf.keras.layers.Dense(1)(embedded))
    features = {"word": {"columns": "word", "dtype": "int64", "shape": [4]}}
    one = client("a", np.full(16, 9.0), dtype="float32", word=np.full((16, 4), 3))
    config = train_config(
        batch_size=16, gradient_clip_norm=0.1, client_optimizer={"learning_rate": 1.0}, **how
    )
    store = store_of([one], schema_of(features, None))
    engine = make_engine(config, model=model, store=store, query=None, seed=0)
    try:
        before = engine.initialize()
        after, _ = engine.next(before, engine.read(np.arange(1), 1))
        pairs = zip(engine.weights(after), engine.weights(before), strict=True)
        step = np.concatenate([(a - b).ravel() for a, b in pairs])
    finally:
        engine.close()
    assert np.linalg.norm(step) == pytest.approx(0.1, rel=1e-4)


def test_model_that_mixes_the_examples_of_a_batch_is_not_trained_by_xla(
    make_engine: Any, train_config: Any, store_of: Any, two_clients: list[Any]
) -> None:
    import tensorflow as tf

    def mixing() -> Any:
        layers = tf.keras.layers
        return tf.keras.Sequential(
            [
                tf.keras.Input((2,)),
                layers.Lambda(lambda x: x - tf.reduce_mean(x, 0)),
                layers.Dense(1, kernel_initializer="ones"),
            ]
        )

    store = store_of(two_clients)
    weights = {}
    for xla in ("auto", "off"):
        config = train_config(batch_size=4, engine="compiled", xla=xla)
        engine = make_engine(config, model=mixing(), store=store, query=None, seed=0)
        state, _ = engine.next(engine.initialize(), engine.read(np.array([1, 0]), 1))
        weights[xla] = engine.weights(state)
    assert_equal(weights["auto"], weights["off"])

    config = train_config(batch_size=4, engine="compiled", xla="on")
    engine = make_engine(config, model=mixing(), store=store, query=None, seed=0)
    with pytest.raises(ModelError, match="depends on the other examples of the batch"):
        engine.next(engine.initialize(), engine.read(np.array([1, 0]), 1))


def test_beam_leaves_no_sum_behind_and_tells_of_a_damaged_store(
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
    make_pipeline: Any,
    tmp_path: Path,
) -> None:
    store = store_of(two_clients)
    engine = build_engine(
        train_config(engine="beam", xla="off"),
        model=linear_model(),
        store=store,
        query=None,
        seed=0,
        make_pipeline=make_pipeline,
        folder=str(tmp_path),
    )
    state, _ = engine.next(engine.initialize(), engine.read(np.arange(1), 1))
    (folder,) = tmp_path.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["programs"]

    for shard in Path(store.directory).rglob("*.tfrecord"):
        shard.write_bytes(bytes(len(shard.read_bytes())))
    with pytest.raises(StoreError, match="is damaged"):
        engine.next(state, engine.read(np.array([1]), 2))
    assert [path.name for path in folder.iterdir()] == ["programs"]
    engine.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [*COMPILED, *BEAM], ids=str)
def test_fused_normalization_which_is_not_safe_in_a_loop_is_refused(
    how: Any, make_engine: Any, train_config: Any, store_of: Any, two_clients: list[Any]
) -> None:
    import tensorflow as tf

    inputs = tf.keras.Input((2,))

    def normalized(x: Any) -> Any:
        image = tf.reshape(x, (1, -1, 1, 2))
        return tf.reshape(tf.compat.v1.nn.fused_batch_norm(image, [1.0, 1], [0.0, 0])[0], (-1, 2))

    hidden = tf.keras.layers.Lambda(normalized)(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(hidden))
    store = store_of(two_clients)
    with pytest.raises(ModelError, match="cannot run safely in the engines compiled and beam"):
        make_engine(train_config(**how), model=model, store=store, query=None, seed=0)
