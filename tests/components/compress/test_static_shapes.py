"""Constant shapes in TFLite files: XNNPACK takes the graph, and the answers stay."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from privet.components.compress.convert import convert_float, convert_integer
from privet.components.compress.integer_model import IntegerModel, agreement
from privet.components.compress.quantize import rounded
from privet.components.compress.static_shapes import with_static_shapes
from privet.components.shared import signatures

KEY = "serving_default"
OWN_KERNELS = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
SHAPE_OPERATORS = {"SHAPE", "STRIDED_SLICE", "PACK", "GATHER", "REDUCE_PROD", "CONCATENATION"}

layers = tf.keras.layers


def cnn() -> tf.keras.Model:
    inputs = tf.keras.Input((28, 28), dtype="uint8", name="x")
    value = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 255)(inputs))
    value = layers.Conv2D(8, 3, strides=2, activation="relu")(value)
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(value)))


def sequence() -> tf.keras.Model:
    """A Dense layer on sequences reshapes to [examples * 6, 4], and back."""
    inputs = tf.keras.Input((6, 4), name="x")
    value = layers.Dense(8, activation="relu")(inputs)
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(value)))


def drawn(model: tf.keras.Model, count: int, seed: int) -> dict[str, np.ndarray]:
    (spec,) = model.inputs
    values = np.random.default_rng(seed).uniform(0, 256, (count, *spec.shape[1:]))
    return {"x": values.astype(spec.dtype.as_numpy_dtype)}


def interpreter_of(tflite: bytes, **options: Any) -> Any:
    interpreter = tf.lite.Interpreter(model_content=tflite, num_threads=1, **options)
    interpreter.allocate_tensors()
    return interpreter


def answer(tflite: bytes, features: Mapping[str, np.ndarray], **options: Any) -> np.ndarray:
    (values,) = interpreter_of(tflite, **options).get_signature_runner(KEY)(**features).values()
    return values


def operators(tflite: bytes) -> list[str]:
    """As the interpreter lists them: DELEGATE for each part that XNNPACK takes."""
    return [one["op_name"] for one in interpreter_of(tflite)._get_ops_details()]


def reshapes(tflite: bytes) -> list[list[int] | None]:
    """The shape of each RESHAPE; None where it is computed."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    (graph,) = model.subgraphs
    shapes: list[list[int] | None] = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code == schema.BuiltinOperator.RESHAPE:
            data = model.buffers[graph.tensors[operator.inputs[1]].buffer].data
            shapes.append(None if data is None else np.frombuffer(bytes(data), np.int32).tolist())
    return shapes


@pytest.fixture(scope="module")
def made() -> Callable[[Callable[[], Any], str], tuple[tf.keras.Model, bytes]]:
    """A model as the converter alone converts it, in float32 or int8; each once."""
    kept: dict[tuple[str, str], tuple[tf.keras.Model, bytes]] = {}

    def make(build: Callable[[], tf.keras.Model], scheme: str) -> tuple[tf.keras.Model, bytes]:
        key = build.__name__, scheme
        if key not in kept:
            tf.keras.utils.set_random_seed(1)
            model = build()
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            if scheme == "int8":

                def examples() -> Iterator[dict[str, np.ndarray]]:
                    for seed in range(20):
                        yield drawn(model, 1, seed)

                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = examples
            kept[key] = model, bytes(converter.convert())
        return kept[key]

    return make


@pytest.mark.parametrize("scheme", ["float32", "int8"])
@pytest.mark.parametrize(
    ("build", "shapes"),
    [(cnn, [[-1, 28, 28, 1], [-1, 8 * 13 * 13]]), (sequence, [[-1, 4], [-1, 6, 8], [-1, 48]])],
)
def test_xnnpack_takes_a_graph_whose_shapes_are_constant(
    made: Any, build: Any, shapes: Any, scheme: str
) -> None:
    _, before = made(build, scheme)
    after = with_static_shapes(before)

    assert None in reshapes(before)
    assert "DELEGATE" not in operators(before)  # when it is, this module has had its day
    assert reshapes(after) == shapes
    assert "DELEGATE" in operators(after)
    assert SHAPE_OPERATORS.isdisjoint(operators(after))


@pytest.mark.parametrize("count", [1, 7, 32])
@pytest.mark.parametrize("scheme", ["float32", "int8"])
@pytest.mark.parametrize("build", [cnn, sequence])
def test_answers_stay_for_any_number_of_examples(
    made: Any, build: Any, scheme: str, count: int
) -> None:
    model, before = made(build, scheme)
    after = with_static_shapes(before)
    features = drawn(model, count, seed=count)
    own = {"experimental_op_resolver_type": OWN_KERNELS}

    wanted = answer(before, features, **own)
    assert wanted.shape == (count, 3)
    np.testing.assert_array_equal(answer(after, features, **own), wanted)
    if scheme == "float32":  # XNNPACK's sums have another order,
        np.testing.assert_allclose(answer(after, features), wanted, rtol=1e-5, atol=1e-5)
    else:  # and it rounds int8 otherwise: integer_model knows how
        assert agreement(IntegerModel(after), after, features) <= 1e-6


def test_input_may_be_resized_again_and_again(made: Any) -> None:
    """As TF Serving does for requests of other sizes."""
    model, before = made(cnn, "float32")
    interpreter = interpreter_of(with_static_shapes(before))
    (given,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()
    for count in (32, 1, 7):
        features = drawn(model, count, seed=count)
        interpreter.resize_tensor_input(given["index"], [count, 28, 28])
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], features["x"])
        interpreter.invoke()
        found = interpreter.get_tensor(result["index"])
        np.testing.assert_allclose(found, answer(before, features), rtol=1e-5, atol=1e-5)
        assert "DELEGATE" in {one["op_name"] for one in interpreter._get_ops_details()}


@pytest.mark.parametrize("scheme", ["float32", "int8_weights", "int8"])
def test_finished_files_have_constant_shapes(kinds: Any, trained: Any, scheme: Any) -> None:
    model = tf.keras.models.load_model(trained("image"), compile=False)
    schema_ = kinds["image"].schema
    features = {"image": drawn(cnn(), 50, seed=0)["x"]}

    def convert() -> bytes:
        if scheme == "int8":
            return convert_integer(model, schema_, scheme, features)
        return convert_float(rounded(model, scheme), schema_, scheme)

    tflite = convert()
    signature = signatures.read_signature_metadata(tflite)[KEY]
    assert "DELEGATE" in operators(tflite)
    assert SHAPE_OPERATORS.isdisjoint(operators(tflite))
    assert [dim.size for dim in signature.inputs["image"].tensor_shape.dim] == [-1, 28, 28]
    assert [dim.size for dim in signature.outputs["scores"].tensor_shape.dim] == [-1, 3]
    np.testing.assert_allclose(answer(tflite, features).sum(axis=1), 1, atol=1e-5)
    assert convert() == tflite


def converted(function: Callable[[tf.Tensor], tf.Tensor], *shape: int | None) -> bytes:
    traced = tf.function(function, autograph=False, input_signature=[tf.TensorSpec(shape)])
    module = tf.Module()
    concrete = traced.get_concrete_function()
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert())


@pytest.mark.parametrize(
    ("new_shape", "wanted"),
    [
        (lambda shape: tf.stack([shape[0], 3, 2]), [-1, 3, 2]),
        (lambda shape: tf.stack([3, 2, shape[-3]]), [3, 2, -1]),
        (lambda shape: tf.concat([shape[:1], [1], shape[1:]], 0), [-1, 1, 2, 3]),
        (lambda shape: tf.concat([shape[::2], [2]], 0), [-1, 3, 2]),
        (lambda shape: tf.gather(shape, [0, 2, 1]), [-1, 3, 2]),
        (lambda shape: tf.stack([tf.reduce_prod(shape[:2]), shape[2]]), [-1, 3]),
        (lambda shape: tf.stack([shape[0], tf.reduce_prod(shape[1:])]), [-1, 6]),
    ],
)
def test_what_is_known_of_a_computed_shape(new_shape: Any, wanted: list[int]) -> None:
    """Examples of shape [2, 3]."""
    before = converted(lambda x: tf.reshape(x, new_shape(tf.shape(x))) + 1.0, None, 2, 3)
    after = with_static_shapes(before)
    value = np.arange(24, dtype=np.float32).reshape(4, 2, 3)

    assert reshapes(after) == [wanted]
    interpreter = tf.lite.Interpreter(model_content=after)
    interpreter.resize_tensor_input(0, value.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, value)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(found, value.reshape(wanted) + 1)


@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [
        ((None, None, 4), lambda shape: tf.stack([shape[0], shape[1], 2, 2])),  # two unknown
        ((None, 4), lambda shape: tf.stack([shape[0] * 2, shape[0], 2])),
        ((None, 4), lambda shape: tf.fill(shape[:1], 1)),  # not even how many sizes
    ],
)
def test_a_shape_that_the_batch_decides_stays(shape: Any, new_shape: Any) -> None:
    tflite = converted(lambda x: tf.reshape(x, new_shape(tf.shape(x))) + 1.0, *shape)

    assert None in reshapes(tflite)
    assert with_static_shapes(tflite) == tflite


def test_a_shape_that_is_also_an_answer_is_still_computed() -> None:
    def both(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.stack([tf.shape(x)[0], 2, 2])
        return tf.reshape(x, shape) + 1.0, shape

    after = with_static_shapes(converted(both, None, 4))

    assert reshapes(after) == [[-1, 2, 2]]
    assert {"SHAPE", "STRIDED_SLICE", "PACK"} <= set(operators(after))


def test_a_file_with_constant_shapes_stays_as_it_is(made: Any) -> None:
    after = with_static_shapes(made(sequence, "float32")[1])

    assert with_static_shapes(after) == after
