"""A small MLP on images shrunk to 14x14: 16,638 parameters, few enough for the noise of privacy."""

import tensorflow as tf

LENGTH = 4.0
"""L2 norm of what the hidden layer sees of each image."""


def build_model(units: int = 64) -> tf.keras.Model:
    """Grey levels 0..255 in, one logit per character out, by so many hidden units.

    Each image loses its own brightness and contrast, which are a writer's pen and tell no character
    from another: a clipped update should hold what does.
    """
    image = tf.keras.Input(shape=(28, 28), dtype="uint8", name="image")
    scaled = tf.keras.layers.Rescaling(1 / 255)(image)
    channel = tf.keras.layers.Reshape((28, 28, 1))(scaled)
    shrunk = tf.keras.layers.Flatten()(tf.keras.layers.AveragePooling2D(2)(channel))
    centred = shrunk - tf.reduce_mean(shrunk, axis=-1, keepdims=True)
    normal = tf.keras.layers.Rescaling(LENGTH)(tf.keras.layers.UnitNormalization()(centred))
    hidden = tf.keras.layers.Dense(units, activation="relu", name="hidden")(normal)
    logits = tf.keras.layers.Dense(62, name="logits")(hidden)
    return tf.keras.Model(image, logits)
