"""Masks by magnitude: by hand, and against what tfmot prunes."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.sparsity import (
    magnitude_masks,
    masked,
    share_of_zeros,
    weights_kept,
)

KERNEL = np.array([[1, -2], [3, 4]], np.float32)
BIAS = np.array([0.1, 0.2], np.float32)


def kept(weights: Any, sparsity: float, **how: Any) -> Any:
    (mask,) = magnitude_masks([np.array(weights, np.float32)], sparsity, **how)
    return mask.astype(int).tolist()


def test_smallest_of_each_kernel_go_and_biases_stay() -> None:
    masks = magnitude_masks([KERNEL, BIAS, 0.01 * KERNEL], 0.5)
    for mask, wanted in zip(masks, [[[0, 0], [1, 1]], [1, 1], [[0, 0], [1, 1]]], strict=True):
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, wanted)


def test_global_scope_has_one_threshold() -> None:
    masks = magnitude_masks([KERNEL, BIAS, 0.01 * KERNEL], 0.5, scope="global")
    assert [mask.all() for mask in masks] == [True, True, False]
    assert not masks[2].any()
    assert magnitude_masks([BIAS], 0.5, scope="global")[0].all()


@pytest.mark.parametrize(("sparsity", "gone"), [(0.0, 0), (0.3, 2), (0.5, 4), (0.99, 7)])
def test_count_is_exact_where_magnitudes_are_equal_and_the_first_stay(
    sparsity: float, gone: int
) -> None:
    """At 0.99 all of 8 would go, but one stays."""
    equal = [[1, -1, 1, -1], [1, 1, -1, 1]]
    first, second = kept(equal, sparsity)
    assert first + second == [1] * (8 - gone) + [0] * gone


def test_zeros_go_first_and_what_is_no_number_last() -> None:
    assert kept([[5, 0, 1, 0]], 0.5) == [[1, 0, 1, 0]]
    assert kept([[np.nan, 9, 7, np.inf]], 0.5) == [[1, 0, 0, 1]]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block"])
def test_what_was_pruned_stays_pruned_even_among_zeros(scope: Any, pattern: Any) -> None:
    generator = np.random.default_rng(0)
    weights = [np.zeros((8, 4)), generator.normal(size=(3, 3, 8, 4))]
    how: Any = {"scope": scope, "pattern": pattern, "block": (2, 2)}
    before = magnitude_masks([-weight[::-1] for weight in weights], 0.3, **how)
    after = magnitude_masks(weights, 0.5, **how, earlier=before)
    for one, other in zip(before, after, strict=True):
        assert not (other & ~one).any()
    if pattern != "2:4":
        assert sum(mask.sum() for mask in after) == weights_kept([(8, 4), (3, 3, 8, 4)], 0.5, **how)


def test_two_of_four_in_a_row_of_inputs_go() -> None:
    column = [[5], [1], [-6], [2], [7], [0.5], [0.1]]  # a rest of three loses one, of two none
    assert kept(column, 0.5, pattern="2:4") == [[1], [0], [1], [0], [1], [1], [0]]
    assert kept(column[:6], 0.5, pattern="2:4") == [[1], [0], [1], [0], [1], [1]]


def test_blocks_go_by_their_mean_magnitude() -> None:
    weights = [[1, 1, 9, 0], [1, 1, 0, -1], [5, -5, 2, 3], [5, 5, 2, 3]]
    wanted = [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert kept(weights, 0.5, pattern="block", block=(2, 2)) == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
    ]  # means: 1, 2.5; 5, 2.5, of which the first stays
    assert kept(weights, 0.5, pattern="block", block=(2, 4)) == wanted
    # The last column is a block of its own, whose mean is 3 and not 1.5.
    assert kept([[1, 1, 3]], 0.5, pattern="block", block=(1, 2)) == [[0, 0, 1]]


SHAPES = [(16, 12), (12,), (3, 3, 8, 4), (20, 8)]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8, 0.999])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"scope": "global"},
        {"pattern": "2:4"},
        {"pattern": "block", "block": (4, 2)},
        {"pattern": "block", "block": (4, 4), "scope": "global"},
    ],
    ids=str,
)
def test_number_that_stays_is_known_from_the_shapes(sparsity: float, how: Any) -> None:
    generator = np.random.default_rng(1)
    weights = [generator.normal(size=shape).astype(np.float32) for shape in SHAPES]
    masks = magnitude_masks(weights, sparsity, **how)
    stay = sum(int(mask.sum()) for mask in masks) - 12
    assert stay == weights_kept(SHAPES, sparsity, **how)
    left = masked(weights, masks)
    assert share_of_zeros(left) == pytest.approx(1 - stay / (192 + 288 + 160))
    assert all(not np.signbit(one[~mask]).any() for one, mask in zip(left, masks, strict=True))


def model() -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((6, 6, 5)),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(10),
            layers.Dense(8),
        ]
    )


@pytest.mark.parametrize(
    ("sparsity", "ours", "theirs"),
    [
        (0.5, {}, {}),
        (0.9, {}, {}),
        (0.5, {"pattern": "2:4"}, {"sparsity_m_by_n": (2, 4)}),
        (0.5, {"pattern": "block", "block": (2, 2)}, {"block_size": (2, 2)}),
    ],
    ids=["half", "nine tenths", "2:4", "block"],
)
def test_zeros_and_values_are_those_of_tfmot(sparsity: float, ours: Any, theirs: Any) -> None:
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

    prune, strip = tfmot.sparsity.keras.prune_low_magnitude, tfmot.sparsity.keras.strip_pruning
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, 0, frequency=1)
    tf.keras.utils.set_random_seed(2)
    plain = model()
    flat = "block_size" in theirs  # which tfmot has for kernels of two axes only

    def wrapped(layer: Any) -> Any:
        skipped = flat and isinstance(layer, tf.keras.layers.Conv2D)
        return layer if skipped else prune(layer, pruning_schedule=schedule, **theirs)

    def trained(given: Any) -> Any:
        """What two steps of a rate of 0 leave of a model: tfmot makes 2:4 masks in the second."""
        pruned = tf.keras.models.clone_model(given, clone_function=wrapped)
        for layer, other in zip(pruned.layers, given.layers, strict=True):
            for variable, value in zip(layer.trainable_weights, other.weights, strict=True):
                variable.assign(value)
        pruned.compile(tf.keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
        x, y = np.ones((2, 6, 6, 5), np.float32), np.zeros((2, 8), np.float32)
        update = tfmot.sparsity.keras.UpdatePruningStep()
        pruned.fit(x, y, batch_size=1, callbacks=[update], verbose=0)
        return strip(pruned)

    wanted = trained(plain).get_weights()
    weights = plain.get_weights()
    got = masked(weights, magnitude_masks(weights, sparsity, **ours))
    if flat:
        got[0] = weights[0]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)

    plain.set_weights(got)
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 5)).astype(np.float32)
    np.testing.assert_array_equal(trained(plain)(x), plain(x))
