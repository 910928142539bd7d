"""A small MLP over three named inputs, for a binary decision."""

import tensorflow as tf

# Public scales (orders of magnitude of each measurement), not statistics of the clients' data:
# learning a normalization from private data would leak it.
MEAN = [15.0, 20.0, 100.0, 700.0, 0.1, 0.1, 0.1, 0.05, 0.2, 0.06]
ERROR = [0.4, 1.2, 3.0, 40.0, 0.007, 0.025, 0.03, 0.01, 0.02, 0.004]
WORST = [16.0, 25.0, 110.0, 900.0, 0.13, 0.25, 0.3, 0.1, 0.3, 0.08]


def build_model() -> tf.keras.Model:
    """Ten measurements as mean, error and worst value in; one logit (malignant) out."""
    inputs, scaled = [], []
    for name, scale in (("mean", MEAN), ("error", ERROR), ("worst", WORST)):
        values = tf.keras.Input(shape=(10,), name=name)
        inputs.append(values)
        scaled.append(tf.keras.layers.Rescaling([1 / s for s in scale], offset=-1.0)(values))
    joined = tf.keras.layers.Concatenate()(scaled)
    hidden = tf.keras.layers.Dense(8, activation="tanh", name="hidden")(joined)
    logit = tf.keras.layers.Dense(1, name="logit")(hidden)
    return tf.keras.Model(inputs, logit)
