"""The mechanism itself, through a real TFF aggregation: clipping, denominator, noise."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from privet.components.shared.errors import PrivacyError
from privet.components.train.accounting import joint_noise_multiplier, value_noise_multiplier
from privet.components.train.aggregation import build_aggregator, build_query
from privet.components.train.noise import draw_noise, kept_nothing, weights_of
from privet.components.train.privacy_config import AdaptiveClipConfig


@pytest.fixture(scope="module")
def aggregate() -> Iterator[Callable[..., Any]]:
    """Aggregates client updates (each a list of arrays); gives the result and the DP event."""
    import tensorflow_federated as tff
    from tensorflow_federated.python.aggregators.differential_privacy import (
        extract_dp_event_from_state,
    )

    before = {child.pid for child in psutil.Process().children()}
    tff.backends.native.set_sync_local_cpp_execution_context()

    def run(query: Any, clients: list[Any], shapes: list[tuple[int, ...]], calls: int = 1) -> Any:
        value_type = tff.types.to_type([(np.float32, shape) for shape in shapes])
        factory = build_aggregator(query)
        process = factory.create(value_type)
        state = process.initialize()
        results = []
        for _ in range(calls):
            output = process.next(
                state, [[np.array(part, np.float32) for part in client] for client in clients]
            )
            state = output.state
            results.append([np.asarray(part) for part in output.result])
        return results, (extract_dp_event_from_state(state) if query else None)

    yield run
    started = [c for c in psutil.Process().children() if c.pid not in before]
    for child in started:
        if "worker_binary" in child.name():
            child.terminate()
    psutil.wait_procs(started, timeout=5)


def test_client_over_the_clip_norm_is_scaled_to_it(aggregate: Any) -> None:
    query = build_query(clip_norm=1.0, noise_multiplier=0.0, denominator=1.0)
    ([[alone]], _) = aggregate(query, [[[3, 4]]], [(2,)])
    ([[both]], _) = aggregate(query, [[[3, 4]], [[0.3, 0.4]]], [(2,)])

    np.testing.assert_allclose(alone, [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(both, [0.9, 1.2], rtol=1e-6)


@pytest.mark.parametrize("huge", [1e10, 2e19, 1e30, 3e38])
def test_no_finite_update_escapes_the_clip(aggregate: Any, huge: float) -> None:
    """A squared norm beyond float32 must not turn the sum into NaN."""
    query = build_query(clip_norm=0.5, noise_multiplier=0.0, denominator=1.0)
    ([[alone]], _) = aggregate(query, [[[huge, 0, -huge, 0]]], [(4,)])
    ([[both]], _) = aggregate(query, [[[huge, 0, -huge, 0]], [[0, 0.1, 0, 0]]], [(4,)])

    half = 0.5 / np.sqrt(2)
    np.testing.assert_allclose(alone, [half, 0, -half, 0], rtol=1e-5)
    np.testing.assert_allclose(both, [half, 0.1, -half, 0], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_update_that_is_not_finite_counts_as_zero(aggregate: Any, bad: float) -> None:
    query = build_query(clip_norm=0.5, noise_multiplier=0.0, denominator=1.0)
    ([[sum_]], _) = aggregate(query, [[[bad, 1.0]], [[0.1, 0.2]]], [(2,)])

    np.testing.assert_allclose(sum_, [0.1, 0.2], rtol=1e-6)


def test_norm_is_that_of_all_tensors_together(aggregate: Any) -> None:
    query = build_query(1.0, 0.0, 1.0)
    ([[one, other]], _) = aggregate(query, [[[3], [[4]]]], [(1,), (1, 1)])

    np.testing.assert_allclose([one[0], other[0][0]], [0.6, 0.8], rtol=1e-6)


def test_denominator_is_fixed_whoever_reports(aggregate: Any) -> None:
    query = build_query(10.0, 0.0, 4.0)
    for clients in (1, 2, 5):
        ([[mean]], _) = aggregate(query, [[[1, 2]]] * clients, [(2,)])
        np.testing.assert_allclose(mean, [clients / 4, clients / 2], rtol=1e-6)
    ([[nobody]], _) = aggregate(query, [], [(2,)])
    assert nobody.tolist() == [0.0, 0.0]


SIZE = 100_000
CLIP, NOISE, DENOMINATOR = 0.5, 3.0, 10.0


@pytest.fixture(scope="module")
def noise(aggregate: Any) -> Any:
    """Three aggregations of nobody: pure noise, in two tensors of one shape."""
    return aggregate(build_query(CLIP, NOISE, DENOMINATOR), [], [(SIZE,), (SIZE,)], calls=3)


def test_noise_has_the_moments_of_its_gaussian(noise: Any) -> None:
    results, _ = noise
    wanted = CLIP * NOISE / DENOMINATOR
    for part in (part for result in results for part in result):
        standard = part.astype(np.float64) / wanted
        assert abs(standard.mean()) < 7 / np.sqrt(SIZE)
        assert abs(standard.var() - 1) < 7 * np.sqrt(2 / SIZE)
        assert abs((standard**4).mean() - 3) < 7 * np.sqrt(96 / SIZE)


def test_noise_is_fresh_in_every_call_and_tensor(noise: Any) -> None:
    parts = [part for result in noise[0] for part in result]
    correlations = np.corrcoef(parts) - np.eye(len(parts))

    assert np.abs(correlations).max() < 7 / np.sqrt(SIZE)


def test_noise_does_not_follow_a_seed(aggregate: Any) -> None:
    import tensorflow as tf

    drawn = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(0)
        drawn.append(aggregate(build_query(1.0, 1.0, 1.0), [], [(8,)])[0][0][0])
    assert not np.array_equal(*drawn)


def test_noise_is_on_every_coordinate_once_whoever_reports(aggregate: Any) -> None:
    query = build_query(1.0, 2.0, 5.0)
    ([[mean]], _) = aggregate(query, [[np.zeros(SIZE)]] * 3, [(SIZE,)])

    assert mean.std() == pytest.approx(2.0 / 5.0, rel=7 / np.sqrt(2 * SIZE))


def test_event_is_the_gaussian_of_the_noise_multiplier(noise: Any) -> None:
    import dp_accounting

    assert isinstance(noise[1], dp_accounting.GaussianDpEvent)
    assert noise[1].noise_multiplier == pytest.approx(NOISE, rel=1e-6)


ADAPTIVE = AdaptiveClipConfig(target_quantile=0.5, learning_rate=0.2)


@pytest.mark.parametrize(
    ("norms", "within"), [([0.1, 0.1, 0.1, 0.1], 1.0), ([9, 9, 9, 9], 0.0), ([0.1, 0.1, 9, 9], 0.5)]
)
def test_adaptive_clip_follows_the_share_of_clients_within_it(
    norms: list[float], within: float
) -> None:
    query = build_query(1.0, 0.0, 4.0, ADAPTIVE)
    state = query.initial_global_state()
    params = query.derive_sample_params(state)
    total = query.initial_sample_state([tf.zeros(2)])
    for norm in norms:
        total = query.accumulate_record(params, total, [tf.constant([norm, 0.0])])
    (mean,), state, _ = query.get_noised_result(total, state)

    np.testing.assert_allclose(mean, [np.minimum(norms, 1.0).mean(), 0], rtol=1e-6)
    (clip,) = query.derive_metrics(state).values()
    assert float(clip) == pytest.approx(np.exp(-0.2 * (within - 0.5)))


@pytest.mark.parametrize(("clip", "norm", "least"), [(2e-9, 1e-10, 1e-9), (5e8, 1e30, None)])
def test_adaptive_clip_stays_where_float32_holds_the_squares_of_norms(
    clip: float, norm: float, least: float | None
) -> None:
    query = build_query(clip, 0.0, 1.0, AdaptiveClipConfig(learning_rate=1.0))
    state = query.initial_global_state()
    for _ in range(5):
        params = query.derive_sample_params(state)
        total = query.initial_sample_state([tf.zeros(2)])
        total = query.accumulate_record(params, total, [tf.constant([norm, 0.0])])
        _, state, _ = query.get_noised_result(total, state)
    (adapted,) = query.derive_metrics(state).values()
    assert float(adapted) == pytest.approx(least or 1e9)


def test_adaptive_clip_bounds_what_is_not_finite() -> None:
    query = build_query(1.0, 0.0, 1.0, ADAPTIVE)
    params = query.derive_sample_params(query.initial_global_state())
    for value in (np.nan, np.inf, 3e38):
        record = query.preprocess_record(params, [tf.constant([value, 1.0])])
        values = np.concatenate([np.ravel(part) for part in tf.nest.flatten(record)])
        assert np.linalg.norm(values[:2]) <= 1 + 1e-6
        assert values[2] == -0.5  # not within the clip norm


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("norm", "count"), [(0.0, 0.0), (0.5, 0.5), (5.0, -0.5)])
def test_client_without_data_is_not_counted_by_the_adaptive_clip(
    norm: float, count: float, rounded: bool
) -> None:
    # Counted as one within the clip norm it would be 1 away from a client above it, but the noise
    # on the count is for 1/2: a client's data, or nothing in its place (zero_out_one_client).
    query = build_query(1.0, 0.0, 4.0, ADAPTIVE, rounded=rounded)
    params = query.derive_sample_params(query.initial_global_state())
    *_, counted = tf.nest.flatten(query.preprocess_record(params, [tf.constant([norm, 0.0])]))
    unit = 0.5 / 2**30 if rounded else 1.0
    assert float(counted) * unit == pytest.approx(count, abs=1e-8)


@pytest.mark.parametrize("rounded", [False, True])
def test_adaptive_noise_has_the_planned_moments_on_values_and_count(rounded: bool) -> None:
    query = build_query(CLIP, NOISE, 100.0, AdaptiveClipConfig(count_noise=2.0), rounded=rounded)
    state = query.initial_global_state()
    nobody = query.initial_sample_state([tf.zeros(SIZE)])
    clips = []
    for seed in range(400):
        sums = tf.nest.flatten(nobody)
        seeds = tf.constant([[seed, 1], [seed, 2]], tf.int64)
        noises, _ = draw_noise(sums, seeds, kept_nothing(None, sums), weights_of(None, 0))
        with query.noised_by(noises):
            (mean,), after, event = query.get_noised_result(nobody, state)
        clips.append(float(query.derive_metrics(after)["clip"]))
        if seed < 3:
            wanted = CLIP * value_noise_multiplier(NOISE, 2.0) / 100.0
            assert np.std(mean) == pytest.approx(wanted, rel=7 / np.sqrt(2 * SIZE))
            assert joint_noise_multiplier(event) == pytest.approx(NOISE, rel=1e-5)
    # log(clip) = log(CLIP) - 0.2 * (count / 100 + 1/2 - 1/2), as no bound is near.
    counts = (np.log(CLIP) - np.log(clips)) / 0.2 * 100.0
    assert np.std(counts) == pytest.approx(2.0, rel=7 / np.sqrt(2 * 400))
    assert abs(np.mean(counts)) < 7 * 2.0 / np.sqrt(400)


@pytest.mark.parametrize("bit", [0, 31, 32, 63])
@pytest.mark.parametrize("half", [0, 1])
def test_every_bit_of_a_seed_makes_other_noise(half: int, bit: int) -> None:
    drawn = []
    for flipped in (0, 1):
        seeds = np.array([[12345, -678]], np.int64)
        seeds[0, half] ^= np.array(flipped << bit, np.uint64).astype(np.int64)
        sums = [tf.zeros(SIZE)]
        kept = kept_nothing(None, sums)
        (noise,), _ = draw_noise(sums, tf.constant(seeds), kept, weights_of(None, 0))
        drawn.append(noise.numpy())
    assert abs(np.corrcoef(drawn)[0, 1]) < 7 / np.sqrt(SIZE)


def rounded_sum(updates: Sequence[Any], *, noise: float = 0.0, clip: float = CLIP) -> Any:
    """The sum in units of clip * 2**-30, and the mean over one with noise from a fixed seed."""
    query = build_query(clip, noise, 1.0, rounded=True)
    state = query.initial_global_state()
    params = query.derive_sample_params(state)
    total = query.initial_sample_state([tf.zeros(len(updates[0]))])
    for update in updates:
        total = query.accumulate_record(params, total, [tf.constant(update, tf.float32)])
    seeds = tf.constant([[5, 7]], tf.int64)
    noises, _ = draw_noise(total, seeds, kept_nothing(None, total), weights_of(None, 0))
    with query.noised_by(noises):
        (mean,), _, event = query.get_noised_result(total, state)
    assert float(event.noise_multiplier) == pytest.approx(noise, rel=1e-6)
    return total[0].numpy(), mean.numpy(), noises[0].numpy()


def test_rounded_sum_is_exact_in_whatever_order() -> None:
    generator = np.random.default_rng(0)
    updates = generator.normal(size=(50, 7)).astype(np.float32)
    units, mean, _ = rounded_sum(updates)
    again, _, _ = rounded_sum(updates[::-1])

    assert units.dtype == np.int64
    assert np.array_equal(units, again)  # float32 sums would differ
    norms = np.linalg.norm(updates, axis=1, keepdims=True)
    wanted = (updates * np.minimum(1, CLIP / norms)).sum(axis=0)
    np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=50 * CLIP * 2.0**-27)


@pytest.mark.parametrize(
    "update",
    [
        [3e38, 3e38, -3e38, 0],
        [0.5, 0, 0, 0],
        [0.3, 0.4, 0, 0],
        [1e-3, 1e-42, 0, 0],
        [np.nextafter(np.float32(0.5), np.float32(1)), 0, 0, 0],
        [0.1, 0.2, 0.3, 0.4],
    ],
)
def test_rounded_update_never_exceeds_the_clip_norm_by_a_bit(update: list[float]) -> None:
    units, _, _ = rounded_sum([update])
    assert sum(int(unit) ** 2 for unit in units) <= 2**60
    assert not any(rounded_sum([[np.nan, *update[1:]]])[0])
    assert not any(rounded_sum([[np.inf, *update[1:]]])[0])


def test_rounded_noise_is_a_rounded_gaussian_on_the_same_grid() -> None:
    units, mean, normal = rounded_sum([np.full(SIZE, 1e-3)], noise=NOISE)
    grid = CLIP * 2.0**-30
    wanted = (units + np.rint(normal * NOISE * 2.0**30)) * grid

    assert np.array_equal(mean, wanted.astype(np.float32))
    noise = (mean - units * grid) / (CLIP * NOISE)
    assert abs(noise.var() - 1) < 7 * np.sqrt(2 / SIZE)


def test_rounded_noise_beyond_whole_numbers_is_refused() -> None:
    # As int64 it would be one and the same number in each round: no noise at all.
    with pytest.raises(PrivacyError, match=r"1e\+12 times what one client adds is too much"):
        build_query(1.0, 1e12, 10.0, rounded=True)
    with pytest.raises(PrivacyError, match=r"2e\+09 times .* Lower noise_multiplier \(or adap"):
        build_query(1.0, 1.0, 10.0, AdaptiveClipConfig(count_noise=1e9), rounded=True)

    query = build_query(1.0, 2.0**28, 10.0, rounded=True)
    (total,) = nobody = query.initial_sample_state([tf.zeros(1)])
    with query.noised_by([tf.constant([16.0], tf.float64)]):
        (mean,), *_ = query.get_noised_result(nobody, query.initial_global_state())
    assert total.dtype == tf.int64
    assert float(mean[0]) == pytest.approx(16 * 2.0**28 / 10)


def test_plain_mean_counts_every_client_once(aggregate: Any) -> None:
    ([[mean]], _) = aggregate(None, [[[1, 0]], [[3, 300]]], [(2,)])

    np.testing.assert_allclose(mean, [2, 150])
