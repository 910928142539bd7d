"""Canaries: how they take part, what is read of them, and that clients' guarantee stays."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import epsilon_of
from privet.components.train.aggregation import MeanQuery, build_query, clip_place
from privet.components.train.canaries import Canaries, canary_report
from privet.components.train.canaries_config import CanariesConfig
from privet.components.train.correlated_noise import TreeNoise
from privet.components.train.mechanism import gaussian
from privet.components.train.privacy_config import AdaptiveClipConfig
from privet.components.train.run import TrainingResult, run_training
from privet.components.train.sampling import (
    AllClients,
    Draws,
    FixedOrderSampler,
    FixedSizeSampler,
    PoissonSampler,
)

SHAPES = [(2, 1), (1,)]
ALL = AllClients(2).draws


def everyone(count: int, draws: Draws = ALL, shapes: Any = SHAPES) -> tuple[Canaries, Any]:
    """Canaries that are all included."""
    canaries = Canaries(CanariesConfig(count), draws, shapes)
    return canaries, canaries.initial()._replace(included=np.ones(count, bool))


def nothing(dtype: Any = np.float32, shapes: Any = SHAPES) -> tuple[Any, ...]:
    return tuple(np.zeros(shape, dtype) for shape in shapes)


def flat(parts: Any) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in parts])


# By hand: one canary, three weights.


def test_one_canary_adds_a_vector_of_signs_of_the_clip_norm_and_finds_it_again() -> None:
    canaries, state = everyone(1)
    total = canaries.add(state, (*nothing(), np.float32(7)), norm=3.0, masks=(), round_number=1)
    np.testing.assert_allclose(np.abs(flat(total[:2])), 3 / np.sqrt(3), rtol=1e-6)
    assert [part.shape for part in total] == [(2, 1), (1,), ()]
    assert total[2] == 7  # the weight of the mean is left alone

    signs = np.sign(flat(total[:2]))
    mean = np.array([2.0, 1.0, 2.0])
    update = (mean[:2].reshape(2, 1).astype(np.float32), mean[2:].astype(np.float32))
    wanted = signs @ mean / (np.sqrt(3) * 3)
    assert state.all_iterates == -1
    after = canaries.observe(state, update, ())
    assert after.all_iterates == pytest.approx([wanted])
    opposite = tuple(-part for part in update)
    assert canaries.observe(after, opposite, ()).all_iterates == pytest.approx([abs(wanted)])
    assert canaries.scores(after, opposite, ()).final == pytest.approx([-wanted])
    assert canaries.observe(after, total[:2], ()).all_iterates == pytest.approx([1.0])
    assert canaries.scores(after, nothing(), ()).final == [0.0]  # of nothing there is no angle


def test_a_canary_that_is_left_out_adds_nothing_and_is_looked_for_all_the_same() -> None:
    canaries, state = everyone(2)
    one = state._replace(included=np.array([True, False]))
    both, first = (
        flat(canaries.add(given, nothing(), norm=1.0, masks=(), round_number=1))
        for given in (state, one)
    )
    other = both - first
    seen = canaries.observe(one, (other[:2].reshape(2, 1), other[2:]), ()).all_iterates
    assert seen[1] == pytest.approx(1.0)
    np.testing.assert_array_equal(
        flat(canaries.add(one, nothing(), norm=1.0, masks=(), round_number=1)), first
    )


def test_what_is_pruned_gets_nothing_and_the_rest_has_the_whole_norm() -> None:
    canaries, state = everyone(1)
    masks = (np.array([[True], [False]]), np.array([True]))
    total = flat(canaries.add(state, nothing(), norm=2.0, masks=masks, round_number=1))
    assert total[1] == 0
    np.testing.assert_allclose(np.abs(total[[0, 2]]), np.sqrt(2), rtol=1e-6)
    none = tuple(np.zeros(shape, bool) for shape in SHAPES)
    assert not flat(canaries.add(state, nothing(), norm=2.0, masks=none, round_number=1)).any()
    assert canaries.observe(state, nothing(), none).all_iterates == [0.0]


def test_a_large_model_has_canaries_on_some_of_its_weights() -> None:
    shapes = [(300, 200), (7,)]
    canaries, state = everyone(3, shapes=shapes)
    before = nothing(shapes=shapes)
    total = canaries.add(state, before, norm=1.0, masks=(), round_number=1)
    assert 2**12 < np.count_nonzero(flat(total)) <= 2**13  # of three signs none is 0
    assert not any(part.any() for part in before)
    one = state._replace(included=np.array([True, False, False]))
    alone = canaries.add(one, before, norm=1.0, masks=(), round_number=1)
    assert np.linalg.norm(flat(alone).astype(np.float64)) == pytest.approx(1.0)
    cosine = canaries.observe(one, alone, ()).all_iterates[0]
    assert cosine == pytest.approx(1.0, abs=1e-4)  # sums of float32


# As a client is to the mechanism.


def test_canaries_are_new_in_every_run_and_their_coins_are_fair() -> None:
    canaries = Canaries(CanariesConfig(2000), ALL, SHAPES)
    one, other = canaries.initial(), canaries.initial()
    assert one.seed.tobytes() != other.seed.tobytes()
    assert abs(one.included.sum() - 1000) < 6 * np.sqrt(500)
    assert abs((one.included ^ other.included).sum() - 1000) < 6 * np.sqrt(500)


@pytest.mark.parametrize(
    "sampler", [PoissonSampler(10, 3), FixedSizeSampler(10, 3)], ids=lambda one: one.draws.kind
)
def test_a_canary_is_in_as_many_rounds_as_a_client(sampler: Any) -> None:
    canaries, state = everyone(100, sampler.draws)
    state = state._replace(included=np.arange(100) < 60)
    rounds = np.array([canaries.present(state, number) for number in range(1, 101)])
    assert not rounds[:, 60:].any()
    assert abs(rounds.sum() - 1800) < 6 * np.sqrt(6000 * 0.3 * 0.7)
    np.testing.assert_array_equal(canaries.present(state, 5), rounds[4])
    assert (rounds[0] != rounds[1]).any()


def test_a_canary_is_in_every_round_with_all_and_once_an_epoch_in_a_fixed_order() -> None:
    canaries, state = everyone(50)
    assert all(canaries.present(state, number).all() for number in (1, 2, 3))
    canaries, state = everyone(50, FixedOrderSampler(9, 3, seed=0).draws)
    rounds = np.array([canaries.present(state, number) for number in range(1, 7)])
    assert (rounds[:3].sum(axis=0) == 1).all()
    np.testing.assert_array_equal(rounds[:3], rounds[3:])
    assert (rounds.sum(axis=1) > 0).all()


QUERIES: dict[str, Callable[[], MeanQuery]] = {
    "fixed": lambda: build_query(0.7, 0.0, 2.0),
    "rounded": lambda: build_query(0.7, 0.0, 2.0, rounded=True),
    "adaptive": lambda: build_query(0.7, 0.0, 2.0, AdaptiveClipConfig()),
    "rounded and adaptive": lambda: build_query(0.7, 0.0, 2.0, AdaptiveClipConfig(), rounded=True),
    "tree": lambda: build_query(0.7, 0.0, 2.0, correlation=TreeNoise(2)),
}


@pytest.mark.parametrize("kind", QUERIES)
def test_the_sum_has_what_the_mechanism_would_make_of_canaries_that_were_clients(kind: str) -> None:
    import tensorflow as tf

    query, count = QUERIES[kind](), 5
    canaries, state = everyone(count)
    weights = [tf.TensorSpec(shape, tf.float32) for shape in SHAPES]
    form = [np.asarray(part) for part in tf.nest.flatten(query.initial_sample_state(weights))]
    mechanism = query.initial_global_state()
    norm = float(tf.nest.flatten(mechanism)[clip_place(query)])
    assert norm == pytest.approx(0.7)
    got = canaries.add(state, tuple(form), norm=norm, masks=(), round_number=1)

    wanted = query.initial_sample_state(weights)
    for number in range(count):
        alone = state._replace(included=np.arange(count) == number)
        long = canaries.add(alone, nothing(), norm=100.0, masks=(), round_number=1)
        record = query.preprocess_record(query.derive_sample_params(mechanism), [*long])
        wanted = query.accumulate_preprocessed_record(wanted, record)
    sums = [np.asarray(part) for part in tf.nest.flatten(wanted)][: len(SHAPES)]
    for one, other in zip(got, sums, strict=False):
        assert one.dtype == other.dtype
        if kind.startswith("rounded"):
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-6)
    for one, other in zip(got[2:], form[2:], strict=True):  # the count of adaptive clipping
        np.testing.assert_array_equal(one, other)


def test_canaries_follow_the_clip_norm_in_force() -> None:
    import tensorflow as tf

    query = build_query(1.0, 0.0, 2.0, AdaptiveClipConfig(target_quantile=0.5, learning_rate=0.2))
    state, place = query.initial_global_state(), clip_place(query)
    total = query.initial_sample_state([tf.TensorSpec(shape) for shape in SHAPES])
    params = query.derive_sample_params(state)
    for _ in range(2):  # both within the clip norm, where half was wanted
        record = query.preprocess_record(params, [np.full(shape, 0.1, "f4") for shape in SHAPES])
        total = query.accumulate_preprocessed_record(total, record)
    _, state, _ = query.get_noised_result(total, state)
    assert float(tf.nest.flatten(state)[place]) == pytest.approx(np.exp(-0.1))


# In engines.


ENGINES = [{"engine": "compiled", "xla": "off"}, {"engine": "beam", "xla": "off"}]


@pytest.mark.parametrize("private", [False, True])
def test_engines_add_the_same_canaries_to_the_sum_of_the_clients(
    private: bool,
    make_engine: Any,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
) -> None:
    """Noise off: weights are those without canaries, less the mean of what canaries add."""
    canaries, state = everyone(3)
    state = state._replace(included=np.array([True, True, False]))
    store, query = store_of(two_clients), build_query(1.0, 0.0, 2.0) if private else None
    momentum = {"learning_rate": 1.0, "momentum": 0.5}

    def run(how: dict[str, str], **settings: Any) -> tuple[np.ndarray, Any]:
        """The weights after a round, and the scores after another."""
        config = train_config(**how, server_optimizer=momentum, **settings)
        engine = make_engine(
            config, model=linear_model(), store=store, query=query, seed=0, draws=ALL
        )
        start = engine.initialize()
        if config.canaries:
            start = start._replace(canaries=state)
        once, _ = engine.next(start, engine.read(np.arange(2), 1))
        twice, _ = engine.next(once, engine.read(np.arange(2), 2))
        weights, scores = flat(engine.weights(once)), engine.canaries(twice)
        engine.close()
        return weights, scores

    without, nobody = run(ENGINES[0])
    assert nobody is None
    (one, seen), (other, also_seen) = (run(how, canaries={"count": 3}) for how in ENGINES)
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(seen.all_iterates, also_seen.all_iterates, atol=1e-5)
    np.testing.assert_allclose(seen.final, also_seen.final, atol=1e-5)
    assert min(seen.seconds, also_seen.seconds) > 0
    added = flat(canaries.add(state, nothing(), norm=1.0, masks=(), round_number=1))
    np.testing.assert_allclose(one, without - added / 2, atol=1e-6)


# Whole runs.


MODEL = """
import tensorflow as tf


def build_model():
    inputs = tf.keras.Input(shape=(2,), name="x")
    hidden = tf.keras.layers.Dense(300, activation="relu")(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(hidden))
"""
POISSON = {"kind": "poisson", "cohort_size": 6}


@pytest.fixture(scope="module")
def train(
    write_store: Any, schema_of: Any, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TrainingResult]:
    """Trains 1,803 weights on eight clients."""
    place = tmp_path_factory.mktemp("canaries")
    (place / "model.py").write_text(MODEL)
    points = [[1, 0], [0, 1], [-1, -1]]
    clients = [client(f"client {number}", [0, 1, 2], x=points) for number in range(9)]
    splits = {"train": clients[:8], "eval": clients[8:]}
    write_store(place / "examples", schema_of({"x": 2}, 3), splits)

    def run(config: Any, state: str | None = None, progress: Any = lambda _: None) -> Any:
        examples, model = str(place / "examples"), str(place / "model.py")
        return run_training(examples, model, "build_model", config, 0, progress, state=state)

    return run


def settings(**changes: Any) -> dict[str, Any]:
    return {"rounds": 5, "xla": "off", "evaluate_every": 0, "canaries": {"count": 100}, **changes}


@pytest.fixture(scope="module")
def control(
    train: Any, train_config: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingResult, TrainingResult]:
    """Without noise: a run, and what becomes of a copy of its state after the third round."""
    config = train_config(**settings(sampling=POISSON))
    state, copy = (str(tmp_path_factory.mktemp(name) / "state") for name in ("one", "other"))

    def keep(finished: Any) -> None:
        if finished.number == 4:  # its checkpoint is not there yet
            shutil.copytree(state, copy)

    told: list[int] = []
    whole = train(config, state, keep)
    resumed = train(config, copy, lambda finished: told.append(finished.number))
    assert told == [4, 5]
    return whole, resumed


def auc(scores: dict[str, Any], statistic: str) -> float:
    """The chance of an included canary to have more than one that is left out."""
    included = np.array(scores["included"])
    values = np.array(scores[statistic])
    ranks = stats.rankdata(values)[included].sum()
    inside, outside = included.sum(), (~included).sum()
    return float((ranks - inside * (inside + 1) / 2) / (inside * outside))


def test_without_noise_canaries_are_found(control: Any) -> None:
    scores = control[0].canaries
    assert auc(scores, "all_iterates") >= 0.95
    assert auc(scores, "final") >= 0.95  # both point the way of updates
    assert {name: scores[name] for name in ("private", "count", "norm", "dimension", "rounds")} == {
        "private": False,
        "count": 100,
        "norm": 1.0,
        "dimension": 1803,
        "rounds": 5,
    }
    assert scores["participation"] == {"kind": "poisson", "probability": 0.75}
    assert 0 < scores["seconds"] < scores["seconds_of_rounds"]
    assert not any("canaries" in line for line in control[0].ledger["assumptions"])


def test_a_run_that_goes_on_has_the_same_coins_and_scores(control: Any) -> None:
    whole, resumed = (result.canaries for result in control)
    assert resumed["included"] == whole["included"]
    for name in ("all_iterates", "final"):
        np.testing.assert_allclose(resumed[name], whole[name], rtol=1e-6)
    assert resumed["rounds"] == 5


def test_strong_noise_hides_canaries_and_the_ledger_is_that_of_the_clients(
    train: Any, train_config: Any
) -> None:
    noise = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 0.5, "noise_multiplier": 40.0}
    config = train_config(**settings(rounds=3, privacy=noise, canaries={"count": 400}))
    result = train(config)
    scores, ledger = result.canaries, result.ledger
    assert abs(auc(scores, "all_iterates") - 0.5) < 0.18  # six deviations, about 0.03 each
    assert max(scores["all_iterates"]) < 0.2  # eight deviations, 1 / sqrt(1803) each
    assert scores["private"] is True
    assert scores["norm"] == 0.5
    event = gaussian(AllClients(8).draws, 40.0).event(3)
    assert ledger["epsilon"] == epsilon_of(event, 1e-5)
    assert ledger["mechanism"]["denominator"] == 8.0
    assert ledger["sampling"]["clients"] == 8
    assert ledger["canaries"] == 400
    (line,) = (one for one in ledger["assumptions"] if "canaries" in one)
    assert line.startswith("400 canaries (train.canaries), each included by a fair coin")


# What is refused.


GAUSSIAN = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 1.0, "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": {**GAUSSIAN, "mechanism": "local"}}, "of which mechanism=local has none"),
        ({"privacy": {**GAUSSIAN, "mechanism": "example"}}, "of which mechanism=example has none"),
        ({"privacy": GAUSSIAN, "canaries": {"norm": 2.0}}, "norm=2.0 is for mechanism=none"),
        ({"algorithm": "mime_lite"}, "algorithm: fed_avg in place of mime_lite"),
        ({"algorithm": "scaffold"}, "algorithm: fed_avg in place of scaffold"),
        ({"robust_aggregation": {"kind": "median"}}, "leave out robust_aggregation"),
        ({"weight_by": "examples"}, "no examples that weight_by=examples could count"),
        ({"asynchronous": {"buffer_size": 1, "concurrency": 1}}, "which asynchronous does without"),
        ({"engine": "tff"}, "Set engine: compiled or beam"),
        ({"canaries": {"count": 0}}, "count=0 must lie between 1 and 2000"),
        ({"canaries": {"norm": 0.0}}, "norm=0.0 must be > 0 and finite"),
    ],
)
def test_what_has_no_sum_to_add_canaries_to_is_refused(
    train_config: Any, changes: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train_config(**{"canaries": {}, **changes})


@pytest.mark.parametrize("mechanism", ["gaussian", "tree", "banded"])
def test_noise_on_a_sum_goes_with_canaries(train_config: Any, mechanism: str) -> None:
    order = {"kind": "fixed_order", "cohort_size": 1}
    config = train_config(privacy={**GAUSSIAN, "mechanism": mechanism}, sampling=order, canaries={})
    assert config.canaries == CanariesConfig(200)


def test_report_says_what_the_run_was() -> None:
    canaries, state = everyone(1)
    scores = canaries.scores(state.spent(0.25), nothing(), ())
    draws = PoissonSampler(10, 3).draws
    report = canary_report(
        scores, private=True, norm=0.5, dimension=3, draws=draws, round_seconds=[1.0, 2.0]
    )
    assert report == {
        "schema": 1,
        "private": True,
        "count": 1,
        "norm": 0.5,
        "dimension": 3,
        "rounds": 2,
        "participation": {"kind": "poisson", "probability": 0.3},
        "included": [True],
        "all_iterates": [-1.0],
        "final": [0.0],
        "seconds": 0.25,
        "seconds_of_rounds": 3.0,
    }
