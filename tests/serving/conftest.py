"""What the serving tests share: small real models, and a server over them on loopback."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _export(path: Path, offset: float) -> None:
    """Saves a model that answers every kind of request; `offset` tells versions apart."""
    import tensorflow as tf

    def spec(dtype: Any, shape: list[int | None], name: str) -> Any:
        return tf.TensorSpec(shape, dtype, name=name)

    class Model(tf.Module):
        def __init__(self) -> None:
            self.scale = tf.Variable(0.5)
            self.offset = tf.Variable(offset)
            self.kernel = tf.Variable([[1.0], [10.0]])

        @tf.function(input_signature=[spec(tf.float32, [None], "x")])
        def half_plus(self, x: Any) -> Any:
            return {"y": self.scale * x + self.offset}

        @tf.function(input_signature=[spec(tf.float32, [None], "a"), spec(tf.float32, [None], "b")])
        def pair(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "product": a * b}

        @tf.function(input_signature=[spec(tf.string, [None], "text")])
        def text(self, text: Any) -> Any:
            return {"copy": tf.identity(text), "copy_bytes": tf.identity(text)}

        @tf.function(input_signature=[spec(tf.float32, [None, 2], "x")])
        def dense(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.kernel)}

        @tf.function(input_signature=[spec(tf.int32, [None], "count")])
        def integers(self, count: Any) -> Any:
            return {"double": 2 * count}

        @tf.function(input_signature=[spec(tf.float32, [None], "x")])
        def total(self, x: Any) -> Any:
            return {"total": tf.reduce_sum(x)}

        def parse(self, inputs: Any) -> Any:
            features = {"x": tf.io.FixedLenFeature([2], tf.float32)}
            return tf.io.parse_example(inputs, features)["x"]

        @tf.function(input_signature=[spec(tf.string, [None], "inputs")])
        def classify(self, inputs: Any) -> Any:
            scores = self.parse(inputs)
            classes = tf.tile([["low", "high"]], [tf.shape(scores)[0], 1])
            return {"classes": classes, "scores": scores}

        @tf.function(input_signature=[spec(tf.string, [None], "inputs")])
        def regress(self, inputs: Any) -> Any:
            return {"outputs": tf.reduce_sum(self.parse(inputs), axis=1, keepdims=True)}

    model = Model()
    names = ("pair", "text", "dense", "integers", "total", "classify", "regress")
    signatures = {"serving_default": model.half_plus, **{n: getattr(model, n) for n in names}}
    tf.saved_model.save(model, str(path), signatures=signatures)


def _export_odd(path: Path) -> None:
    """Saves a model with what a server meets seldom: state, scalars, ragged tensors, any shape."""
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            self.calls = tf.Variable(0.0)
            self.kernel = tf.Variable([[1.0], [10.0]])

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def plus_calls(self, x: Any) -> Any:
            return {"y": x + self.calls}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def count(self, x: Any) -> Any:
            return {"y": x + self.calls.assign_add(1.0)}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
        def dense(self, x: Any) -> Any:
            return {"y": tf.matmul(x, self.kernel)}

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
        def first(self, text: Any) -> Any:
            return {"text": tf.strings.substr(text, 0, 1), "length": tf.strings.length(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def ragged(self, x: Any) -> Any:
            return {"y": tf.RaggedTensor.from_row_lengths(x, [1, 2])}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def branch(self, x: Any) -> Any:
            return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: -self.kernel[:, 0])}

    model = Model()
    names = ("count", "dense", "first", "ragged", "branch")
    signatures = {"serving_default": model.plus_calls, **{n: getattr(model, n) for n in names}}
    tf.saved_model.save(model, str(path), signatures=signatures)


def _convert(path: Path) -> bytes:
    """The default signature as TFLite, under the names that the SavedModel gives it."""
    import tensorflow as tf

    from privet.components.shared.signatures import tflite_signature, with_signature_metadata

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(path), signature_keys=["serving_default"]
    )
    model = converter.convert()
    key = "serving_default"
    return with_signature_metadata(model, {key: tflite_signature(model, key)})


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """Two exports: offset -> directory. Each has a model.tflite too."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    exports = {}
    for offset in (2.0, 3.0):
        exports[offset] = tmp_path_factory.mktemp("export") / "model"
        _export(exports[offset], offset)
        (exports[offset] / "model.tflite").write_bytes(_convert(exports[offset]))
    return exports


@pytest.fixture(scope="session")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with signatures that change it, of scalars, of ragged tensors, of any shape."""
    path = tmp_path_factory.mktemp("odd") / "model"
    _export_odd(path)
    return path


@pytest.fixture(scope="session")
def publish(saved_models: dict[float, Path]) -> Callable[..., Path]:
    """Publishes a version as Privet's pusher does: copy under another name, then rename."""

    def publish_version(
        base_path: Path, version: int, offset: float = 2.0, change: Any = None
    ) -> Path:
        base_path.mkdir(parents=True, exist_ok=True)
        temporary, final = base_path / f".tmp-{version}", base_path / str(version)
        shutil.copytree(saved_models[offset], temporary)
        if change is not None:
            change(temporary)
        temporary.rename(final)
        return final

    return publish_version


@pytest.fixture(scope="module")
def server(
    publish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """A server of model `m`, version 1 (0.5 x + 2), on loopback; one for each test module."""
    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    base_path = tmp_path_factory.mktemp("served")
    publish(base_path, 1)
    config = ServerConfig(
        model_base_path=base_path,
        model_name="m",
        port=free_port(),
        rest_api_port=free_port(),
        file_system_poll_wait_seconds=0.05,
        drain_seconds=5,
    )
    with RunningServer(config) as running:
        yield SimpleNamespace(
            base_path=base_path,
            config=config,
            running=running,
            rest_port=config.rest_api_port,
            grpc_address=running.grpc_address,
        )


class EchoModels:
    """Model `m`, version 7, without TensorFlow: answers its input `x` while `gate` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)  # released by each request that reaches the model
        self.ready = True

    kind = "echo"
    may_block = False
    signature_defs: Mapping[str, Any] = {}

    @property
    def signatures(self) -> Mapping[str, Any]:
        from privet.serving.engine import Signature, TensorSpec

        spec = TensorSpec("x", "float", np.float32, (-1,))
        return {"serving_default": Signature("serving_default", "", {"x": spec}, {"x": spec})}

    def run(self, _name: str, inputs: Mapping[str, Any], _filter: Any = ()) -> dict[str, Any]:
        self.entered.release()
        assert self.gate.wait(20)
        return dict(inputs)

    @contextlib.contextmanager
    def use(self, _request: Any) -> Iterator[Any]:
        from privet.serving.versions import Servable

        yield Servable("m", 7, self)  # type: ignore[arg-type]

    def is_ready(self) -> bool:
        return self.ready


@pytest.fixture
def start_rest() -> Iterator[Callable[..., SimpleNamespace]]:
    """Starts the REST server alone, over `EchoModels`; its arguments are ServerConfig's."""
    from privet.serving.config import ServerConfig
    from privet.serving.metrics import Metrics
    from privet.serving.ports import claim_port
    from privet.serving.rest_server import RestServer

    with contextlib.ExitStack() as stack:

        def start(
            *, token: bytes | None = None, tls: Any = None, pages: Any = None, **settings: Any
        ) -> SimpleNamespace:
            models = EchoModels()
            listener = stack.enter_context(claim_port("127.0.0.1", 0, "--rest_api_port"))
            config = ServerConfig(Path("unused"), **{"drain_seconds": 5, **settings})
            rest = RestServer(
                models,  # type: ignore[arg-type]
                listener,
                config,
                pages=pages or {},
                open_pages={},
                metrics=Metrics(is_read=False),
                token=token,
                tls=tls,
            )
            port = listener.getsockname()[1]
            stack.callback(rest.join)
            stack.callback(rest.ask_to_stop)
            stack.callback(models.gate.set)
            return SimpleNamespace(models=models, rest=rest, rest_port=port)

        yield start


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


def make_identity(name: str) -> Identity:
    """A certificate for 127.0.0.1 that is its own authority."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Identity(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


@pytest.fixture(scope="session")
def identities() -> SimpleNamespace:
    """The certificates of a server, of a client and of someone else."""
    return SimpleNamespace(**{name: make_identity(name) for name in ("server", "client", "other")})


@pytest.fixture
def start_grpc() -> Iterator[Callable[..., SimpleNamespace]]:
    """Starts the gRPC server alone, over `EchoModels`; its arguments are ServerConfig's."""
    from privet.serving.config import ServerConfig
    from privet.serving.grpc_server import GrpcServer
    from privet.serving.grpc_service import GrpcApi
    from privet.serving.metrics import Metrics
    from privet.serving.ports import free_port

    with contextlib.ExitStack() as stack:

        def start(*, token: bytes | None = None, tls: Any = None, **settings: Any) -> Any:
            models: Any = EchoModels()
            config = ServerConfig(Path("unused"), port=free_port(), **settings)
            api = GrpcApi(models, Metrics())
            server = GrpcServer(api, config, is_ready=models.is_ready, token=token, tls=tls)
            stack.callback(server.join)
            stack.callback(server.ask_to_stop, 5)
            stack.callback(models.gate.set)
            return SimpleNamespace(models=models, server=server, address=f"127.0.0.1:{config.port}")

        yield start


@pytest.fixture(scope="session")
def stubs_of() -> Callable[[str], contextlib.AbstractContextManager[SimpleNamespace]]:
    """Opens a channel to an address, with the stubs of both services."""

    @contextlib.contextmanager
    def open_stubs(address: str) -> Iterator[SimpleNamespace]:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        with grpc.insecure_channel(address) as channel:
            yield SimpleNamespace(
                prediction=prediction_service_pb2_grpc.PredictionServiceStub(channel),
                model=model_service_pb2_grpc.ModelServiceStub(channel),
            )

    return open_stubs


@pytest.fixture(scope="module")
def stubs(server: SimpleNamespace, stubs_of: Callable[..., Any]) -> Iterator[SimpleNamespace]:
    """The stubs of `server`, which has every signature."""
    with stubs_of(server.grpc_address) as made:
        yield made


@pytest.fixture(scope="module")
def tflite_server(
    publish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """The same model served by TFLite, which has its default signature alone."""
    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    base_path = tmp_path_factory.mktemp("tflite")
    publish(base_path, 1)
    config = ServerConfig(
        base_path, "m", port=free_port(), rest_api_port=free_port(), prefer_tflite_model=True
    )
    with RunningServer(config) as running:
        yield SimpleNamespace(rest_port=config.rest_api_port, grpc_address=running.grpc_address)


@pytest.fixture(scope="module", params=["server", "tflite_server"])
def engine(
    request: pytest.FixtureRequest, stubs_of: Callable[..., Any]
) -> Iterator[SimpleNamespace]:
    """The stubs of a server of each engine."""
    with stubs_of(request.getfixturevalue(request.param).grpc_address) as made:
        yield made
