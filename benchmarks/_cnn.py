"""Convolutional models of two sizes, for 28x28 images as bytes."""

import tensorflow as tf

SMALL = {"filters": 16, "units": 120}
"""108,422 weights on 62 classes."""

LARGE = {"filters": 32, "units": 128}
"""1,206,590 weights on 62 classes."""


def small(units: int = 120, classes: int = 62) -> tf.keras.Model:
    """Two convolutions, each behind a pooling of the other, and two dense layers."""
    image = tf.keras.Input(shape=(28, 28), dtype="uint8", name="image")
    scaled = tf.keras.layers.Rescaling(1 / 255)(image)
    outputs = tf.keras.layers.Reshape((28, 28, 1))(scaled)
    for filters in (16, 32):
        outputs = tf.keras.layers.Conv2D(filters, 3, activation="relu")(outputs)
        outputs = tf.keras.layers.MaxPooling2D(2)(outputs)
    outputs = tf.keras.layers.Flatten()(outputs)
    outputs = tf.keras.layers.Dense(units, activation="relu")(outputs)
    return tf.keras.Model(image, tf.keras.layers.Dense(classes)(outputs))


def large(units: int = 128, classes: int = 62) -> tf.keras.Model:
    """The model of benchmarks/training.py, workload B: 1.2 M weights, nearly all in one kernel."""
    image = tf.keras.Input(shape=(28, 28), dtype="uint8", name="image")
    scaled = tf.keras.layers.Rescaling(1 / 255)(image)
    outputs = tf.keras.layers.Reshape((28, 28, 1))(scaled)
    outputs = tf.keras.layers.Conv2D(32, 3, activation="relu")(outputs)
    outputs = tf.keras.layers.Conv2D(64, 3, activation="relu")(outputs)
    outputs = tf.keras.layers.MaxPooling2D(2)(outputs)
    outputs = tf.keras.layers.Flatten()(outputs)
    outputs = tf.keras.layers.Dense(units, activation="relu")(outputs)
    return tf.keras.Model(image, tf.keras.layers.Dense(classes)(outputs))
