"""The mechanism `local`: every client's update is clipped and noised before it is added up."""

from collections.abc import Callable
from typing import Any

import dp_accounting
import numpy as np
import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.aggregation import build_query
from privet.components.train.client_noise import build_client_noise

CLIP, NOISE, DENOMINATOR, RATE = 0.5, 3.0, 4.0, 0.5
ENGINES = ["compiled", "beam"]
PRIVACY = {"mechanism": "local", "delta": 1e-5, "clip_norm": CLIP, "noise_multiplier": NOISE}


@pytest.fixture(scope="module")
def silent(store_of: Any, schema_of: Any, client: Any) -> Any:
    """Four clients whose updates are zero: one has numbers that are not finite, others nothing."""
    broken = client("broken", [1.0], dtype="float32", x=np.full((1, 100), np.nan, np.float32))
    nothing = np.zeros((0, 100), np.float32)
    empty = [client(name, [], dtype="float32", x=nothing) for name in "abc"]
    return store_of([broken, *empty], schema_of({"x": 100}, None))


@pytest.fixture
def sums_of_noise(
    make_engine: Any, train_config: Any, square_model: Any, silent: Any
) -> Callable[..., list[list[np.ndarray]]]:
    """By tensor, what is added to the sum of each of some cohorts in the first round."""

    def run(engine: str, *cohorts: list[int], **changes: Any) -> Any:
        config = train_config(engine=engine, **changes)
        query = build_client_noise("local", CLIP, NOISE, DENOMINATOR)
        built = make_engine(config, model=square_model(), store=silent, query=query, seed=1)
        try:
            states = [
                built.next(built.initialize(), built.read(np.array(cohort, int), 1))[0]
                for cohort in cohorts
            ]
            return [[-DENOMINATOR * weight for weight in built.weights(state)] for state in states]
        finally:
            built.close()

    return run


@pytest.mark.parametrize("engine", ENGINES)
def test_every_client_adds_noise_of_its_own(
    engine: str, sums_of_noise: Any, check_noise: Any, check_independent: Any
) -> None:
    """Of four clients the variance is four times, not sixteen times, that of one."""
    (one, same, _), (again, *_) = sums_of_noise(engine, [0, 1, 2, 3], [0, 1, 2, 3])

    for values in (one, same, again):
        check_noise(values, 2 * CLIP * NOISE)
    check_independent(one, same)  # two tensors of a round
    check_independent(one, again)  # the same round once more, though all else has a seed


def test_client_without_a_finite_update_sends_noise(sums_of_noise: Any, check_noise: Any) -> None:
    for values, *_ in sums_of_noise("compiled", [0], [1], [2], [3]):
        check_noise(values, CLIP * NOISE)


def test_server_adds_nothing_to_the_sum_of_nobody(sums_of_noise: Any) -> None:
    (weights,) = sums_of_noise("compiled", [])

    assert not any(np.any(weight) for weight in weights)


def test_noised_updates_are_sent_in_few_bits(sums_of_noise: Any) -> None:
    """Noise that came after the rounding would need all 32 bits on its way up."""
    ((values, *_),) = sums_of_noise("compiled", [0], update_bits=4)

    assert 1 < len(np.unique(values)) <= 16  # few values are near the outer levels, or none


@pytest.mark.parametrize("engine", ENGINES)
def test_without_noise_it_is_the_central_mechanism(
    engine: str,
    make_engine: Any,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
) -> None:
    store = store_of(two_clients)
    config = train_config(engine=engine, xla="off", server_optimizer={"learning_rate": RATE})
    ends = []
    for query in (
        build_client_noise("local", 0.1, 0.0, DENOMINATOR),
        build_query(0.1, 0.0, DENOMINATOR),
    ):
        built = make_engine(config, model=linear_model(), store=store, query=query, seed=1)
        try:
            state, event = built.next(built.initialize(), built.read(np.arange(2), 1))
            ends.append(built.weights(state))
            assert event == dp_accounting.GaussianDpEvent(0.0)
        finally:
            built.close()
    for mine, central, before in zip(*ends, linear_model().get_weights(), strict=True):
        assert np.any(mine != before)
        np.testing.assert_array_equal(mine, central)


def test_an_update_counts_as_much_as_the_clip_norm_at_most(
    make_engine: Any, train_config: Any, linear_model: Any, store_of: Any, client: Any
) -> None:
    far = client("far", [1000.0], dtype="float32", x=[[1, 2]])
    query = build_client_noise("local", CLIP, 0.0, DENOMINATOR)
    config = train_config(engine="compiled", server_optimizer={"learning_rate": RATE})
    engine = make_engine(config, model=linear_model(), store=store_of([far]), query=query, seed=1)
    state, _ = engine.next(engine.initialize(), engine.read(np.arange(1), 1))
    engine.close()

    pairs = zip(engine.weights(state), linear_model().get_weights(), strict=True)
    change = np.concatenate([(after - before).ravel() for after, before in pairs])
    assert np.linalg.norm(change) == pytest.approx(RATE * CLIP / DENOMINATOR)


def test_event_is_that_of_the_state_which_clients_got(
    make_engine: Any, train_config: Any, square_model: Any, silent: Any, check_noise: Any
) -> None:
    query = build_client_noise("local", CLIP, NOISE, DENOMINATOR)
    config = train_config(engine="compiled")
    engine = make_engine(config, model=square_model(), store=silent, query=query, seed=1)
    clip_norm, stddev = engine.initialize().query
    doubled = engine.initialize()._replace(query=(clip_norm, np.asarray(2 * stddev, np.float32)))
    state, event = engine.next(doubled, engine.read(np.arange(1), 1))
    engine.close()

    assert event == dp_accounting.GaussianDpEvent(2 * NOISE)
    check_noise(DENOMINATOR * engine.weights(state)[0], 2 * CLIP * NOISE)


def test_ledger_states_what_local_noise_protects(
    trained_privately: Any, train_config: Any, epsilon_by_hand: Any
) -> None:
    rounds = 3
    ledger = trained_privately(train_config(rounds=rounds, privacy=PRIVACY)).ledger

    assert (ledger["unit"], ledger["neighbouring_relation"]) == ("client", "replace_one_client")
    assert ledger["trust_model"].startswith("local: each client adds noise to its own update")
    assert ledger["mechanism"]["kind"] == "local"
    assert ledger["mechanism"]["denominator"] == 4.0
    assert ledger["rounds_counted"] == rounds
    # Two updates of a client are twice the clip norm apart; equal rounds add up by squares.
    exact = epsilon_by_hand(NOISE / (2 * np.sqrt(rounds)), 1e-5)
    assert ledger["epsilon"] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("mechanism", ["local", "example"])
@pytest.mark.parametrize(
    ("changes", "privacy", "reason"),
    [
        ({"xla": "on"}, {}, "XLA would draw other numbers"),
        ({"engine": "tff"}, {}, "engine=tff"),
        ({"weight_by": "examples"}, {}, "weight_by=examples"),
        (
            {"sampling": {"kind": "poisson", "cohort_size": 2, "max_cohort_size": 9}},
            {},
            "max_cohort_size is for amplification",
        ),
        ({}, {"rounded_noise": True}, "rounded_noise is for noise on a sum"),
        ({}, {"adaptive_clip": {}}, "adaptive_clip is for mechanism=gaussian"),
    ],
    ids=str,
)
def test_what_makes_no_sense_with_noise_of_clients_is_refused(
    mechanism: str, changes: Any, privacy: Any, reason: str, train_config: Any
) -> None:
    with pytest.raises(ConfigError, match=reason):
        train_config(privacy={**PRIVACY, "mechanism": mechanism, **privacy}, **changes)
