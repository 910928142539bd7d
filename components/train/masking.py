"""Masks inside a program: what pruning has set to zero stays an exact zero."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


def masked(values: Any, masks: Any) -> Any:
    """The values where masks are True, and 0 elsewhere.

    Args:
      values: structure of tensors, once or several times as many as masks and in their order.
      masks: bool tensors; of none, the values are given back.
    """
    if not masks:
        return values
    tensors = tf.nest.flatten(values)
    every = tuple(masks) * (len(tensors) // len(masks))
    # Rows of an embedding's gradient may come several times: what they add up to is the tensor.
    dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
    zeroed = [
        tf.where(mask, tensor, tf.zeros((), tensor.dtype))
        for mask, tensor in zip(every, dense, strict=True)
    ]
    return tf.nest.pack_sequence_as(values, zeroed)


def masked_model(model: tff.learning.models.FunctionalModel) -> tff.learning.models.FunctionalModel:
    """A model of the same weights, and a mask for each that trains: it predicts by their product.

    The masks, True everywhere, are the last of its weights that do not train.
    """
    trainable, frozen = model.initial_weights
    masks = tuple(np.ones(np.shape(weight), bool) for weight in trainable)

    @tf.function
    def predict_on_batch(weights: Any, x: Any, training: Any) -> Any:
        values, others = weights
        kept, masks = others[: len(frozen)], others[len(frozen) :]
        return model.predict_on_batch((masked(values, masks), kept), x, training)

    return tff.learning.models.FunctionalModel(
        initial_weights=(trainable, (*frozen, *masks)),
        predict_on_batch_fn=predict_on_batch,
        loss_fn=model.loss,
        input_spec=model.input_spec,
    )
