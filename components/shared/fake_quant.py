"""Fake quantization: a Keras model that rounds as its int8 TFLite file will, while it trains.

Kernels are rounded to -127..127 times a scale from their own largest magnitude, for each output
channel of a convolution and for the whole of other kernels, which is how TFLite stores them. Inputs
and what layers compute are rounded to 256 levels of a range. The ends of a range are trainable
weights, with the gradients that TensorFlow defines for them, so they learn by what they cut off.
In a federated round they are part of a client's update like any other weight: clipped, added up
and noised. (The ranges of tfmot.quantization.keras.quantize_model are moving averages, which are
not trainable: TFF, which aggregates trainable weights alone, leaves them as they were made.)

What TFLite computes in one operation is rounded once: a kernel with the ReLU behind it. What only
moves values about (pooling, reshaping, dropout) keeps the range that it gets. Of other layers, and
of those that are not Keras' own, the output is rounded and nothing inside.

The scheme is that of Jacob et al., 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference".
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from privet.components.shared.errors import ModelError
from privet.components.shared.fake_quant_layers import (
    FakeQuantConv1D,
    FakeQuantConv2D,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
    FakeQuantEmbedding,
    FakeQuantize,
)
from privet.components.shared.keras_models import model_inputs
from privet.components.shared.schema import FeatureConfig, Schema
from privet.components.shared.synthetic import synthetic_features, value_range

layers = tf.keras.layers

Ranges = Mapping[str, Sequence[float]]
"""What is rounded -> [lowest, highest] value. Names are those of the layers; see initial_ranges."""

_RANGE = "/range"

_DEPTHWISE = (
    "kernel_size",
    "strides",
    "padding",
    "data_format",
    "dilation_rate",
    "depth_multiplier",
    "trainable",
)
_POINTWISE = ("filters", "data_format", "activation", "use_bias", "trainable", "name")
"""Settings of a SeparableConv2D that are of its two parts."""

_EXAMPLES = 256
_MARGIN = 2.0
_LOGIT = 16.0

_ROUNDING: dict[Any, Any] = {
    layers.Dense: FakeQuantDense,
    layers.Conv1D: FakeQuantConv1D,
    layers.Conv2D: FakeQuantConv2D,
    layers.DepthwiseConv2D: FakeQuantDepthwiseConv2D,
    layers.Embedding: FakeQuantEmbedding,
}
"""Keras' layer -> its form with rounded kernels."""

_KEEPS_RANGE = (
    layers.Embedding,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.RepeatVector,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.UpSampling1D,
    layers.UpSampling2D,
)
"""Layers whose output TFLite stores in the range of their input."""

_ACTIVATIONS = (layers.Activation, layers.Softmax)

_FUSED = ("linear", "relu", "relu6")
"""Activations that TFLite computes within the operation before them."""

_FIXED = {"tanh": (-1.0, 127 / 128), "sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256)}
"""Activation -> the range that TFLite gives its int8 output."""


def initial_ranges(model: tf.keras.Model, schema: Schema, seed: int) -> dict[str, list[float]]:
    """Ranges to begin with, from made-up examples alone.

    Inputs have the range that the schema gives them. What layers compute has twice the range that
    the untrained model makes of made-up examples, since weights grow. Logits reach 16 on both sides
    at least, however small they are at first: what lies outside of a range learns nothing.

    Args:
      model: the plain model: functional, or sequential with an input.
      schema: of one example.
      seed: of the examples.

    Returns:
      Name -> [lowest, highest], of which the one is at most 0 and the other at least. A name is a
      layer's; of a layer within another model, both names with a slash between. What is rounded
      within a layer has /linear (before its activation) or /depthwise behind the layer's name.
    """
    found: dict[str, list[Any]] = collections.defaultdict(list)

    def note(name: str, tensor: Any, fixed: Any) -> Any:
        if fixed is None:
            found[name].append(tensor)
        return tensor

    inputs, output = _rebuilt(model, note, rounds=False)
    rebuilt = tf.keras.Model(inputs, output)
    _copy_weights(model, rebuilt, back=False)
    features = model_inputs(synthetic_features(schema, _EXAMPLES, seed))
    values = tf.keras.Model(inputs, dict(found))(features, training=False)
    ranges = {
        name: [
            _MARGIN * min(0.0, *(float(tf.reduce_min(one)) for one in several)),
            _MARGIN * max(0.0, *(float(tf.reduce_max(one)) for one in several)),
        ]
        for name, several in values.items()
    }
    for name, feature in zip(model.input_names, _features(model, schema), strict=True):
        if name in ranges:
            low, high = value_range(feature)
            ranges[name] = [min(0.0, low), max(0.0, high)]
    for name, (low, high) in ranges.items():
        is_output = any(one is output for one in found[name])
        least = _LOGIT if is_output and schema.task != "regression" else float(low == high)
        ranges[name] = _uneven(min(low, -least), max(high, least))
    return ranges


def _uneven(low: float, high: float) -> list[float]:
    """A range whose level 0 is certain: of -1..1 it would be 127.5, which XLA rounds otherwise."""
    return [low * 128 / 127 if low == -high else low, high]


def _features(model: tf.keras.Model, schema: Schema) -> list[FeatureConfig]:
    """The feature of each of the model's inputs; a single input may have any name."""
    if len(schema.features) == 1:
        return list(schema.features.values())
    return [schema.features[name] for name in model.input_names]


def with_fake_quant(model: tf.keras.Model, ranges: Ranges) -> tf.keras.Model:
    """The model with rounding, with its weights and with ranges that train.

    Args:
      model: the plain model: functional, or sequential with an input. It stays as it is.
      ranges: by name; see initial_ranges.

    Raises:
      ModelError: the ranges are those of another model.
    """
    made: dict[str, FakeQuantize] = {}

    def rounded(name: str, tensor: Any, fixed: Any) -> Any:
        if name not in made:
            if fixed is None and name not in ranges:
                raise ModelError(
                    f"there is no range for {name!r}, but for {', '.join(sorted(ranges))}: they "
                    "are of another model. Train again, with train.quantization_aware."
                )
            low, high = ranges[name] if fixed is None else fixed
            made[name] = FakeQuantize(low, high, fixed is not None, name=name + _RANGE)
        return made[name](tensor)

    inputs, outputs = _rebuilt(model, rounded, rounds=True)
    rounding = tf.keras.Model(inputs, outputs, name=model.name)
    _copy_weights(model, rounding, back=False)
    return rounding


def ranges_of(rounding: tf.keras.Model) -> dict[str, list[float]]:
    """The ranges as they are now, from which with_fake_quant makes the same model."""
    return {
        layer.name.removesuffix(_RANGE): [float(end) for end in layer.ends()]
        for layer in rounding.layers
        if isinstance(layer, FakeQuantize) and not layer.fixed
    }


def take_weights(model: tf.keras.Model, rounding: tf.keras.Model) -> None:
    """Gives the plain model the weights that its form with rounding has."""
    _copy_weights(model, rounding, back=True)


After = Callable[[str, Any, tuple[float, float] | None], Any]
"""(name, tensor, fixed range if it has one) -> the tensor to go on with."""


def _rebuilt(model: tf.keras.Model, after: After, *, rounds: bool) -> tuple[Any, Any]:
    """Inputs and outputs of a model of the same layers, anew; inner models become a part of it.

    Args:
      model: the plain model.
      after: is given what TFLite rounds.
      rounds: whether layers round their kernels.
    """
    made: dict[str, list[_Part]] = {}

    def call(layer: tf.keras.layers.Layer, name: str, relu_follows: bool, arguments: Any) -> Any:
        if name not in made:
            made[name] = list(_parts(layer, name, rounds=rounds))
        for part in made[name]:
            args, kwargs = arguments
            outputs = part.layer(*args, **kwargs)
            if part.name is not None and not (relu_follows and part is made[name][-1]):
                flat = [
                    after(part.name + (f"/{number}" if number else ""), one, part.fixed)
                    if one.dtype == tf.float32
                    else one
                    for number, one in enumerate(tf.nest.flatten(outputs))
                ]
                outputs = tf.nest.pack_sequence_as(outputs, flat)
            arguments = (outputs,), {}
        return outputs

    def follow(model: tf.keras.Model, given: Sequence[Any], prefix: str) -> Any:
        tensors = {id(old): new for old, new in zip(model.inputs, given, strict=True)}

        def new(old: Any) -> Any:
            return tensors.get(id(old), old)

        relu_follows = _before_relu(model)
        for node in _nodes(model):
            name = prefix + node.layer.name
            arguments = tf.nest.map_structure(new, (node.call_args, node.call_kwargs))
            if _is_graph(node.layer):
                outputs = follow(node.layer, _inputs(node.layer, arguments[0][0]), f"{name}/")
            else:
                fused = id(node.outputs) in relu_follows
                outputs = call(node.layer, name, fused, arguments)
            pairs = zip(tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True)
            tensors.update({id(old): new for old, new in pairs})
        return tf.nest.map_structure(new, model.output)

    inputs = [
        tf.keras.Input(one.shape[1:], dtype=one.dtype, name=name)
        for name, one in zip(model.input_names, model.inputs, strict=True)
    ]
    given = [
        after(name, one, None) if one.dtype == tf.float32 else one
        for name, one in zip(model.input_names, inputs, strict=True)
    ]
    return inputs, follow(model, given, "")


class _Part(NamedTuple):
    """A layer of the model that is made, and what is rounded after it: its name, its range."""

    layer: tf.keras.layers.Layer
    name: str | None
    fixed: tuple[float, float] | None = None


def _parts(layer: tf.keras.layers.Layer, name: str, *, rounds: bool) -> Iterator[_Part]:
    """One layer, or several that together compute what it does."""
    kind, config = type(layer), {**layer.get_config(), "name": name}
    if kind is layers.SeparableConv2D:
        first = {key: config[key] for key in _DEPTHWISE} | {"name": f"{name}/depthwise"}
        yield _made(layers.DepthwiseConv2D, {**first, "use_bias": False}, first["name"], rounds)
        kind, config = layers.Conv2D, {key: config[key] for key in _POINTWISE} | {"kernel_size": 1}
    activation = _activation(layer)
    if kind in _ROUNDING and activation not in _FUSED:
        yield _made(kind, {**config, "activation": "linear"}, f"{name}/linear", rounds)
        kind, config = layers.Activation, {"activation": layer.activation, "name": f"{name}/last"}
    yield _made(kind, config, name, rounds)


def _made(kind: Any, config: Mapping[str, Any], name: str, rounds: bool) -> _Part:
    layer = (_ROUNDING.get(kind, kind) if rounds else kind).from_config(config)
    fixed = _FIXED.get(_activation(layer)) if kind in _ACTIVATIONS else None
    return _Part(layer, None if kind in _KEEPS_RANGE else name, fixed)


def _activation(layer: tf.keras.layers.Layer) -> str:
    if isinstance(layer, layers.Softmax):
        return "softmax"
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def _before_relu(model: tf.keras.Model) -> set[int]:
    """Ids of the outputs that nothing takes but a ReLU, within the same TFLite operation."""
    takers: dict[int, list[Any]] = collections.defaultdict(list)
    for node in _nodes(model):
        for one in tf.nest.flatten(node.keras_inputs):
            takers[id(one)].append(node.layer)
    for one in model.outputs:
        takers[id(one)].append(None)
    return {
        id(node.outputs)
        for node in _nodes(model)
        if type(node.layer) in (*_ROUNDING, layers.SeparableConv2D, layers.Add)
        and _activation(node.layer) == "linear"
        and [_is_relu(taker) for taker in takers[id(node.outputs)]] == [True]
    }


def _is_relu(layer: Any) -> bool:
    if type(layer) is layers.ReLU:
        plain = layer.negative_slope == 0 and layer.threshold == 0
        return bool(plain and layer.max_value in (None, 6.0))
    return type(layer) is layers.Activation and _activation(layer) in _FUSED[1:]


def _is_graph(layer: tf.keras.layers.Layer) -> bool:
    return isinstance(layer, tf.keras.Model) and layer._is_graph_network


def _nodes(model: tf.keras.Model) -> list[Any]:
    """The calls of its layers, each after those that it takes something from."""
    by_depth = model._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def _inputs(model: tf.keras.Model, given: Any) -> list[Any]:
    """What an inner model is called with, in the order of its inputs."""
    if isinstance(given, Mapping):
        return [given[name] for name in model.input_names]
    return tf.nest.flatten(given)


def _copy_weights(model: tf.keras.Model, rebuilt: tf.keras.Model, *, back: bool) -> None:
    for name, layer in _leaves(model, ""):
        names = (f"{name}/depthwise", name, f"{name}/linear")
        parts = {part.name: part for part in rebuilt.layers}
        own = [weight for one in names if one in parts for weight in parts[one].weights]
        for weight, other in zip(layer.weights, own, strict=True):
            (weight if back else other).assign(other if back else weight)


def _leaves(model: tf.keras.Model, prefix: str) -> Iterator[tuple[str, tf.keras.layers.Layer]]:
    for layer in model.layers:
        if _is_graph(layer):
            yield from _leaves(layer, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer
