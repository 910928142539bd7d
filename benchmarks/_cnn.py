"""Convolutional models of two sizes, for 28x28 images as bytes; on 62 classes."""

from typing import Any

import tensorflow as tf


def small(units: int = 120) -> tf.keras.Model:
    """108,422 weights: two convolutions, a pooling behind each, and two dense layers."""
    image, outputs = _image()
    for filters in (16, 32):
        outputs = tf.keras.layers.Conv2D(filters, 3, activation="relu")(outputs)
        outputs = tf.keras.layers.MaxPooling2D(2)(outputs)
    return _classifier(image, outputs, units)


def large(units: int = 128) -> tf.keras.Model:
    """1,206,590 weights, nearly all in one kernel; the model of training.py, workload B."""
    image, outputs = _image()
    for filters in (32, 64):
        outputs = tf.keras.layers.Conv2D(filters, 3, activation="relu")(outputs)
    return _classifier(image, tf.keras.layers.MaxPooling2D(2)(outputs), units)


def _image() -> tuple[Any, Any]:
    image = tf.keras.Input(shape=(28, 28), dtype="uint8", name="image")
    scaled = tf.keras.layers.Rescaling(1 / 255)(image)
    return image, tf.keras.layers.Reshape((28, 28, 1))(scaled)


def _classifier(image: Any, outputs: Any, units: int) -> tf.keras.Model:
    hidden = tf.keras.layers.Dense(units, activation="relu")(tf.keras.layers.Flatten()(outputs))
    return tf.keras.Model(image, tf.keras.layers.Dense(62)(hidden))
