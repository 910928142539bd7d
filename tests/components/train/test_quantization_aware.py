"""Clients that train the model as int8 computes: ranges are a part of the update, noise and all."""

from typing import Any

import numpy as np
import pytest

from privet.components.train.aggregation import build_query

pytestmark = pytest.mark.usefixtures("no_worker_left")

NONE = {"mechanism": "none"}
GAUSSIAN = {"mechanism": "gaussian", "delta": 1e-5, "clip_norm": 0.5, "noise_multiplier": 2.0}


def rounding_model(linear_model: Any) -> Any:
    """The linear model in ranges that the clients' values exceed: two tensors and two ranges."""
    from privet.components.shared.fake_quant import with_fake_quant

    model = linear_model()
    return with_fake_quant(model, {"x": [-1.0, 1.0], model.layers[-1].name: [-0.5, 0.5]})


@pytest.fixture(scope="module")
def trained(trained_privately: Any, train_config: Any) -> Any:
    config = train_config(privacy=NONE, rounds=3, quantization_aware={}, xla="off")
    return trained_privately(config)


def test_result_is_the_plain_model_with_ranges_beside_it(trained: Any) -> None:
    model, logits = trained.model, trained.model.layers[-1].name
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Dense"]
    assert trained.ranges.keys() == {model.layers[0].name, logits}
    assert all(low <= 0 <= high for low, high in trained.ranges.values())
    # Values reach 4 and -4, outside of the [0, 1] that a feature without a range begins with.
    assert trained.ranges[model.layers[0].name][1] > 1.001
    assert any(np.abs(weight).max() > 1e-3 for weight in model.get_weights())


def test_ranges_are_counted_among_what_clients_send(trained: Any) -> None:
    traffic = trained.history
    assert traffic["parameters"] == 9 + 2 * 2
    assert traffic["bytes"]["up_per_client_round"] == 12 + 4 * 13  # a header, and values


def test_curve_is_that_of_the_rounding_model(trained: Any) -> None:
    from privet.components.shared import tasks
    from privet.components.shared.fake_quant import with_fake_quant

    points, labels = np.array([[4, 0], [0, 4], [-4, -4]], np.float32), np.array([0, 1, 2])
    rounding = with_fake_quant(trained.model, trained.ranges)
    losses = {}
    for name, model in (("plain", trained.model), ("rounding", rounding)):
        scores = tasks.scores("multiclass", model(points).numpy())
        losses[name] = tasks.example_metrics("multiclass", scores, labels)["loss"].mean()
    told = trained.history["rounds"][-1]["eval"]["loss"]
    assert told == pytest.approx(losses["rounding"], rel=1e-5)
    assert told != pytest.approx(losses["plain"], rel=1e-5)


def test_private_run_has_noise_on_its_ranges(trained_privately: Any, train_config: Any) -> None:
    config = train_config(privacy=GAUSSIAN, rounds=2, quantization_aware={}, xla="off")
    one, other = trained_privately(config), trained_privately(config)
    assert one.ledger == other.ledger
    for first, second in zip(one.ranges.values(), other.ranges.values(), strict=True):
        assert first != second


def test_update_is_clipped_with_its_ranges(
    make_engine: Any, train_config: Any, linear_model: Any, store_of: Any, client: Any
) -> None:
    query = build_query(clip_norm=0.5, noise_multiplier=1e-4, denominator=4.0)
    far = client("far", [1000.0], dtype="float32", x=[[0.9, -1.0]])  # gives 0.8, above 0.5
    config = train_config(privacy=GAUSSIAN, engine="compiled", xla="off")
    model = rounding_model(linear_model)
    engine = make_engine(config, model=model, store=store_of([far]), query=query, seed=0)
    before = engine.initialize()
    after, _ = engine.next(before, engine.read(np.arange(1), 1))
    pairs = zip(engine.weights(after), engine.weights(before), strict=True)
    changes = {
        weight.name: new - old
        for weight, (new, old) in zip(model.trainable_variables, pairs, strict=True)
    }
    assert [change.shape for change in changes.values()] == [(2,), (2, 1), (1,), (2,)]
    whole = np.concatenate([change.ravel() for change in changes.values()])
    assert np.linalg.norm(whole) == pytest.approx(0.5 / 4, abs=1e-3)
    *_, output = changes.values()
    assert output[1] == pytest.approx(0.5 / 4, abs=1e-3)  # the label is far above the range


def test_noise_of_ranges_has_the_claimed_deviation(
    make_engine: Any,
    train_config: Any,
    linear_model: Any,
    store_of: Any,
    two_clients: list[Any],
    check_noise: Any,
    check_independent: Any,
) -> None:
    query = build_query(clip_norm=0.5, noise_multiplier=2.0, denominator=4.0)
    config = train_config(privacy=GAUSSIAN, engine="compiled", xla="off")
    engine = make_engine(
        config,
        model=rounding_model(linear_model),
        store=store_of(two_clients),
        query=query,
        seed=0,
    )
    nobody = np.arange(0)
    weights = []
    state = engine.initialize()
    for number in range(1, 401):
        weights.append(engine.weights(state))
        state, _ = engine.next(state, engine.read(nobody, number))
    noise = [np.diff(np.stack(tensor), axis=0) for tensor in zip(*weights, strict=True)]
    for tensor in (noise[0], noise[-1]):  # the two ranges
        assert tensor.shape == (399, 2)
        check_noise(tensor, 0.5 * 2.0 / 4.0)
    check_independent(noise[0], noise[-1])


def test_ranges_carry_over_to_int8(trained: Any) -> None:
    import tensorflow as tf

    from privet.components.shared.fake_quant import with_fake_quant

    converter = tf.lite.TFLiteConverter.from_keras_model(
        with_fake_quant(trained.model, trained.ranges)
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    scales = [entry["quantization"][0] for entry in interpreter.get_tensor_details()]
    for low, high in trained.ranges.values():
        assert any(np.isclose((high - low) / 255, scale, rtol=1e-5) for scale in scales)
