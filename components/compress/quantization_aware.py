"""Quantization-aware training on public data, by the TensorFlow Model Optimization Toolkit (tfmot).

The model learns with kernels and activations rounded to int8 in every step, as the integer file
will round them; kernels that are sparse or clustered stay so. The rounding is tfmot's: its configs
per layer, its prune- and cluster-preserving quantizers. Four things are ours, because with
tfmot 0.7.5

- ranges of activations start at [-6, 6] and move by 0.001 of the way per step, so that they fit
  nothing after a short training; here the first batch sets them (`_ObservedRange`);
- a layer behind one that tfmot does not know stays float, for want of a range; here a range is put
  between the two (`_with_ranges`);
- all kernels share one quantizer, and the first without a zero ends the preserving of zeros in all;
  here each has its own, after what it holds (`_Registry`);
- a convolution is taken apart into clusters per channel if each channel holds as many, and scaled
  per channel, both of which turn few values into many; here a clustered kernel is one
  (`_ClusteredKernel`).
"""

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (  # noqa: E501
    cluster_preserve_quantize_registry as cluster_preserve,
)

from privet.components.compress.variant_config import FineTuningConfig
from privet.components.shared.errors import ModelError
from privet.components.shared.keras_models import build_loss, label_dtype, model_inputs
from privet.components.shared.schema import Schema

_REGISTRY = tfmot.quantization.keras.default_8bit.Default8BitQuantizeRegistry

_ACTIVATIONS = ("linear", "relu", "softmax", "sigmoid", "tanh")
"""Activations inside a layer that have an int8 form in tfmot and in TFLite."""

_PRESERVED = (tf.keras.layers.Dense, tf.keras.layers.Conv2D)
"""Layers whose zeros and clusters tfmot can preserve."""

_DECAY = 0.99  # of the moving average of a range
_NARROWEST = 1e-6  # width of a range, so that a scale is never 0


def fine_tuned(
    model: tf.keras.Model,
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    schema: Schema,
    config: FineTuningConfig,
    *,
    sparse: bool,
    clustered: bool,
    seed: int,
) -> tf.keras.Model:
    """Trains a copy of the model on public examples, with its kernels and activations rounded.

    Layers that tfmot cannot round (Rescaling, Embedding, LayerNormalization, the user's own) stay
    float. Where such a layer, or a depthwise or transposed convolution, is sparse or clustered, its
    weights are not trained, since nothing would keep them so.

    Args:
      model: stays as it is.
      features: public examples: feature name -> array [n, …].
      labels: [n]; class indices, or values for regression.
      schema: of one example.
      config: of the training.
      sparse: whether zeros in kernels stay zeros.
      clustered: whether equal values in a kernel stay equal.
      seed: of the order of examples and of dropout. Same seed, same weights.

    Returns:
      A Keras model with fake-quantization in its graph, for `convert.convert_fake_quantized`.

    Raises:
      ModelError: tfmot can round no layer of the model, or cannot rebuild it.
    """
    tf.keras.utils.set_random_seed(seed)
    rounded = _fake_quantized(model, sparse=sparse, clustered=clustered)
    frozen = _frozen(rounded) if sparse or clustered else set()
    variables = [one for one in rounded.trainable_variables if one.ref() not in frozen]
    _train(rounded, variables, features, labels, schema, config, np.random.default_rng(seed))
    return rounded


def _fake_quantized(model: tf.keras.Model, *, sparse: bool, clustered: bool) -> tf.keras.Model:
    known = {layer.name for layer in model.layers if _can_be_rounded(layer)}
    if not any(_kernels(layer) for layer in model.layers if layer.name in known):
        layers = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in model.layers)
        raise ModelError(
            "fine_tuning wants a layer with a kernel that tfmot can round: Dense, Conv2D, "
            "DepthwiseConv2D or Conv2DTranspose with activation "
            f"{', '.join(_ACTIVATIONS[:-1])} or {_ACTIVATIONS[-1]}; the model has {layers}. Leave "
            "fine_tuning out and give ranges instead, or change a layer."
        )
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    try:
        with tf.keras.utils.custom_object_scope({**classes, _Range.__name__: _Range}):
            annotated = tf.keras.models.clone_model(
                _with_ranges(model, known),
                clone_function=lambda layer: annotate(layer) if layer.name in known else layer,
            )
            return tfmot.quantization.keras.quantize_apply(
                annotated, scheme=_Scheme(sparse=sparse, clustered=clustered)
            )
    except Exception as error:  # Keras and tfmot raise many kinds
        raise ModelError(
            "the model cannot be rebuilt for fine_tuning: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:500]}. Build it of Keras' own "
            "layers, or register yours with tf.keras.saving.register_keras_serializable."
        ) from error


def _can_be_rounded(layer: tf.keras.layers.Layer) -> bool:
    # (Concatenate: tfmot would take the ranges from the layers before it and fix them at [-6, 6].)
    if isinstance(layer, tf.keras.layers.Concatenate) or not _REGISTRY().supports(layer):
        return False
    activation = getattr(layer, "activation", tf.keras.activations.linear)
    inputs = tf.nest.flatten(layer.get_input_at(0))
    return getattr(activation, "__name__", "") in _ACTIVATIONS and all(
        tensor.dtype.is_floating for tensor in inputs
    )


def _kernels(layer: tf.keras.layers.Layer) -> list[tf.Variable]:
    """The variables that pruning and clustering change: those of two or more axes."""
    return [variable for variable in layer.trainable_variables if variable.shape.rank >= 2]


def _frozen(model: tf.keras.Model) -> set[Any]:
    """References of the kernels whose zeros and clusters nothing preserves."""
    preserved = {
        kernel.ref()
        for layer in model.layers
        if isinstance(layer, tfmot.quantization.keras.QuantizeWrapper)
        and type(layer.layer) in _PRESERVED
        for kernel in _kernels(layer)
    }
    return {kernel.ref() for layer in model.layers for kernel in _kernels(layer)} - preserved


def _train(
    model: tf.keras.Model,
    variables: list[tf.Variable],
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    schema: Schema,
    config: FineTuningConfig,
    generator: np.random.Generator,
) -> None:
    """Adam on shuffled batches. (Keras' fit would leave its optimizer in the saved model.)"""
    optimizer = tf.keras.optimizers.Adam(config.learning_rate)
    loss = build_loss(schema)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(inputs: Any, wanted: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            value = loss(wanted, model(inputs, training=True))
        gradients = tape.gradient(value, variables)
        # tfmot trains the centroids of a clustered kernel in its place; it then has no gradient.
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])

    def batches() -> Iterator[tuple[Any, tf.Tensor]]:
        order = generator.permutation(len(labels))
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            inputs = {
                name: tf.constant(features[name][rows], feature.dtype)
                for name, feature in schema.features.items()
            }
            yield model_inputs(inputs), tf.constant(labels[rows, None], label_dtype(schema))

    for _ in range(config.epochs):
        for inputs, wanted in batches():
            step(inputs, wanted)
    # Without a step: brings kernels and their ranges, which a batch sets, up to the last step.
    model(next(batches())[0], training=True)


def _with_ranges(model: tf.keras.Model, known: set[str]) -> tf.keras.Model:
    """A copy of the model with a range before each known layer that follows an unknown one."""
    flat = tf.keras.Model(model.inputs, model.outputs[0], name=model.name)
    config = flat.get_config()
    ranges: dict[tuple[Any, ...], str] = {}
    for layer in config["layers"]:
        for node in layer["inbound_nodes"] if layer["name"] in known else ():
            for source in node:  # [layer, node, tensor, …]
                if source[0] not in known:
                    name = ranges.setdefault(tuple(source[:3]), f"range_{len(ranges)}")
                    source[:3] = [name, 0, 0]
    config["layers"] += [
        {
            "class_name": _Range.__name__,
            "config": {"name": name},
            "name": name,
            "inbound_nodes": [[[*source, {}]]],
        }
        for source, name in ranges.items()
    ]
    copy = tf.keras.Model.from_config(config)
    for layer in flat.layers:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


class _ObservedRange(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds to int8 within the moving average of the batches' ranges, beginning with the first."""

    def build(self, tensor_shape: Any, name: str, layer: tf.keras.layers.Layer) -> dict[str, Any]:
        """The range; [0, 0] until a batch was seen."""
        ends = ("min", "max")
        return {
            end: layer.add_weight(f"{name}_{end}", initializer="zeros", trainable=False)
            for end in ends
        }

    def __call__(
        self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any
    ) -> tf.Tensor:
        """The rounded inputs; in training the range moves first."""
        low, high = weights["min"], weights["max"]
        if training:
            decay = tf.where(high > low, _DECAY, 0.0)
            least = tf.minimum(tf.reduce_min(inputs), 0.0)  # int8 can represent 0 exactly
            most = tf.maximum(tf.reduce_max(inputs), _NARROWEST)
            # (Both are read before either is assigned.)
            low, high = decay * low + (1 - decay) * least, decay * high + (1 - decay) * most
            low, high = weights["min"].assign(low), weights["max"].assign(high)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def get_config(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}


class _Range(tf.keras.layers.Layer):
    """Passes its input on, rounded to the range that was observed."""

    def build(self, input_shape: Any) -> None:
        """Makes the range."""
        self.quantizer = _ObservedRange()
        self.range = self.quantizer.build(input_shape, "range", self)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The rounded inputs."""
        return self.quantizer(inputs, training, self.range)


class _ClusteredKernel(cluster_preserve.ClusterPreserveDefault8BitWeightsQuantizer):
    """tfmot's quantizer for clusters of a whole kernel, also for that of a convolution."""

    def _build_clusters(self, name: str, layer: Any) -> dict[str, Any]:
        # tfmot looks at the type of the wrapped layer for whether to take channels apart.
        untyped = SimpleNamespace(**{name: getattr(layer.layer, name)})
        return super()._build_clusters(
            name, SimpleNamespace(layer=untyped, name=layer.name, add_weight=layer.add_weight)
        )


class _Registry(tfmot.quantization.keras.QuantizeRegistry):
    """How each layer is rounded: as tfmot does, but with quantizers of its own."""

    def __init__(self, *, sparse: bool, clustered: bool) -> None:
        self.sparse, self.clustered = sparse, clustered

    def supports(self, layer: tf.keras.layers.Layer) -> bool:
        """As tfmot."""
        return bool(_REGISTRY().supports(layer))

    def get_quantize_config(self, layer: tf.keras.layers.Layer) -> Any:
        """tfmot's config for the layer, in a copy of its own."""
        sparse = clustered = False
        if type(layer) in _PRESERVED:
            kernel = layer.kernel.numpy()
            sparse = self.sparse and not kernel.all()
            clustered = self.clustered and np.ptp(kernel) > 0
        if sparse and not clustered:
            scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
            config = scheme.get_quantize_registry().get_quantize_config(layer)
        else:
            config = _REGISTRY().get_quantize_config(layer)
        if clustered:
            config.weight_quantizer = _ClusteredKernel(preserve_sparsity=sparse)
        config.activation_quantizer = _ObservedRange()
        return config


class _Scheme(tfmot.quantization.keras.QuantizeScheme):
    """tfmot's int8, without its rewriting of layers.

    It would fold batch normalizations, which federated training refuses, and leave the kernel of a
    Dense or Conv2D unrounded that has a ReLU layer behind it.
    """

    def __init__(self, *, sparse: bool, clustered: bool) -> None:
        self.registry = _Registry(sparse=sparse, clustered=clustered)

    def get_layout_transformer(self) -> Any:
        """Changes nothing."""
        apply: Callable[[Any, Any], tuple[Any, Any]] = lambda model, layers: (model, layers)  # noqa: E731
        return SimpleNamespace(apply=apply)

    def get_quantize_registry(self) -> _Registry:
        """How each layer is rounded."""
        return self.registry
