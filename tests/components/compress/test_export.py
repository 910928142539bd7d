"""The servable: SavedModel and TFLite answer alike, through every signature."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from privet.components.compress.export import KerasPredictor, export_saved_model
from privet.components.compress.quantize import quantize_weights, rounded
from privet.components.shared import signatures
from privet.components.validate.infra import sample_inputs
from privet.serving.engine import load_engine
from privet.serving.warmup import warm_up

KINDS = ("convolutional", "embedding", "binary", "regression", "image", "text")
CASES = [("convolutional", scheme) for scheme in ("float32", "float16", "int8_weights")]
CASES += [(kind, "int8_weights") for kind in KINDS[1:]] + [("embedding", "float16")]
CASES += [("image", "float16"), ("image", "float32")]


def saved_model_answer(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = tf.saved_model.load(str(folder))
    outputs = model.signatures["serving_default"](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    return {name: value.numpy() for name, value in outputs.items()}


def interpreter(folder: Path) -> tf.lite.Interpreter:
    return tf.lite.Interpreter(model_content=(folder / "model.tflite").read_bytes())


def tensors(folder: Path) -> list[dict[str, Any]]:
    return interpreter(folder).get_tensor_details()


@pytest.mark.parametrize(("kind", "scheme"), CASES)
def test_saved_model_and_tflite_give_the_same_answers(
    kinds: Any, servable: Any, kind: str, scheme: str
) -> None:
    folder = servable(kind, scheme)
    inputs = sample_inputs(kinds[kind].schema, 32)
    wanted = saved_model_answer(folder, inputs)
    answer = interpreter(folder).get_signature_runner("serving_default")(**inputs)

    output = "prediction" if kind == "regression" else "scores"
    assert answer.keys() == wanted.keys() == {output}
    units = 1 if kind in ("binary", "regression") else 3
    assert wanted[output].shape == (32, units)
    assert np.ptp(wanted[output]) > 0.01  # answers differ, so that equality means something
    np.testing.assert_allclose(answer[output], wanted[output], atol=1e-6)


@pytest.mark.parametrize(("kind", "scheme"), CASES)
def test_servable_answers_as_the_rounded_keras_model(
    kinds: Any, servable: Any, trained: Any, kind: str, scheme: Any
) -> None:
    inputs = sample_inputs(kinds[kind].schema, 8)
    ((_, answer),) = saved_model_answer(servable(kind, scheme), inputs).items()
    model = rounded(tf.keras.models.load_model(trained(kind), compile=False), scheme)
    outputs = model(inputs if len(inputs) > 1 else next(iter(inputs.values())), training=False)
    if kind == "binary":
        outputs = tf.nn.sigmoid(outputs)
    elif kind != "regression":
        outputs = tf.nn.softmax(outputs)

    np.testing.assert_allclose(answer, outputs, atol=1e-6)


def test_single_example_and_many_are_answered(kinds: Any, servable: Any) -> None:
    folder = servable("convolutional", "int8_weights")
    inputs = sample_inputs(kinds["convolutional"].schema, 5)
    run = interpreter(folder).get_signature_runner("serving_default")
    many = run(**inputs)["scores"].copy()

    np.testing.assert_allclose(run(x=inputs["x"][3:4])["scores"], many[3:4], atol=1e-6)


def test_saved_model_holds_the_dequantized_int8_weights(trained: Any, servable: Any) -> None:
    model = tf.keras.models.load_model(trained("convolutional"), compile=False)
    names = [variable.name for variable in model.trainable_variables]
    wanted = quantize_weights(
        [variable.numpy() for variable in model.trainable_variables], names, "int8_weights"
    )
    reader = tf.train.load_checkpoint(
        str(servable("convolutional", "int8_weights") / "variables" / "variables")
    )
    stored = [
        reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.endswith(".ATTRIBUTES/VARIABLE_VALUE")
    ]

    for weight in wanted:
        assert any(part.shape == weight.shape and np.array_equal(part, weight) for part in stored)


@pytest.mark.parametrize(("kind", "matrices"), [("convolutional", 4), ("embedding", 2)])
def test_int8_file_holds_int8_tensors_and_is_really_smaller(
    servable: Any, kind: str, matrices: int
) -> None:
    folder = servable(kind, "int8_weights")
    int8 = [tensor for tensor in tensors(folder) if tensor["dtype"] == np.int8]

    assert len(int8) >= matrices
    assert all(tensor["quantization_parameters"]["scales"].size > 1 for tensor in int8)
    weights = sum(int(np.prod(tensor["shape"])) for tensor in int8)
    float_size = (servable(kind, "float32") / "model.tflite").stat().st_size
    saved = float_size - (folder / "model.tflite").stat().st_size
    # Three of four bytes are saved, less scales and operators.
    assert 3 * weights - 4096 < saved < 3 * weights
    if kind == "convolutional":
        assert saved > 0.55 * float_size


def test_float16_file_is_about_half(servable: Any) -> None:
    sizes = [
        (servable("convolutional", scheme) / "model.tflite").stat().st_size
        for scheme in ("float32", "float16")
    ]
    assert 0.45 < sizes[1] / sizes[0] < 0.65


def test_int8_weights_in_the_file_are_those_of_the_saved_model(trained: Any, servable: Any) -> None:
    """The dense kernel in the file, times its scales, is the SavedModel's to the last bit."""
    original = tf.keras.models.load_model(trained("convolutional"), compile=False)
    model = rounded(original, "int8_weights")
    kernel = model.get_layer("hidden").kernel.numpy()
    folder = servable("convolutional", "int8_weights")
    runner = interpreter(folder)
    (tensor,) = [
        one
        for one in runner.get_tensor_details()
        if one["dtype"] == np.int8 and tuple(one["shape"]) == kernel.T.shape
    ]
    runner.allocate_tensors()
    scales = tensor["quantization_parameters"]["scales"]

    assert tensor["quantization_parameters"]["quantized_dimension"] == 0
    np.testing.assert_allclose(
        runner.get_tensor(tensor["index"]).T * scales[None, :], kernel, rtol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_tflite_metadata_names_are_those_of_the_saved_model(servable: Any, kind: str) -> None:
    folder = servable(kind, "int8_weights")
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    (found,) = signatures.read_signature_metadata((folder / "model.tflite").read_bytes()).values()

    assert found.inputs.keys() == loaded.structured_input_signature[1].keys()
    assert found.outputs.keys() == loaded.structured_outputs.keys()
    names = {tensor["name"] for tensor in tensors(folder)}
    assert {info.name for info in (*found.inputs.values(), *found.outputs.values())} <= names


def examples(inputs: dict[str, np.ndarray]) -> tf.Tensor:
    """The rows as serialized tf.Examples."""
    rows = []
    for i in range(len(next(iter(inputs.values())))):
        features = {}
        for name, values in inputs.items():
            if values.dtype == np.float32:
                stored = tf.train.Feature(float_list=tf.train.FloatList(value=values[i].ravel()))
            else:
                stored = tf.train.Feature(int64_list=tf.train.Int64List(value=values[i].ravel()))
            features[name] = stored
        example = tf.train.Example(features=tf.train.Features(feature=features))
        rows.append(example.SerializeToString())
    return tf.constant(rows)


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("convolutional", [b"cat", b"dog", b"cow"]),
        ("embedding", [b"0", b"1", b"2"]),
        ("binary", [b"no", b"yes"]),
        ("image", [b"0", b"1", b"2"]),
        ("text", [b"0", b"1", b"2"]),
    ],
)
def test_classify_gives_every_class_with_its_score(
    kinds: Any, servable: Any, kind: str, classes: list[bytes]
) -> None:
    folder = servable(kind, "int8_weights")
    inputs = sample_inputs(kinds[kind].schema, 4)
    model = tf.saved_model.load(str(folder))
    answer = model.signatures["classify"](inputs=examples(inputs))
    scores = saved_model_answer(folder, inputs)["scores"]
    if kind == "binary":
        scores = np.concatenate([1 - scores, scores], axis=1)

    assert sorted(model.signatures) == ["classify", "serving_default"]
    assert answer["classes"].numpy().tolist() == [classes] * 4
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-6)
    np.testing.assert_allclose(answer["scores"].numpy().sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("wrong", [256, -1, 2**40])
def test_classify_refuses_a_number_that_uint8_would_wrap(
    kinds: Any, servable: Any, wrong: int
) -> None:
    model = tf.saved_model.load(str(servable("image", "int8_weights")))
    inputs = sample_inputs(kinds["image"].schema, 2)
    inputs["image"] = inputs["image"].astype(np.int64)
    inputs["image"][1, 3, 4] = wrong

    with pytest.raises(tf.errors.InvalidArgumentError, match="image must lie in 0 to 255") as error:
        model.signatures["classify"](inputs=examples(inputs))
    assert str(wrong) not in str(error.value)


def test_regress_gives_the_value(kinds: Any, servable: Any) -> None:
    folder = servable("regression", "int8_weights")
    inputs = sample_inputs(kinds["regression"].schema, 4)
    model = tf.saved_model.load(str(folder))
    answer = model.signatures["regress"](inputs=examples(inputs))

    assert sorted(model.signatures) == ["regress", "serving_default"]
    np.testing.assert_allclose(
        answer["outputs"], saved_model_answer(folder, inputs)["prediction"], atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_requests_hold_zeros_for_one_example_and_for_many(
    kinds: Any, servable: Any, kind: str
) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    path = servable(kind, "int8_weights") / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    features = kinds[kind].schema.features

    assert len(records) == 2
    assert path.stat().st_size < 400  # zeros are not written out
    for record, examples in zip(records, (1, 32), strict=True):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        assert request.inputs.keys() == features.keys()
        for name, feature in features.items():
            value = tf.make_ndarray(request.inputs[name])
            assert value.shape == (examples, *feature.example_shape)
            assert value.dtype == feature.dtype
            assert not value.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefer_tflite_model", [False, True])
def test_warm_up_replays_on_both_engines(
    servable: Any, kind: str, prefer_tflite_model: bool
) -> None:
    folder = servable(kind, "int8_weights")
    engine = load_engine(folder, prefer_tflite_model)

    warmed = warm_up(engine, folder, 1)
    assert (warmed.requests, warmed.made_up) == (2, False)
    engine.close()


def test_optimizer_is_not_exported(kinds: Any, tmp_path: Path) -> None:
    """Adam holds two more numbers per weight."""
    model = kinds["binary"].build()
    model.compile("adam", "mse")
    model.fit(np.ones((4, 6), np.float32), np.ones((4, 1), np.float32), verbose=0)
    predict = KerasPredictor(model, kinds["binary"].schema)
    export_saved_model(predict, kinds["binary"].schema, str(tmp_path / "1"))
    reader = tf.train.load_checkpoint(str(tmp_path / "1" / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    shapes.pop("_CHECKPOINTABLE_OBJECT_GRAPH")

    assert len(model.optimizer.variables) > 4
    assert sorted(shapes.values()) == [[1], [6, 32], [32], [32, 1]]


def test_table_of_a_model_is_exported(schema_of: Any, tmp_path: Path) -> None:
    word = tf.keras.Input((1,), name="word", dtype="int64")
    index = tf.keras.layers.IntegerLookup(vocabulary=[7, 9], output_mode="one_hot")(word)
    model = tf.keras.Model(word, index)  # [unknown, 7, 9]
    schema = schema_of(
        {"word": {"columns": ["w"], "dtype": "int64", "minimum": 0, "maximum": 9}}, 3
    )
    export_saved_model(KerasPredictor(model, schema), schema, str(tmp_path / "1"))
    inputs = {"word": np.array([[9], [7], [1]])}
    engine = load_engine(tmp_path / "1", prefer_tflite_model=False)
    served = engine.run("serving_default", inputs)["scores"]
    engine.close()

    assert served.argmax(axis=1).tolist() == [2, 1, 0]
    np.testing.assert_array_equal(served, saved_model_answer(tmp_path / "1", inputs)["scores"])


def test_version_directory_has_what_a_server_expects_and_no_more(servable: Any) -> None:
    folder = servable("binary", "int8_weights")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert names == {
        "saved_model.pb",
        "model.tflite",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets.extra/tf_serving_warmup_requests",
    }


def test_float32_weights_are_untouched(trained: Any) -> None:
    original = tf.keras.models.load_model(trained("convolutional"), compile=False)
    loaded = rounded(original, "float32")

    for one, other in zip(original.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
