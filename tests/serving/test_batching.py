"""Batching around real engines, and through a whole server."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privet.serving.batching import BatchingEngine
from privet.serving.batching_config import BatchingConfig
from privet.serving.client import GrpcClient, RestClient
from privet.serving.config import ServerConfig
from privet.serving.engine import Engine
from privet.serving.engine_saved_model import SavedModelEngine
from privet.serving.ports import free_port
from privet.serving.rest import RestApi
from privet.serving.running import RunningServer
from privet.serving.status import Code, RequestError
from privet.serving.versions import Servable

SECONDS = 20
KEY = "serving_default"


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def example(*values: float) -> bytes:
    import tensorflow as tf

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


class Held:
    """An engine that runs its first request when it is told to, and notes what it runs."""

    kind = "savedmodel"
    may_block = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.signatures = engine.signatures
        self.signature_defs = engine.signature_defs
        self.started, self.go = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def run(
        self, signature_name: str, inputs: Mapping[str, np.ndarray], output_filter: Any = ()
    ) -> dict[str, np.ndarray]:
        self.sizes.append(len(next(iter(inputs.values()))))
        self.started.set()
        assert self.go.wait(SECONDS)
        return self._engine.run(signature_name, inputs, output_filter)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def engine(saved_models: dict[float, Path]) -> Iterator[Engine]:
    engine = SavedModelEngine(saved_models[2.0])
    yield engine
    engine.close()


def together(
    engine: Engine, requests: list[tuple], **options: Any
) -> tuple[list[Future], list[int]]:
    """Sends requests while another one runs.

    Returns:
      What came of each, and the sizes of the batches that they ran in.
    """
    held = Held(engine)
    batching = BatchingEngine(held, BatchingConfig(**{"num_batch_threads": 1, **options}))
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        pool.submit(batching.run, KEY, {"x": floats(0)})
        assert held.started.wait(SECONDS)
        futures = []
        for request in requests:
            waiting = batching.count_waiting()
            futures.append(future := pool.submit(batching.run, *request))
            deadline = time.monotonic() + SECONDS
            while not future.done() and batching.count_waiting() == waiting:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        held.go.set()
    return futures, held.sizes[1:]


def test_only_requests_that_fit_run_together(engine: Engine) -> None:
    a, b = floats(1, 2), floats(3, 4)
    futures, sizes = together(
        engine,
        [
            (KEY, {"x": floats(1, 2)}),
            (KEY, {"x": floats(3)}),
            (KEY, {"x": floats(1, 2, 3).reshape(1, 3)}),  # another shape
            ("pair", {"a": a, "b": b}),
            ("pair", {"b": b, "a": a}),  # the same, in another order
            ("pair", {"a": a, "b": b}, ("sum",)),  # other outputs
        ],
    )

    outputs = [{k: v.tolist() for k, v in future.result().items()} for future in futures]
    pair = {"product": [3.0, 8.0], "sum": [4.0, 6.0]}
    assert outputs == [
        {"y": [2.5, 3.0]},
        {"y": [3.5]},
        {"y": [[2.5, 3.0, 3.5]]},
        pair,
        pair,
        {"sum": [4.0, 6.0]},
    ]
    assert sizes == [3, 1, 4, 2]


def test_a_request_without_examples_runs_by_itself(engine: Engine) -> None:
    config = BatchingConfig(max_batch_size=4, allowed_batch_sizes=(4,))

    assert BatchingEngine(engine, config).run(KEY, {"x": floats()})["y"].tolist() == []


def test_a_bad_request_does_not_fail_its_neighbours(engine: Engine) -> None:
    good, bad = example(2, 10), b"this is no tf.Example"
    futures, sizes = together(
        engine,
        [("regress", {"inputs": np.array([record], object)}) for record in (good, bad, good)],
    )

    assert sizes == [3, 1, 1, 1]
    assert [futures[n].result()["outputs"].tolist() for n in (0, 2)] == [[[12.0]], [[12.0]]]
    with pytest.raises(RequestError, match="Could not parse example") as caught:
        futures[1].result()
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_batches_are_filled_up_to_an_allowed_size(engine: Engine) -> None:
    futures, sizes = together(
        engine,
        [(KEY, {"x": floats(1, 2)}), (KEY, {"x": floats(3)})],
        max_batch_size=8,
        allowed_batch_sizes=(4, 8),
    )

    assert sizes == [4]
    assert [future.result()["y"].tolist() for future in futures] == [[2.5, 3.0], [3.5]]


def test_variable_lengths_go_together_if_they_may(engine: Engine) -> None:
    futures, sizes = together(
        engine,
        [(KEY, {"x": floats(1, 2).reshape(1, 2)}), (KEY, {"x": floats(3).reshape(1, 1)})],
        pad_variable_length_inputs=True,
    )

    assert sizes == [2]
    assert [future.result()["y"].tolist() for future in futures] == [[[2.5, 3.0]], [[3.5, 3.5]]]


def test_a_larger_request_than_allowed_is_refused_or_split(engine: Engine) -> None:
    x = np.arange(7, dtype=np.float32)
    with pytest.raises(RequestError) as caught:
        BatchingEngine(engine, BatchingConfig(max_batch_size=6)).run(KEY, {"x": x})
    options: dict[str, Any] = {"enable_large_batch_splitting": True, "max_execution_batch_size": 3}
    held = Held(engine)
    held.go.set()
    y = BatchingEngine(held, BatchingConfig(**options)).run(KEY, {"x": x})["y"]

    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == "Task size 7 is larger than maximum input batch size 6"
    np.testing.assert_array_equal(y, 0.5 * x + 2)
    assert held.sizes == [3, 3, 1]


def test_an_output_that_is_no_batch_is_refused_as_tf_serving_does(engine: Engine) -> None:
    requests = [("total", {"x": floats(1, 2)}), ("total", {"x": floats(3)})]
    futures, sizes = together(engine, requests)

    assert sizes == [2, 1]  # never joined
    for future in futures:
        with pytest.raises(RequestError, match="Batched output tensor has 0 dimensions") as caught:
            future.result()
        assert caught.value.code is Code.FAILED_PRECONDITION


@given(
    requests=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([(), (1,), (2,), (2, 2)])),
        min_size=2,
        max_size=12,
    ),
    padding=st.booleans(),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mixture_of_shapes_gets_the_answers_of_single_requests(
    engine: Engine, requests: list[tuple], padding: bool
) -> None:
    arrays = [
        np.full((size, *shape), number, np.float32) for number, (size, shape) in enumerate(requests)
    ]
    allowed = (1, 2, 4, 8, 64) if padding else ()
    config = BatchingConfig(max_batch_size=64, num_batch_threads=1, allowed_batch_sizes=allowed)
    batching = BatchingEngine(engine, config)
    start = threading.Barrier(len(arrays))

    def ask(array: np.ndarray) -> np.ndarray:
        start.wait(SECONDS)
        return batching.run(KEY, {"x": array})["y"]

    with ThreadPoolExecutor(len(arrays)) as pool:
        answers = list(pool.map(ask, arrays))
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer, 0.5 * array + 2)


def test_a_server_batches_rest_and_grpc_together(
    publish: Callable[..., Path], tmp_path: Path
) -> None:
    publish(tmp_path / "m", 1)
    parameters = tmp_path / "batching.txt"
    # A batch of two never waits; one request alone would wait until the test has failed.
    parameters.write_text(
        f"max_batch_size {{ value: 2 }} batch_timeout_micros {{ value: {SECONDS * 1_000_000} }}"
    )
    config = ServerConfig(
        tmp_path / "m",
        "m",
        port=free_port(),
        rest_api_port=free_port(),
        enable_batching=True,
        batching_parameters_file=parameters,
        enable_model_warmup=False,
    )
    with (
        RunningServer(config) as server,
        GrpcClient(str(server.grpc_address)) as grpc,
        ThreadPoolExecutor(2) as pool,
    ):
        clients = [RestClient("127.0.0.1", config.rest_api_port) for _ in range(2)]

        def ask_grpc(value: float) -> list[float]:
            return list(grpc.predict("m", {"x": floats(value)}).outputs["y"].tolist())

        start = time.monotonic()
        for step in range(4):  # the second time a short request would run in the event loop
            asked = [pool.submit(client.predict, "m", instances=[step]) for client in clients]
            assert [future.result() for future in asked] == [[0.5 * step + 2]] * 2
        mixed = pool.submit(clients[0].predict, "m", instances=[6]), pool.submit(ask_grpc, 8)
        assert [future.result() for future in mixed] == [[5.0], [6.0]]
        assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("batched", [False, True])
def test_rest_learns_from_the_response_that_the_engine_may_block(
    engine: Engine, batched: bool
) -> None:
    class OneModel:
        @contextlib.contextmanager
        def use(self, _request: Any) -> Iterator[Servable]:
            yield Servable("m", 1, BatchingEngine(engine, BatchingConfig()) if batched else engine)

    api = RestApi(OneModel())  # type: ignore[arg-type]
    response = api.respond("POST", "/v1/models/m:predict", b'{"instances": [1]}')

    assert (response.status, response.may_block) == (200, batched)
