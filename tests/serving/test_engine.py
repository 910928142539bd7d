"""The engine contract, on both engines, each by itself and batched, and TFLite's particulars."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ServingError
from privet.serving.batching import BatchingEngine
from privet.serving.batching_config import BatchingConfig
from privet.serving.engine import Engine, load_engine
from privet.serving.status import Code, RequestError

KEY = "serving_default"


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture(
    scope="module", params=["savedmodel", "tflite", "savedmodel batched", "tflite batched"]
)
def engine(request: pytest.FixtureRequest, saved_models: dict[float, Path]) -> Iterator[Engine]:
    kind, _, batched = request.param.partition(" ")
    engine = load_engine(saved_models[2.0], prefer_tflite_model=kind == "tflite")
    if batched:
        engine = BatchingEngine(engine, BatchingConfig(num_batch_threads=1))
    assert engine.kind == kind
    assert engine.may_block is bool(batched)
    yield engine
    engine.close()


def test_signature_has_the_same_names_types_and_shapes(engine: Engine) -> None:
    signature = engine.signatures[KEY]

    assert list(signature.inputs) == ["x"]
    assert list(signature.outputs) == ["y"]
    assert signature.inputs["x"].type_name == "float"
    assert signature.inputs["x"].numpy_type is np.float32
    assert signature.inputs["x"].shape == (-1,)
    assert signature.method_name == "tensorflow/serving/predict"
    assert set(engine.signature_defs) == set(engine.signatures)


def test_half_plus_two(engine: Engine) -> None:
    outputs = engine.run(KEY, {"x": floats(1, 2, 5)})

    assert outputs["y"].dtype == np.float32
    np.testing.assert_array_equal(outputs["y"], [2.5, 3.0, 4.5])


def test_any_batch_size_in_any_order(engine: Engine) -> None:
    for batch_size in (1, 3, 64, 1, 0, 3):
        x = np.arange(batch_size, dtype=np.float32)

        np.testing.assert_array_equal(engine.run(KEY, {"x": x})["y"], 0.5 * x + 2)


def test_output_filter_names_what_comes_back(engine: Engine) -> None:
    assert list(engine.run(KEY, {"x": floats(1)}, ("y",))) == ["y"]


def test_results_are_the_callers_own(engine: Engine) -> None:
    first = engine.run(KEY, {"x": floats(1)})["y"]
    engine.run(KEY, {"x": floats(9)})

    np.testing.assert_array_equal(first, [2.5])


def test_wrong_type_is_an_invalid_argument(engine: Engine) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(KEY, {"x": np.array([1.0])})

    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == "Expects arg[0] to be float but double is provided"


def test_threads_do_not_mix_up_their_results(engine: Engine) -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for step in range(60):
            x = np.full(1 + (number + step) % 5, number * 1000 + step, np.float32)
            try:
                y = engine.run(KEY, {"x": x})["y"]
            except Exception as error:
                wrong.append(error)
            else:
                if not np.array_equal(y, 0.5 * x + 2):
                    wrong.append((x, y))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_saved_model_takes_any_rank_as_tf_serving_does(saved_models: dict[float, Path]) -> None:
    engine = load_engine(saved_models[2.0], prefer_tflite_model=False)
    outputs = engine.run(KEY, {"x": floats(1, 2, 3, 4).reshape(2, 2)})
    engine.close()

    np.testing.assert_array_equal(outputs["y"], [[2.5, 3.0], [3.5, 4.0]])


@pytest.mark.parametrize(
    ("files", "prefer_tflite", "message"),
    [
        ({}, False, r"Could not find SavedModel \.pb"),
        ({"model.tflite": b"x"}, False, "add --prefer_tflite_model"),
        ({"model.tflite": b"x"}, True, "Cannot build FlatBufferModel"),
        ({"saved_model.pb": b"nonsense"}, False, "loading it failed"),
    ],
)
def test_a_broken_version_says_what_is_wrong(
    tmp_path: Path, files: dict[str, bytes], prefer_tflite: bool, message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ServingError, match=message):
        load_engine(tmp_path, prefer_tflite)
