"""A candidate on a real `privet serve` process: what is blessed, what is not, and why."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from privet.components.shared.schema import Schema
from privet.components.validate import infra
from privet.components.validate.config import InfraConfig
from privet.components.validate.infra import check_servable, sample_inputs


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tries one form of the model only, where the other adds nothing but time."""

    def choose(engine: str) -> None:
        monkeypatch.setattr(infra, "ENGINES", {engine: infra.ENGINES[engine]})

    return choose


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    assert [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "privet.pipeline.cli" in child.cmdline()
    ] == []


@pytest.fixture
def candidate(servable: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(servable("binary", "int8_weights"), tmp_path / "candidate"))


# Two inputs, one of them integers: rows and columns differ most here. Images of bytes; indices of
# words beside a number without an axis.
@pytest.mark.parametrize("kind", ["embedding", "image", "text"])
def test_good_servable_is_blessed_through_both_engines_and_every_api(
    kinds: Any, servable: Any, kind: str
) -> None:
    folder = str(servable(kind, "int8_weights"))
    result = check_servable(folder, kinds[kind].schema, InfraConfig(requests=5))

    assert result["blessed"] is True, result
    tried = {(check["engine"], check["api"]) for check in result["checks"]}
    assert tried == {
        (engine, api)
        for engine in ("saved_model", "tflite")
        for api in ("REST predict (columns)", "REST predict (rows)", "gRPC predict")
    } | {("saved_model", "REST classify")}
    assert all(check["passed"] for check in result["checks"])
    assert all(check["detail"].startswith("largest difference") for check in result["checks"])


def test_tflite_file_of_another_model_is_refused_with_the_difference(
    kinds: Any, servable: Any, candidate: Path, only: Any
) -> None:
    shutil.copy(servable("other_binary", "int8_weights") / "model.tflite", candidate)
    only("tflite")
    result = check_servable(str(candidate), kinds["binary"].schema, InfraConfig(requests=3))

    assert result["blessed"] is False
    assert len(result["checks"]) == 3
    for check in result["checks"]:
        assert check["passed"] is False
        assert float(check["detail"].removeprefix("largest difference ")) > 1e-3


def test_servable_that_cannot_be_loaded_is_refused_with_the_servers_message(
    kinds: Any, candidate: Path, only: Any
) -> None:
    (candidate / "model.tflite").write_bytes(b"this is no TFLite model")
    only("tflite")
    result = check_servable(str(candidate), kinds["binary"].schema, InfraConfig())

    assert result["blessed"] is False
    (check,) = result["checks"]
    assert (check["engine"], check["api"]) == ("tflite", "server start")
    assert "privet serve ended with code 1" in check["detail"]
    assert "TFLite model; got 23 bytes that start with b'this is '" in check["detail"]


def test_broken_saved_model_is_refused_before_any_server(kinds: Any, candidate: Path) -> None:
    (candidate / "saved_model.pb").write_bytes(b"this is no SavedModel")
    result = check_servable(str(candidate), kinds["binary"].schema, InfraConfig())

    assert result["blessed"] is False
    (check,) = result["checks"]
    assert check["passed"] is False
    assert "saved_model.pb" in check["detail"]


def test_servable_of_another_schema_is_refused(kinds: Any, candidate: Path) -> None:
    result = check_servable(str(candidate), kinds["convolutional"].schema, InfraConfig())

    assert result["blessed"] is False


def test_server_that_is_too_slow_is_refused_and_ended(
    kinds: Any, candidate: Path, only: Any
) -> None:
    only("saved_model")
    config = InfraConfig(timeout_seconds=0.01)
    result = check_servable(str(candidate), kinds["binary"].schema, config)

    (check,) = result["checks"]
    assert result["blessed"] is False
    assert "was not ready within 0.01 s" in check["detail"]
    assert "infra.timeout_seconds" in check["detail"]


bounds = st.none() | st.floats(-1000, 1000, width=32, allow_subnormal=False)


@given(bounds, bounds, st.sampled_from(["float32", "int64"]))
def test_inputs_are_inside_the_public_range(
    minimum: float | None, maximum: float | None, dtype: str
) -> None:
    assume(minimum is None or maximum is None or minimum + 1 <= maximum)
    feature = {"columns": "x_{0..2}", "dtype": dtype, "minimum": minimum, "maximum": maximum}
    schema = Schema.from_mapping(
        {"client_id": "c", "features": {"x": feature}, "label": {"column": "y"}}
    )
    values = sample_inputs(schema, 4)["x"]

    assert values.shape == (4, 3)
    assert values.dtype == dtype
    assert minimum is None or np.all(values >= minimum)
    assert maximum is None or np.all(values <= maximum)
    np.testing.assert_array_equal(values, sample_inputs(schema, 4)["x"])


@pytest.mark.parametrize(
    ("minimum", "maximum", "low", "high"),
    [(None, None, 0, 255), (3, None, 3, 255), (None, 9, 0, 9), (7, 7, 7, 7)],
)
def test_bytes_take_their_whole_range(
    minimum: float | None, maximum: float | None, low: int, high: int
) -> None:
    feature = {"columns": "x", "dtype": "uint8", "shape": [20, 20]}
    feature |= {"minimum": minimum, "maximum": maximum}
    schema = Schema.from_mapping(
        {"client_id": "c", "features": {"x": feature}, "label": {"column": "y"}}
    )
    values = sample_inputs(schema, 20)["x"]

    assert (values.dtype, values.shape) == (np.uint8, (20, 20, 20))
    assert (values.min(), values.max()) == (low, high)


@pytest.mark.parametrize(
    ("tokens", "unknown", "last"),
    [("whole", "reject", 2), ("whole", "index", 3), ("words", "reject", 3), ("words", "index", 4)],
)
def test_indices_of_a_vocabulary_take_its_range(tokens: str, unknown: str, last: int) -> None:
    feature = {"columns": "x", "dtype": "int64", "shape": [9], "vocabulary": ["a", "b", "c"]}
    feature |= {"tokens": tokens, "unknown": unknown}
    schema = Schema.from_mapping(
        {"client_id": "c", "features": {"x": feature}, "label": {"column": "y"}}
    )

    assert set(sample_inputs(schema, 100)["x"].ravel()) == set(range(last + 1))
