"""What is installed beside Privet, found out without importing it."""

import functools
import importlib.util

DEFAULT_GRPC_PORT = 8500


@functools.cache
def has_tensorflow() -> bool:
    """Whether SavedModels can be served, and records of TensorFlow's messages read."""
    return _has("tensorflow")


@functools.cache
def has_grpc() -> bool:
    """Whether the gRPC API can be served: its messages are TensorFlow's."""
    return all(_has(name) for name in ("tensorflow", "tensorflow_serving", "grpc"))


def default_grpc_port() -> int:
    """TF Serving's port; 0, which is none, where the gRPC API cannot be served."""
    return DEFAULT_GRPC_PORT if has_grpc() else 0


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
