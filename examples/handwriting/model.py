"""A small MLP on images shrunk to 14x14: 16,638 parameters, few enough for the noise of privacy."""

import tensorflow as tf


def build_model() -> tf.keras.Model:
    """Grey levels 0..255 in, one logit per character out."""
    image = tf.keras.Input(shape=(28, 28), dtype="uint8", name="image")
    scaled = tf.keras.layers.Rescaling(1 / 255)(image)
    channel = tf.keras.layers.Reshape((28, 28, 1))(scaled)
    shrunk = tf.keras.layers.Flatten()(tf.keras.layers.AveragePooling2D(2)(channel))
    hidden = tf.keras.layers.Dense(64, activation="relu", name="hidden")(shrunk)
    logits = tf.keras.layers.Dense(62, name="logits")(hidden)
    return tf.keras.Model(image, logits)
