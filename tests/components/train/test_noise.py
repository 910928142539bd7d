"""The noise that every engine adds: its size, by a two-sided test, and that it repeats nowhere.

The clients of these rounds send nothing (one has no examples, another's are not finite), so by how
much the weights change is the noise alone. A test that is right fails once in a million runs.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from privet.components.train.accounting import value_noise_multiplier
from privet.components.train.aggregation import build_query
from privet.components.train.noise import standard_normal
from privet.components.train.privacy_config import AdaptiveClipConfig

pytestmark = pytest.mark.usefixtures("no_worker_left")

FAILURE = 1e-6
CLIP, NOISE, DENOMINATOR, SERVER_RATE, COUNT_NOISE = 0.5, 3.0, 4.0, 0.5, 2.0
ADAPTIVE = AdaptiveClipConfig(target_quantile=0.7, learning_rate=0.5, count_noise=COUNT_NOISE)
PRIVATE = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": CLIP, "noise_multiplier": NOISE}
ENGINES: dict[str, dict[str, Any]] = {
    "compiled": {"xla": "off", "privacy": PRIVATE},  # XLA would compile the work, not the update
    "beam": {"xla": "off", "privacy": PRIVATE},
    "tff": {},  # refused with privacy: there the query alone is private
}
CLIPPING = {
    "fixed": (None, NOISE),
    "adaptive": (ADAPTIVE, value_noise_multiplier(NOISE, COUNT_NOISE)),
}
"""What build_query takes, and the noise on the sum in units of the clip norm."""


def assert_deviation(noise: np.ndarray, deviation: float) -> None:
    """That normal numbers of mean 0 have this standard deviation: a two-sided chi-square test."""
    found = np.sum((noise.astype(np.float64) / deviation) ** 2)
    low, high = stats.chi2.ppf([FAILURE / 2, 1 - FAILURE / 2], noise.size)
    assert low < found < high, f"{np.sqrt(found / noise.size):.4f} of the deviation claimed"


def assert_uncorrelated(one: np.ndarray, other: np.ndarray) -> None:
    """That two samples, as far as both go, have no linear relation."""
    size = min(one.size, other.size)
    assert stats.pearsonr(one.ravel()[:size], other.ravel()[:size])[1] > FAILURE


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_noise_is_normal_up_to_its_tails(dtype: tf.DType) -> None:
    noise = standard_normal((1001, 3, 333), tf.constant([2, -7], tf.int64), dtype).numpy().ravel()
    assert noise.dtype == dtype.as_numpy_dtype
    assert stats.kstest(noise.astype(np.float64), "norm").pvalue > FAILURE
    assert_uncorrelated(noise[: noise.size // 2], noise[noise.size // 2 :])  # both ends of pairs
    for limit in (3.0, 4.0, 4.5):
        beyond, chance = int((np.abs(noise) > limit).sum()), 2 * stats.norm.sf(limit)
        assert stats.binomtest(beyond, noise.size, chance).pvalue > FAILURE
    for shape in ((), (1,), (0,), (2, 3)):
        assert standard_normal(shape, tf.constant([1, 2], tf.int64), dtype).shape == shape


def test_noise_reaches_beyond_where_tensorflows_own_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    # tf.random.stateless_normal never gives more than sqrt(-2 log 1e-7) = 5.68, so that a client
    # who moves a sum by 1 / 0.6 deviations shows with probability 3e-5 in each round.
    def lowest(shape: Any, *_: Any, **__: Any) -> tf.Tensor:
        return tf.zeros(shape, tf.uint64)

    monkeypatch.setattr(tf.random, "stateless_uniform", lowest)
    largest = standard_normal((1,), tf.constant([1, 2], tf.int64), tf.float32)
    assert float(largest[0]) == pytest.approx(np.sqrt(2 * 65 * np.log(2)))  # 9.49


def test_a_deviation_wrong_by_a_twentieth_is_found_and_a_right_one_passes() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        noise = generator.normal(0, 2.0, 20_000)
        assert_deviation(noise, 2.0)
        for wrong in (0.95, 1.05):
            with pytest.raises(AssertionError, match="of the deviation claimed"):
                assert_deviation(noise * wrong, 2.0)


def test_a_number_without_noise_is_found() -> None:
    with pytest.raises(AssertionError, match=r"0\.0000 of the deviation claimed"):
        assert_deviation(np.zeros(1), 2.0)


def test_a_tenth_of_other_noise_is_found() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 5000))
    assert_uncorrelated(one, other)
    with pytest.raises(AssertionError):
        assert_uncorrelated(one, 0.1 * one + 0.9 * other)


@pytest.fixture(scope="module")
def silent(store_of: Any, client: Any) -> Any:
    """A store of clients that take part and send nothing."""
    nothing = np.zeros((0, 2), np.float32)
    return store_of(
        [
            client("empty", [], dtype="float32", x=nothing),
            client("not finite", [1.0], dtype="float32", x=[[np.nan, np.inf]]),
        ]
    )


def wide_model() -> Any:
    """20,001 weights, in tensors of 10,000, 5,000, 5,000 and 1."""
    import tensorflow as tf

    inputs = tf.keras.Input((2,), name="x")
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1)(tf.keras.layers.Dense(5000)(inputs)))


@pytest.fixture(scope="module", params=itertools.product(ENGINES, CLIPPING), ids="-".join)
def noised(request: Any, make_engine: Any, train_config: Any, silent: Any) -> tuple[Any, float]:
    """The noise of two rounds from the same state, tensor by tensor, and its claimed deviation."""
    engine_name, clipping = request.param
    adaptive, multiplier = CLIPPING[clipping]
    server = {"learning_rate": SERVER_RATE}
    config = train_config(engine=engine_name, server_optimizer=server, **ENGINES[engine_name])
    query = build_query(CLIP, NOISE, DENOMINATOR, adaptive)
    engine = make_engine(config, model=wide_model(), store=silent, query=query, seed=0)
    try:
        initial = engine.initialize()
        before = engine.weights(initial)
        rounds = []
        for number in (1, 2):
            state, _ = engine.next(initial, engine.read(np.arange(2), number))
            pairs = zip(engine.weights(state), before, strict=True)
            rounds.append([(after - weight) / SERVER_RATE for after, weight in pairs])
    finally:
        engine.close()
    return rounds, CLIP * multiplier / DENOMINATOR


def test_noise_has_the_claimed_deviation_on_every_tensor(noised: tuple[Any, float]) -> None:
    rounds, deviation = noised
    for tensors in rounds:
        assert [noise.size for noise in tensors] == [10_000, 5_000, 5_000, 1]
        for noise in tensors:
            assert_deviation(noise, deviation)
        assert_deviation(np.concatenate([noise.ravel() for noise in tensors]), deviation)


def test_noise_is_new_in_every_round_and_tensor(noised: tuple[Any, float]) -> None:
    samples = [noise for tensors in noised[0] for noise in tensors if noise.size > 1]
    for one, other in itertools.combinations(samples, 2):
        assert_uncorrelated(one, other)
