"""The tutorial's multilayer perceptron."""

import tensorflow as tf


def build_model() -> tf.keras.Model:
    """784 pixels, two layers of 200, ten digits."""
    pixels = tf.keras.Input((28, 28), name="pixels")
    hidden = tf.keras.layers.Flatten()(pixels)
    hidden = tf.keras.layers.Dense(200, activation="relu")(hidden)
    hidden = tf.keras.layers.Dense(200, activation="relu")(hidden)
    return tf.keras.Model(pixels, tf.keras.layers.Dense(10)(hidden))
