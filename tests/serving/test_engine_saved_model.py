"""What is particular to the SavedModel engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privet.serving.engine import Engine, load_engine
from privet.serving.engine_saved_model import SavedModelEngine
from privet.serving.status import Code, RequestError

KEY = "serving_default"


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def engine(saved_models: dict[float, Path]) -> Iterator[Engine]:
    engine = SavedModelEngine(saved_models[2.0])
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=["callable", "public method"])
def odd(request: pytest.FixtureRequest, odd_model: Path) -> Iterator[Engine]:
    """The odd model, through the low-overhead callable and without it."""
    from tensorflow.python.client import session

    with pytest.MonkeyPatch.context() as patch:
        if request.param == "public method":
            patch.delattr(session.BaseSession, "_make_callable_from_options")
        engine = SavedModelEngine(odd_model)
        yield engine
        engine.close()


def test_operator_errors_keep_code_and_text(engine: Engine) -> None:
    with pytest.raises(RequestError, match="Matrix size-incompatible") as caught:
        engine.run("dense", {"x": np.ones((1, 3), np.float32)})

    assert caught.value.code is Code.INVALID_ARGUMENT


def test_strings_and_several_outputs(engine: Engine) -> None:
    pair = engine.run("pair", {"a": floats(2), "b": floats(5)})
    text = engine.run("text", {"text": np.array([b"\xff\x00", b""], object)})

    assert {name: value.tolist() for name, value in pair.items()} == {
        "product": [10.0],
        "sum": [7.0],
    }
    assert text["copy"].tolist() == [b"\xff\x00", b""]
    assert list(engine.run("pair", {"b": floats(5), "a": floats(2)}, ("sum",))) == ["sum"]


def test_two_versions_side_by_side_do_not_share_variables(saved_models: dict[float, Path]) -> None:
    engines = {offset: SavedModelEngine(path) for offset, path in saved_models.items()}
    answers = {offset: engine.run(KEY, {"x": floats(2)})["y"] for offset, engine in engines.items()}
    engines[2.0].close()
    answers[0] = engines[3.0].run(KEY, {"x": floats(2)})["y"]
    engines[3.0].close()

    assert {offset: answer.tolist() for offset, answer in answers.items()} == {
        2.0: [3.0],
        3.0: [4.0],
        0: [4.0],
    }


def test_an_array_whose_bytes_are_swapped_is_not_misread(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"Expects arg\[0\] to be float"):
        engine.run(KEY, {"x": floats(1, 2).astype(">f4")})


def test_scalars_are_arrays_too(odd: Engine) -> None:
    outputs = odd.run("first", {"text": np.array(b"hello", object)})

    assert all(isinstance(output, np.ndarray) for output in outputs.values())
    assert outputs["text"].shape == outputs["length"].shape == ()
    assert outputs["text"].item() == b"h"
    assert outputs["length"].item() == 5


def test_signatures_that_cannot_run_leave_the_others_running(odd: Engine) -> None:
    with pytest.raises(RequestError, match='Tensor "y" of signature "ragged"') as ragged:
        odd.run("ragged", {"x": floats(1, 2, 3)})
    with pytest.raises(RequestError, match="NoOp") as init:
        odd.run("__saved_model_init_op", {})

    assert ragged.value.code is Code.INVALID_ARGUMENT
    assert init.value.code in (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE)  # REST: both are 400
    assert odd.run("branch", {"x": floats(3)})["y"].tolist() == [3.0]
    assert odd.run("branch", {"x": floats(-3)})["y"].tolist() == [-1.0, -10.0]


def test_signatures_that_may_change_the_model_are_known(odd: Engine, engine: Engine) -> None:
    changing = {name for name, found in odd.signatures.items() if found.may_change_state}

    assert changing == {"count"}
    assert not any(found.may_change_state for found in engine.signatures.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "variables/variables.index").unlink(), "loading it failed with"),
        (lambda path: retag(path), r"available tags '\[\{'train'\}\]'"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(
    saved_models: dict[float, Path], tmp_path: Path, change: Any, message: str
) -> None:
    import shutil

    path = shutil.copytree(saved_models[2.0], tmp_path / "1")
    change(path)

    with pytest.raises(Exception, match=message):
        load_engine(path, prefer_tflite_model=False)


def retag(path: Path) -> None:
    """Makes it a model for training."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    model.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
