"""The article's model: 100 inputs, Dense(10, relu), Dense(1)."""

import tensorflow as tf


def build_model() -> tf.keras.Model:
    """A vector of 100 in, one value out."""
    return tf.keras.Sequential(
        [
            tf.keras.Input(shape=(100,), name="x"),
            tf.keras.layers.Dense(10, activation="relu"),
            tf.keras.layers.Dense(1),
        ]
    )
