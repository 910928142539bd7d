"""The model of the conformance suite: a signature for each thing that a row needs.

`python tests/serving/conformance/model.py DIRECTORY` publishes it as version 123 in DIRECTORY.
"""

import sys
from pathlib import Path
from typing import Any

# TensorFlow's name of each type whose values JSON can hold; a signature `echo_NAME` for each.
ECHOED = (
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool",
    "string",
)  # fmt: skip


def export(path: Path) -> None:
    """Saves the SavedModel, and beside it its default signature as model.tflite."""
    import tensorflow as tf

    def function(implementation: Any, **inputs: Any) -> Any:
        specs = {name: tf.TensorSpec(shape, kind, name) for name, (shape, kind) in inputs.items()}
        return tf.function(implementation).get_concrete_function(**specs)

    def parsed(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"]

    def labels(inputs: Any) -> Any:
        return tf.tile([["low", "high"]], [tf.shape(inputs)[0], 1])

    module = tf.Module()
    module.scale = tf.Variable(0.5)
    floats, strings, any_shape = ([None], tf.float32), ([None], tf.string), (None, tf.float32)
    signatures = {
        "serving_default": function(lambda x: {"y": module.scale * x + 2.0}, x=floats),
        "pair": function(lambda a, b: {"product": a * b, "sum": a + b}, a=floats, b=floats),
        "text": function(
            lambda text: {"copy": tf.identity(text), "copy_bytes": tf.identity(text)}, text=strings
        ),
        "bytes": function(lambda text: {"copy_bytes": tf.identity(text)}, text=strings),
        "dense": function(
            lambda x: {"y": tf.matmul(x, [[1.0], [10.0]])}, x=([None, 2], tf.float32)
        ),
        "total": function(lambda x: {"total": tf.reduce_sum(x)}, x=any_shape),
        "unequal": function(lambda x: {"a": tf.identity(x), "b": x[:1]}, x=floats),
        "to_half": function(lambda x: {"y": tf.cast(x, tf.float16)}, x=any_shape),
        "to_complex": function(lambda x: {"y": tf.cast(x, tf.complex64)}, x=any_shape),
        "from_half": function(lambda x: {"y": tf.cast(x, tf.float32)}, x=(None, tf.float16)),
        "classify": function(
            lambda inputs: {"classes": labels(inputs), "scores": parsed(inputs)}, inputs=strings
        ),
        "classify_labels": function(lambda inputs: {"classes": labels(inputs)}, inputs=strings),
        "classify_scores": function(lambda inputs: {"scores": parsed(inputs)}, inputs=strings),
        "classify_flat": function(lambda inputs: {"scores": parsed(inputs)[:, 0]}, inputs=strings),
        "classify_none": function(lambda inputs: {"other": parsed(inputs)}, inputs=strings),
        "regress": function(
            lambda inputs: {"outputs": tf.reduce_sum(parsed(inputs), axis=1, keepdims=True)},
            inputs=strings,
        ),
        "regress_flat": function(
            lambda inputs: {"outputs": tf.reduce_sum(parsed(inputs), axis=1)}, inputs=strings
        ),
        "regress_wide": function(lambda inputs: {"outputs": parsed(inputs)}, inputs=strings),
        "regress_other": function(lambda inputs: {"sum": parsed(inputs)[:, 0]}, inputs=strings),
        **{
            f"echo_{name}": function(lambda x: {"y": tf.identity(x)}, x=(None, getattr(tf, name)))
            for name in ECHOED
        },
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    (path / "model.tflite").write_bytes(_convert(path))


def _convert(path: Path) -> bytes:
    """The default signature as TFLite, under the names that the SavedModel gives it."""
    import tensorflow as tf

    from privet.components.shared.signatures import tflite_signature, with_signature_metadata

    key = "serving_default"
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=[key])
    model = converter.convert()
    return with_signature_metadata(model, {key: tflite_signature(model, key)})


if __name__ == "__main__":
    export(Path(sys.argv[1]) / "123")
