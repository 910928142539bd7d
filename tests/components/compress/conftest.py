"""A model that has learned something, for compression to spoil or to keep."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def separable(kinds: Any) -> SimpleNamespace:
    """Three classes that a convolutional model tells apart, and that model, trained."""
    import tensorflow as tf

    schema = kinds["convolutional"].schema
    generator = np.random.default_rng(0)
    labels = np.arange(384) % 3
    values = generator.normal(scale=0.4, size=(384, 8, 8))
    for label in range(3):  # a bright stripe of rows each
        values[labels == label, 2 * label : 2 * label + 2] += 1
    features = {"x": values.reshape(384, 64).astype(np.float32)}

    tf.keras.utils.set_random_seed(0)
    model = kinds["convolutional"].build()
    trainer = tf.keras.Model(model.inputs, model.outputs)  # so that the model stays uncompiled
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(tf.keras.optimizers.Adam(0.01), loss)
    trainer.fit(features["x"], labels, epochs=4, verbose=0)
    return SimpleNamespace(schema=schema, model=model, features=features, labels=labels)
