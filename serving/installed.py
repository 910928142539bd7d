"""What is installed beside Privet, found out without importing it."""

import functools
import importlib.util

DEFAULT_GRPC_PORT = 8500


@functools.cache
def has_tensorflow() -> bool:
    """Whether SavedModels can be served."""
    return _has("tensorflow")


@functools.cache
def has_request_protos() -> bool:
    """Whether TF Serving's requests can be read as protos: their tensors are TensorFlow's."""
    return has_tensorflow() and _has("tensorflow_serving")


@functools.cache
def has_grpc() -> bool:
    """Whether the gRPC API can be served."""
    return has_request_protos() and _has("grpc")


def default_grpc_port() -> int:
    """TF Serving's port; 0, which is none, where the gRPC API cannot be served."""
    return DEFAULT_GRPC_PORT if has_grpc() else 0


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
