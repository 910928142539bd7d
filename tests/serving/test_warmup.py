"""Warm-up: made-up requests where a version brings none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privet.serving.batching import BatchingEngine
from privet.serving.batching_config import BatchingConfig
from privet.serving.engine import Engine, load_engine
from privet.serving.engine_saved_model import SavedModelEngine
from privet.serving.warmup import warm_up


@pytest.fixture
def odd(odd_model: Path) -> Iterator[Engine]:
    engine = SavedModelEngine(odd_model)
    yield engine
    engine.close()


def test_every_signature_runs_except_what_fails_or_changes_the_model(
    odd: Engine, tmp_path: Path
) -> None:
    result = warm_up(odd, tmp_path, 1)

    # Not `count`, which would change it, nor `dense`, whose guessed shape is wrong, nor `ragged`.
    assert result.made_up
    assert result.requests == len({"serving_default", "first", "branch"})
    assert result.seconds > 0
    zero = np.zeros(1, np.float32)
    assert odd.run("serving_default", {"x": zero})["y"].tolist() == [0.0]
    assert odd.run("count", {"x": zero})["y"].tolist() == [1.0]  # the first call of it


@pytest.mark.parametrize("prefer_tflite", [False, True])
def test_both_engines_and_every_batch_size(
    saved_models: dict[float, Path], tmp_path: Path, prefer_tflite: bool
) -> None:
    config = BatchingConfig(max_batch_size=8, allowed_batch_sizes=(2, 8))
    engine = BatchingEngine(load_engine(saved_models[2.0], prefer_tflite), config)
    result = warm_up(engine, tmp_path, 1, config.warm_up_sizes)
    engine.close()

    # Of the SavedModel's eight signatures those of tf.Examples refuse empty ones, and `total`
    # cannot be batched.
    assert result.requests == (2 if prefer_tflite else 2 * 5)


def test_without_tensorflow_the_requests_are_made_up(
    odd: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra/tf_serving_warmup_requests").write_bytes(b"cannot be read")
    monkeypatch.setattr("privet.serving.warmup.has_request_protos", lambda: False)

    assert warm_up(odd, tmp_path, 1).made_up


def test_tflite_is_not_given_images_of_guessed_sizes(tmp_path: Path) -> None:
    import tensorflow as tf

    from privet.serving.engine_tflite import TFLiteEngine

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.float32, name="x")])
    def pool(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.max_pool2d(x, 3, 2, "VALID")}  # of 1 x 1: memory is overwritten

    model = tf.Module()
    model.pool = pool
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [pool.get_concrete_function()], model
    )
    engine = TFLiteEngine(converter.convert())

    assert warm_up(engine, tmp_path, 1).requests == 0
