"""Weights that share a few values: the best ones by hand, by exhaustion, by scikit-learn."""

import gzip
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from privet.components.compress.clustering import cluster_weights, clustered


def squared_error(weights: np.ndarray, clustered_weights: np.ndarray) -> float:
    return float(np.square(weights.astype(np.float64) - clustered_weights).sum())


def kernels(model: tf.keras.Model) -> list[np.ndarray]:
    return [value.numpy() for value in model.trainable_variables if len(value.shape) > 1]


@pytest.fixture(scope="module")
def model(kinds: Any, trained: Any) -> tf.keras.Model:
    """With a convolution, a depthwise one and dense layers."""
    return tf.keras.models.load_model(trained("convolutional"), compile=False)


def test_values_by_hand() -> None:
    weights = np.array([[0.2, 7.0, 0.4], [9.0, 0.3, 100.0]], np.float32)
    found = cluster_weights(weights, 3)

    np.testing.assert_allclose(found, [[0.3, 8, 0.3], [8, 0.3, 100]], rtol=1e-6)
    assert found.dtype == np.float32


def test_few_values_stay_as_they_are() -> None:
    weights = np.array([[0.1, -0.5], [0.1, 3.0]], np.float32)

    np.testing.assert_array_equal(cluster_weights(weights, 3), weights)
    np.testing.assert_array_equal(cluster_weights(weights, 16), weights)
    np.testing.assert_array_equal(cluster_weights(np.zeros((4, 4)), 2), np.zeros((4, 4)))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9), st.integers(2, 4))
def test_no_other_values_are_nearer(numbers: list[int], clusters: int) -> None:
    """Against every way to cut the sorted weights; the cluster that holds a zero has zero."""
    weights = np.sort(np.array(numbers, np.float64))
    best = np.inf
    for cuts in itertools.combinations(range(1, len(weights)), min(clusters, len(weights)) - 1):
        parts = np.split(weights, cuts)
        centres = [0.0 if 0 in part else part.mean() for part in parts]
        errors = (squared_error(p, np.full_like(p, c)) for p, c in zip(parts, centres, strict=True))
        best = min(best, sum(errors))
    found = cluster_weights(weights, clusters)

    assert squared_error(weights, found) == pytest.approx(best, abs=1e-9)
    assert len(np.unique(found)) <= clusters
    assert not found[weights == 0].any()


@pytest.mark.parametrize("clusters", [2, 16, 64])
@pytest.mark.parametrize("size", [500, 30_000])
def test_error_is_at_most_that_of_scikit_learn(clusters: int, size: int) -> None:
    weights = np.random.default_rng(3).laplace(size=size).astype(np.float32)
    wanted = KMeans(clusters, n_init=1, random_state=0).fit(weights[:, None].astype(np.float64))

    found = squared_error(weights, cluster_weights(weights, clusters))
    assert found <= 1.001 * wanted.inertia_


def test_one_large_weight_leaves_the_others_their_values() -> None:
    weights = np.random.default_rng(4).normal(size=(100, 50))
    alone = squared_error(weights, cluster_weights(weights, 31))
    weights[3, 4] = 1e6
    found = cluster_weights(weights, 32)

    assert found[3, 4] == 1e6
    assert len(np.unique(found)) == 32
    assert squared_error(weights, found) < 1.02 * alone


def test_every_kernel_has_few_values_and_biases_keep_theirs(model: tf.keras.Model) -> None:
    before = model.get_weights()
    found = clustered(model, 8)

    for original, value in zip(model.trainable_variables, found.trainable_variables, strict=True):
        assert value.name == original.name
        if len(value.shape) == 1:
            np.testing.assert_array_equal(value, original)
        else:
            assert len(np.unique(value)) == 8
            assert not np.array_equal(value, original)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_zeros_of_a_pruned_model_stay_and_are_one_of_the_values(model: tf.keras.Model) -> None:
    pruned = tf.keras.models.clone_model(model)
    pruned.set_weights([np.where(np.abs(w) < 0.1, 0, w) for w in model.get_weights()])
    found = clustered(pruned, 4)

    for original, value in zip(kernels(pruned), kernels(found), strict=True):
        assert (original == 0).any()
        assert not value[original == 0].any()
        assert len(np.unique(value)) == 4


def test_the_same_model_gives_the_same_values(model: tf.keras.Model) -> None:
    for one, other in zip(kernels(clustered(model, 5)), kernels(clustered(model, 5)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_clustered_weights_are_a_smaller_download(model: tf.keras.Model) -> None:
    sizes = [
        len(gzip.compress(b"".join(kernel.tobytes() for kernel in kernels(one)), 9, mtime=0))
        for one in (model, clustered(model, 16))
    ]
    assert sizes[0] > 4 * sizes[1]


def test_error_is_below_that_of_tfmot(model: tf.keras.Model) -> None:
    """Why k-means is here; tfmot also leaves the depthwise kernel as it is."""
    import tensorflow_model_optimization as tfmot

    keras = tfmot.clustering.keras
    copied = tf.keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = keras.cluster_weights(copied, 16, keras.CentroidInitialization.KMEANS_PLUS_PLUS)
        theirs = keras.strip_clustering(wrapped)
    ours = clustered(model, 16)

    for layer in ("conv", "hidden", "logits"):
        original, one, other = (
            each.get_layer(layer).kernel.numpy() for each in (model, ours, theirs)
        )
        assert len(np.unique(one)) == len(np.unique(other)) == 16
        assert squared_error(original, one) < 0.9 * squared_error(original, other)
    depthwise = theirs.get_layer("depthwise").depthwise_kernel
    assert len(np.unique(depthwise)) == depthwise.shape.num_elements()


class Scale(tf.keras.layers.Layer):
    """A layer of a user's own, which cannot be made anew once its model comes from a file."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight("kernel", (shape[-1], self.units))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs @ self.kernel


def test_layers_of_a_user_are_clustered_too(tmp_path: Path) -> None:
    inputs = tf.keras.Input((6,), name="x")
    tf.keras.Model(inputs, Scale(5)(inputs)).save(tmp_path / "model")
    model = tf.keras.models.load_model(tmp_path / "model", compile=False)
    (before,) = kernels(model)
    found = clustered(model, 4)
    x = np.random.default_rng(5).normal(size=(3, 6)).astype(np.float32)

    (kernel,) = kernels(found)
    assert len(np.unique(kernel)) == 4
    np.testing.assert_array_equal(kernel, cluster_weights(before, 4))
    np.testing.assert_allclose(found(x), x @ kernel, rtol=1e-5)
    np.testing.assert_array_equal(kernels(model)[0], before)
