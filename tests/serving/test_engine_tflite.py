"""The TFLite engine: shapes, batches in parts, pools, and which models it takes."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.components.shared.errors import ServingError
from privet.serving import engine_tflite, tflite_model
from privet.serving.engine_tflite import TFLiteEngine
from privet.serving.status import Code, RequestError, WouldBlockError

KEY = "serving_default"


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def engine_of(function: Callable[..., Any], *specs: Any, num_pools: int | None = 1) -> TFLiteEngine:
    """An engine over a function, whose inputs are the names and outputs the keys it returns."""
    import tensorflow as tf

    from privet.components.shared.signatures import tflite_signature, with_signature_metadata

    class Model(tf.Module):
        pass

    model = Model()
    model.serve = tf.function(function, input_signature=list(specs))
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [model.serve.get_concrete_function()], model
    )
    content = converter.convert()
    return TFLiteEngine(
        with_signature_metadata(content, {KEY: tflite_signature(content, KEY)}), num_pools
    )


def spec(shape: list[int | None] | None, dtype: str = "float32", name: str = "x") -> Any:
    import tensorflow as tf

    return tf.TensorSpec(shape, dtype, name=name)


@pytest.fixture(scope="module")
def dense() -> TFLiteEngine:
    """x [-1, 2] times [[1, 2, 3], [10, 20, 30]], in exact arithmetic; two pools."""
    import tensorflow as tf

    kernel = tf.constant([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    return engine_of(lambda x: {"y": tf.matmul(x, kernel)}, spec([None, 2]), num_pools=2)


@pytest.mark.parametrize("rows", [1, 2, 5, 31, 32, 33, 100])
def test_a_batch_of_any_size_runs_in_parts(dense: TFLiteEngine, rows: int) -> None:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)

    y = dense.run(KEY, {"x": x})["y"]

    np.testing.assert_array_equal(y, np.outer(x[:, 0] + 10 * x[:, 1], [1, 2, 3]))
    assert y.flags.owndata


def test_few_interpreters_serve_all_batch_sizes(dense: TFLiteEngine) -> None:
    for rows in range(70):
        dense.run(KEY, {"x": np.zeros((rows, 2), np.float32)})

    kept = {shapes[0][0] for pool in dense._pools for _, shapes in pool.interpreters}
    assert kept == {1, 2, 4, 8, 16, 32}


def test_no_rows_give_no_rows(dense: TFLiteEngine) -> None:
    assert dense.run(KEY, {"x": np.zeros((0, 2), np.float32)})["y"].shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((1, 3), "[1,3]"), ((2,), "[2]"), ((), "[]"), ((1, 1, 2), "[1,1,2]"), ((1, 0), "[1,0]")],
)
def test_another_shape_is_an_invalid_argument_that_says_the_wanted_one(
    dense: TFLiteEngine, shape: tuple[int, ...], text: str
) -> None:
    with pytest.raises(RequestError) as caught:
        dense.run(KEY, {"x": np.zeros(shape, np.float32)})

    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == (
        f"Expects arg[0] (x) to be of shape [-1,2] but {text} is provided"
    )


def test_an_array_whose_bytes_are_swapped_is_not_misread(dense: TFLiteEngine) -> None:
    with pytest.raises(RequestError, match=r"Expects arg\[0\] to be float"):
        dense.run(KEY, {"x": np.ones((1, 2), ">f4")})


def test_a_scalar_and_a_tensor_of_any_rank_are_told_apart() -> None:
    scalar = engine_of(lambda x: {"y": 2.0 * x}, spec([]))
    any_rank = engine_of(lambda x: {"y": 2.0 * x}, spec(None))

    assert scalar.run(KEY, {"x": np.float32(3).reshape(())})["y"] == 6
    with pytest.raises(RequestError, match=r"shape \[\] but \[2\] is provided"):
        scalar.run(KEY, {"x": floats(1, 2)})
    for shape in ((), (2,), (2, 3)):
        assert any_rank.run(KEY, {"x": np.ones(shape, np.float32)})["y"].shape == shape
    with pytest.raises(RequestError, match=r"without elements; the shapes are \[2,0\]"):
        any_rank.run(KEY, {"x": np.ones((2, 0), np.float32)})


def test_sizes_that_the_model_leaves_open_and_cannot_take_are_an_invalid_argument() -> None:
    pair = engine_of(lambda a, b: {"sum": a + b}, spec([None], name="a"), spec([None], name="b"))

    assert pair.run(KEY, {"a": floats(1, 2, 3), "b": floats(4, 5, 6)})["sum"].tolist() == [5, 7, 9]
    assert pair.run(KEY, {"a": floats(1, 2, 3), "b": floats(4)})["sum"].tolist() == [5, 6, 7]
    with pytest.raises(RequestError, match="Failed to allocate tensors") as caught:
        pair.run(KEY, {"a": floats(1, 2, 3), "b": floats(4, 5)})
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 1, 1), (1, 1, 2, 1), (1, 2, 1, 1)])
def test_an_image_smaller_than_the_filter_is_an_invalid_argument(shape: tuple[int, ...]) -> None:
    import tensorflow as tf

    engine = engine_of(
        lambda x: {"y": tf.nn.max_pool2d(x, 3, 1, "VALID")}, spec([None, None, None, 1])
    )

    assert engine.run(KEY, {"x": np.ones((1, 4, 3, 1), np.float32)})["y"].shape == (1, 2, 1, 1)
    with pytest.raises(RequestError) as caught:
        engine.run(KEY, {"x": np.ones(shape, np.float32)})
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_rows_that_touch_each_other_are_not_parted() -> None:
    import tensorflow as tf

    engine = engine_of(lambda x: {"y": x - tf.reduce_mean(x, axis=0)}, spec([None, 1]))

    y = engine.run(KEY, {"x": floats(0, 3, 6).reshape(3, 1)})["y"]

    np.testing.assert_allclose(y, [[-3], [0], [3]], atol=1e-6)


def test_a_number_for_the_whole_batch_is_not_parted() -> None:
    import tensorflow as tf

    engine = engine_of(lambda x: {"total": tf.reduce_sum(x)}, spec([None]))

    assert engine.run(KEY, {"x": floats(1, 2, 4)})["total"] == 7


def test_no_more_interpreters_are_kept_than_a_pool_holds() -> None:
    engine = engine_of(lambda x: {"y": 2.0 * x}, spec([None, None]))
    for columns in range(1, 20):
        engine.run(KEY, {"x": np.ones((1, columns), np.float32)})

    (pool,) = engine._pools
    shapes = [shapes[0] for _, shapes in pool.interpreters]
    assert shapes == [(1, columns) for columns in range(8, 20)]


def test_one_pool_serves_many_threads_in_turn(saved_models: dict[float, Path]) -> None:
    engine = TFLiteEngine((saved_models[2.0] / "model.tflite").read_bytes(), num_pools=1)
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        results[number] = [
            engine.run(KEY, {"x": np.full(rows, number, np.float32)})["y"].tolist()
            for rows in (1, 3, 8)
        ]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {n: [[0.5 * n + 2] * rows for rows in (1, 3, 8)] for n in range(6)}


def test_parts_are_powers_of_two_that_cover_every_row_once() -> None:
    assert engine_tflite._parts(0) == []
    assert engine_tflite._parts(33) == [(0, 32), (32, 33)]
    assert engine_tflite._parts(70) == [(0, 32), (32, 64), (64, 68), (68, 70)]


def test_both_packages_interpreters_are_taken_and_agree(
    saved_models: dict[float, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (saved_models[2.0] / "model.tflite").read_bytes()
    whole = TFLiteEngine(content)
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)  # as if not installed
    thin = TFLiteEngine(content)

    assert tflite_model._interpreter_class().__module__.startswith("tflite_runtime")
    x = np.linspace(-3, 3, 37, dtype=np.float32)
    assert thin.run(KEY, {"x": x})["y"].tobytes() == whole.run(KEY, {"x": x})["y"].tobytes()


def test_a_damaged_file_is_refused(saved_models: dict[float, Path]) -> None:
    content = (saved_models[2.0] / "model.tflite").read_bytes()

    with pytest.raises(ServingError, match="damaged"):
        TFLiteEngine(content[: len(content) // 2])


def test_tflite_without_metadata_gets_tf_servings_stand_in_names(
    saved_models: dict[float, Path],
) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_models[2.0]), signature_keys=[KEY]
    )
    engine = TFLiteEngine(converter.convert())

    assert list(engine.signatures[KEY].inputs) == ["serving_default_x"]
    (output,) = engine.signatures[KEY].outputs
    assert "PartitionedCall" in output
    assert ":" not in output
    result = engine.run(KEY, {"serving_default_x": floats(1)})
    np.testing.assert_array_equal(result[output], [2.5])


def test_tflite_with_select_operators_is_refused_as_tf_serving_could_not_run_it() -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([2, 2], tf.float32, name="x")])
    def inverse(x: Any) -> Any:
        return {"y": tf.linalg.inv(x)}

    module = tf.Module()
    module.inverse = inverse
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [inverse.get_concrete_function()], module
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    with pytest.raises(ServingError, match="FlexMatrixInverse"):
        TFLiteEngine(converter.convert())


def test_an_event_loop_does_not_wait_for_a_pool(dense: TFLiteEngine) -> None:
    async def run_here() -> dict[str, np.ndarray]:
        return dense.run(KEY, {"x": np.zeros((1, 2), np.float32)})

    assert asyncio.run(run_here())
    with contextlib.ExitStack() as stack:
        for pool in dense._pools:
            stack.enter_context(pool.lock)
        with pytest.raises(WouldBlockError):
            asyncio.run(run_here())
    assert asyncio.run(run_here())


def test_rows_that_are_compared_with_each_other_are_not_split() -> None:
    import tensorflow as tf

    engine = engine_of(
        lambda x, z: {"y": tf.matmul(x, z, transpose_b=True)},
        spec([None, 2]),
        spec([None, 2], name="z"),
    )
    given = floats(*range(6)).reshape(3, 2)

    answer = engine.run(KEY, {"x": given, "z": given})

    np.testing.assert_array_equal(answer["y"], given @ given.T)
