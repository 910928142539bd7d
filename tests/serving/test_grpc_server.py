"""What stands around the gRPC API: TLS, token, health, limits, deadlines, drain."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from privet.components.shared.errors import ServingError
from privet.serving import tensors
from privet.serving.ports import free_port
from privet.serving.running import knows_clients
from privet.serving.status import Code, RequestError, WouldBlockError
from privet.serving.tls import TlsConfig

Start = Callable[..., SimpleNamespace]
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def request(*values: float) -> bytes:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    made = PredictRequest()
    made.model_spec.name = "m"
    tensors.pack_proto(made.inputs["x"], np.array(values, np.float32))
    return made.SerializeToString()


def answer(content: bytes) -> list[float]:
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    values: list[float] = list(PredictResponse.FromString(content).outputs["x"].float_val)
    return values


def error_of(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def wait_for_calls(server: SimpleNamespace, number: int) -> None:
    """Waits until so many calls are under way."""
    deadline = time.monotonic() + 20
    while server.server.under_way != number:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def predicting(address: str, credentials: Any = None) -> Iterator[Any]:
    """A function that sends serialized Predict requests."""
    with (
        grpc.insecure_channel(address)
        if credentials is None
        else grpc.secure_channel(address, credentials)
    ) as channel:
        yield channel.unary_unary(PREDICT)


def test_short_and_long_requests_get_their_own_answers(start_grpc: Start) -> None:
    server = start_grpc()
    with predicting(server.address) as predict:
        # The first of a kind runs in the pool, the next in the event loop, a large one in the pool.
        for values in ((1.0, 2.0), (3.0,), tuple(map(float, range(100_000)))):
            assert answer(predict(request(*values), timeout=20)) == list(values)


def test_a_request_that_is_none_is_internal_as_in_cpp(start_grpc: Start) -> None:
    with predicting(start_grpc().address) as predict:
        code, message = error_of(lambda: predict(b"\xff", timeout=20))

    assert code == "INTERNAL"
    assert "Wanted a tensorflow.serving.PredictRequest; the 1 bytes" in message


def test_unknown_methods_are_unimplemented(start_grpc: Start) -> None:
    with grpc.insecure_channel(start_grpc().address) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Nothing")
        assert error_of(lambda: call(b"", timeout=20))[0] == "UNIMPLEMENTED"


def test_requests_above_the_limit_are_told_to_come_back(start_grpc: Start) -> None:
    server = start_grpc(max_concurrent_requests=1)
    server.models.gate.clear()
    with predicting(server.address) as predict:
        first = predict.future(request(1), timeout=20)
        assert server.models.entered.acquire(timeout=20)
        code, message = error_of(lambda: predict(request(2), timeout=20))
        server.models.gate.set()

        assert code == "UNAVAILABLE"
        assert "--max_concurrent_requests" in message
        assert answer(first.result()) == [1.0]
        assert answer(predict(request(3), timeout=20)) == [3.0]


def test_a_call_that_nobody_waits_for_any_more_never_runs(start_grpc: Start) -> None:
    server = start_grpc(grpc_max_threads=1)
    server.models.gate.clear()
    with predicting(server.address) as predict:
        first = predict.future(request(1), timeout=20)
        assert server.models.entered.acquire(timeout=20)
        # The only thread is taken: these two wait for it, until one is late and one is cancelled.
        assert error_of(lambda: predict(request(2), timeout=0.1))[0] == "DEADLINE_EXCEEDED"
        wait_for_calls(server, 1)
        cancelled = predict.future(request(3), timeout=20)
        wait_for_calls(server, 2)
        cancelled.cancel()
        wait_for_calls(server, 1)
        server.models.gate.set()

        assert answer(first.result()) == [1.0]
        assert answer(predict(request(4), timeout=20)) == [4.0]
    assert server.models.entered.acquire(timeout=20)  # request 4
    assert not server.models.entered.acquire(blocking=False)


def test_token_is_wanted_of_all_but_health_checks(start_grpc: Start) -> None:
    server = start_grpc(token=b"secret")
    with predicting(server.address) as predict:

        def call(*metadata: tuple[str, str]) -> bytes:
            content: bytes = predict(request(1), timeout=20, metadata=metadata)
            return content

        assert answer(call(("authorization", "Bearer secret"))) == [1.0]
        for metadata in ((), (("authorization", "Bearer other"),), (("authorization", "secret"),)):
            code, message = error_of(lambda metadata=metadata: call(*metadata))
            assert code == "UNAUTHENTICATED"
            assert "authorization: Bearer" in message
    assert check(server.address) == "SERVING"


def test_tls(start_grpc: Start, identities: SimpleNamespace) -> None:
    server = start_grpc(
        tls=TlsConfig(identities.server.key.encode(), identities.server.certificate.encode())
    )
    trusting, doubting = (
        grpc.ssl_channel_credentials(identity.certificate.encode())
        for identity in (identities.server, identities.other)
    )
    with predicting(server.address, trusting) as predict:
        assert answer(predict(request(1), timeout=20)) == [1.0]
    with predicting(server.address, doubting) as predict:
        assert error_of(lambda: predict(request(1), timeout=20))[0] == "UNAVAILABLE"
    with predicting(server.address) as predict:  # without TLS
        assert error_of(lambda: predict(request(1), timeout=20))[0] == "UNAVAILABLE"


def test_tls_with_client_verify_wants_a_known_client(
    start_grpc: Start, identities: SimpleNamespace
) -> None:
    server = start_grpc(
        tls=TlsConfig(
            identities.server.key.encode(),
            identities.server.certificate.encode(),
            identities.client.certificate.encode(),
            client_verify=True,
        )
    )

    def code(identity: Any) -> str:
        shown = (identity.key.encode(), identity.certificate.encode()) if identity else ()
        credentials = grpc.ssl_channel_credentials(identities.server.certificate.encode(), *shown)
        with predicting(server.address, credentials) as predict:
            try:
                return str(answer(predict(request(1), timeout=20)))
            except grpc.RpcError as error:
                return str(error.code().name)

    assert code(identities.client) == "[1.0]"
    assert code(identities.other) == "UNAVAILABLE"
    assert code(None) == "UNAVAILABLE"


def check(address: str, service: str = "") -> str:
    """What a health check answers."""
    with grpc.insecure_channel(address) as channel:
        response = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=20
        )
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def test_health_follows_readiness(start_grpc: Start) -> None:
    server = start_grpc()
    for service in ("", "tensorflow.serving.PredictionService", "PredictionService"):
        assert check(server.address, service) == "SERVING"
    server.models.ready = False
    assert check(server.address, "tensorflow.serving.ModelService") == "NOT_SERVING"
    assert error_of(lambda: check(server.address, "other"))[0] == "NOT_FOUND"


def test_health_is_off_on_request(start_grpc: Start) -> None:
    server = start_grpc(enable_grpc_healthcheck_service=False)
    assert error_of(lambda: check(server.address))[0] == "UNIMPLEMENTED"


def test_drain_tells_watchers_and_answers_what_is_under_way(start_grpc: Start) -> None:
    server = start_grpc()
    server.models.gate.clear()
    with (
        predicting(server.address) as predict,
        grpc.insecure_channel(server.address) as channel,
    ):
        watching = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=20
        )
        states = health_pb2.HealthCheckResponse
        assert next(watching).status == states.SERVING
        under_way = predict.future(request(1), timeout=20)
        assert server.models.entered.acquire(timeout=20)
        server.server.ask_to_stop(20)

        assert [response.status for response in watching] == [states.NOT_SERVING]
        server.models.gate.set()
        assert answer(under_way.result()) == [1.0]
        server.server.join()
        assert not server.server.is_alive()
        assert error_of(lambda: predict(request(2), timeout=20))[0] == "UNAVAILABLE"


def test_calls_longer_than_the_drain_are_ended(start_grpc: Start) -> None:
    server = start_grpc()
    server.models.gate.clear()
    with predicting(server.address) as predict:
        under_way = predict.future(request(1), timeout=20)
        assert server.models.entered.acquire(timeout=20)
        server.server.ask_to_stop(0)

        assert error_of(under_way.result)[0] in ("UNAVAILABLE", "CANCELLED")


def test_a_port_in_use_is_said(start_grpc: Start) -> None:
    from privet.serving.config import ServerConfig
    from privet.serving.grpc_server import GrpcServer
    from privet.serving.grpc_service import GrpcApi
    from privet.serving.metrics import Metrics

    taken = start_grpc()
    config = ServerConfig(
        model_base_path="unused",  # type: ignore[arg-type]
        port=int(taken.address.rpartition(":")[2]),
        rest_api_port=free_port(),
    )
    threads = threading.active_count()
    with pytest.raises(ServingError, match=r"the port cannot be bound\. .* --port"):
        GrpcServer(GrpcApi(taken.models, Metrics()), config, is_ready=lambda: True)
    assert threading.active_count() == threads


def test_no_message_is_read_before_the_token(start_grpc: Start) -> None:
    server = start_grpc(token=b"secret")
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(20)
        yield b""

    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_unary(PREDICT)
        code, _ = error_of(lambda: call(nothing(), timeout=5))
        never.set()

    assert code == "UNAUTHENTICATED"


def test_only_what_is_short_and_waits_for_nobody_runs_in_the_event_loop(start_grpc: Start) -> None:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    server = start_grpc()
    run, threads, busy = server.models.run, [], False

    def run_and_note(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        if busy and threads[-1] == "grpc":
            raise WouldBlockError("busy")
        return run(*arguments)

    server.models.run = run_and_note
    large = PredictRequest.FromString(request(1))  # a hundred bytes that ask for 400,000
    large.inputs["x"].Clear()
    large.inputs["x"].MergeFrom(fill_request(100_000))
    with predicting(server.address) as predict:
        predict(request(1), timeout=20)
        predict(request(1), timeout=20)
        predict(large.SerializeToString(), timeout=20)
        assert threads[1] == "grpc"
        assert threads[2] != "grpc"
        predict(request(1), timeout=20)
        predict(request(1), timeout=20)
        busy = True
        assert answer(predict(request(2), timeout=20)) == [2.0]
        assert threads[-2] == "grpc"
        assert threads[-1] != "grpc"


def fill_request(size: int) -> Any:
    """A tensor of zeros that carries none of them."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    proto = TensorProto(dtype=1)
    proto.tensor_shape.dim.add(size=size)
    return proto


def test_models_are_changed_only_by_clients_that_are_known() -> None:
    from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

    from privet.serving.grpc_service import MODEL_SERVICE, GrpcApi
    from privet.serving.metrics import Metrics
    from privet.serving.models import Models

    changed: list[str] = []
    models: Any = Models(lambda config: changed.append(config.name))  # type: ignore[func-returns-value, arg-type]
    api = GrpcApi(models, Metrics(), may_reload=False)
    wanted = ReloadConfigRequest()
    wanted.config.model_config_list.config.add(name="m", base_path="/")
    reload = next(m for m in api.services[MODEL_SERVICE] if m.name.startswith("HandleReload"))

    with pytest.raises(RequestError, match="--auth_token_file") as caught:
        api.respond(reload, wanted)

    assert caught.value.code is Code.PERMISSION_DENIED
    assert changed == []


@pytest.mark.parametrize(
    ("host", "token", "client_verify", "known"),
    [
        ("127.0.0.1", None, False, True),
        ("localhost", None, False, True),
        ("::1", None, False, True),
        ("0.0.0.0", None, False, False),
        ("server.example", None, False, False),
        ("0.0.0.0", b"secret", False, True),
        ("0.0.0.0", None, True, True),
    ],
)
def test_clients_are_known_by_token_certificate_or_place(
    host: str, token: bytes | None, client_verify: bool, known: bool
) -> None:
    tls = TlsConfig(b"", b"", client_verify=client_verify)

    assert knows_clients(host, token, tls) is known
