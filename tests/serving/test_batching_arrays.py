"""Joining requests into a batch and cutting its outputs up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.serving.batching_arrays import (
    count_examples,
    has_batch_dimension,
    join_inputs,
    split_outputs,
)
from privet.serving.engine import Signature, TensorSpec
from privet.serving.status import Code, RequestError


def test_two_requests_and_padding_by_hand() -> None:
    requests = [{"x": np.array([[1], [2]])}, {"x": np.array([[3]])}]

    joined = join_inputs(requests, 5)
    assert joined["x"].tolist() == [[1], [2], [3], [3], [3]]  # the last request's first example
    first, second = split_outputs({"y": 10 * joined["x"]}, [2, 1], 5)
    assert first["y"].tolist() == [[10], [20]]
    assert second["y"].tolist() == [[30]]


def test_shorter_inputs_are_filled_up_with_their_own_first_value() -> None:
    requests = [{"x": np.array([[1, 2, 3]])}, {"x": np.array([[4], [5]])}]

    assert join_inputs(requests, 3)["x"].tolist() == [[1, 2, 3], [4, 4, 4], [5, 4, 4]]
    strings = [{"x": np.array([[b"a"]], object)}, {"x": np.array([[b"b", b"c"]], object)}]
    assert join_inputs(strings, 2)["x"].tolist() == [[b"a", b"a"], [b"b", b"c"]]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 2), (1, 0)], "Got empty tensor in batch of non-empty tensors."),
        ([(1,) * 6 + (2,), (1,) * 7], "Only tensors with rank from 1 to 6 can be padded."),
    ],
)
def test_what_cannot_be_filled_up_is_refused(shapes: list, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        join_inputs([{"x": np.zeros(shape)} for shape in shapes], 2)

    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4), st.integers(0, 2))
def test_every_request_gets_its_own_rows_back(sizes: list[int], padding: int, width: int) -> None:
    total = sum(sizes)
    rows = np.arange(total * width).reshape(total, width)
    requests = [{"x": part} for part in np.split(rows, np.cumsum(sizes)[:-1])]
    size = total + padding

    results = split_outputs({"y": join_inputs(requests, size)["x"]}, sizes, size)
    for request, result in zip(requests, results, strict=True):
        np.testing.assert_array_equal(result["y"], request["x"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.zeros(())}, "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": np.zeros(2), "y": np.zeros(3)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_requests_without_a_batch_are_refused_as_tf_serving_does(
    inputs: dict, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        count_examples(inputs)

    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros(()), "Batched output tensor has 0 dimensions"),
        (
            np.zeros(2),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_outputs_without_a_row_for_each_example_are_refused_as_tf_serving_does(
    output: np.ndarray, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        split_outputs({"y": output}, [3], 3)

    assert (caught.value.code, caught.value.message) == (Code.FAILED_PRECONDITION, message)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((-1, 2), True), (None, True), ((-1,), True), ((3, 2), False), ((), False)],
)
def test_only_a_first_dimension_of_any_size_is_a_batch(shape: tuple | None, expected: bool) -> None:
    free, other = (TensorSpec("t:0", "float", np.float32, s) for s in ((-1,), shape))

    assert has_batch_dimension(Signature("s", "", {"x": free}, {"y": other})) is expected
    assert has_batch_dimension(Signature("s", "", {"x": other}, {"y": free})) is expected
