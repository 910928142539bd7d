"""The flags of `privet serve` as one checked value: each option is written here alone."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from privet.components.shared.errors import ConfigError
from privet.serving.installed import default_grpc_port, has_grpc

_MIB = 1024 * 1024


def _flag(default: Any, help_text: str) -> Any:
    """A field, with the text that `privet serve --help` shows."""
    metadata = {"help": help_text}
    if callable(default):  # it depends on what is installed
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """What to serve, where, and within which limits; a field for each flag, of the same name.

    The names are tensorflow_model_server's own where it has such a flag.

    Raises:
      ConfigError: a value, or two together, cannot be.
    """

    model_base_path: Path | None = _flag(
        None, "directory that holds one directory for each version, named by a number"
    )
    model_name: str = _flag("default", "the model's name in requests")
    model_config_file: Path | None = _flag(
        None, "text ModelServerConfig of several models; in place of the two flags above"
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0.0, "seconds between two looks at the model config file; 0 looks once"
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "accept labels of versions that are not loaded; they resolve once they are"
    )
    host: str = _flag(
        "127.0.0.1", "address to listen on, for both APIs; 0.0.0.0 for all of this machine's"
    )
    port: int = _flag(default_grpc_port, "port of the gRPC API; 0 for none, as without TensorFlow")
    rest_api_port: int = _flag(8501, "port of the REST API; 0 for none")
    prefer_tflite_model: bool = _flag(False, "serve model.tflite where a version has one")
    num_tflite_pools: int = _flag(
        os.cpu_count() or 1, "how many calls of one TFLite model may run at once"
    )
    enable_model_warmup: bool = _flag(
        True, "run the warm-up requests of a version, or made-up ones, before it serves"
    )
    enable_batching: bool = _flag(False, "run requests that wait at the same time as one batch")
    batching_parameters_file: Path | None = _flag(
        None, "text BatchingParameters; needs --enable_batching"
    )
    enable_per_model_batching_parameters: bool = _flag(
        False, "read batching_params.pbtxt in a version's directory; needs --enable_batching"
    )
    file_system_poll_wait_seconds: float = _flag(
        1.0, "seconds between two looks for new versions; 0 looks once"
    )
    max_num_load_retries: int = _flag(5, "how often to try again a version that did not load")
    load_retry_interval_micros: int = _flag(60_000_000, "microseconds between two such tries")
    monitoring_config_file: Path | None = _flag(
        None, "text MonitoringConfig; enables Prometheus metrics"
    )
    ssl_config_file: Path | None = _flag(None, "text SSLConfig; both APIs then speak TLS only")
    auth_token_file: Path | None = _flag(
        None, "file with a token that every request must bear (Authorization: Bearer ...)"
    )
    rest_api_enable_cors_support: bool = _flag(False, "send CORS headers, to any origin")
    rest_api_timeout_in_ms: int = _flag(30_000, "how long a REST request may take")
    rest_api_num_threads: int = _flag(
        4 * (os.cpu_count() or 1), "how many REST requests may run at once"
    )
    grpc_max_threads: int = _flag(
        4 * (os.cpu_count() or 1), "how many gRPC requests may run at once"
    )
    enable_grpc_healthcheck_service: bool = _flag(True, "serve grpc.health.v1 too")
    max_body_bytes: int = _flag(
        32 * _MIB, "the longest REST request body, before and after decompression"
    )
    max_concurrent_requests: int = _flag(
        1024, "how many requests of one API may be under way; more are told to come back"
    )
    header_timeout_seconds: float = _flag(
        10.0, "how long a client may take to send the head of a request"
    )
    access_log: bool = _flag(False, "log a line for each request, without its body")
    drain_seconds: float = _flag(30.0, "how long requests under way may take when the server stops")

    def __post_init__(self) -> None:
        _check_models(self)
        for name in ("port", "rest_api_port"):
            value = getattr(self, name)
            if not 0 <= value <= 65535:
                raise ConfigError(
                    f"{name}={value} is no port. Wanted 0 (off) to 65535; change --{name}."
                )
        if self.port and not has_grpc():
            raise ConfigError(
                f"port={self.port} asks for the gRPC API, which takes TensorFlow, grpcio and "
                "tensorflow-serving-api; this install has not all of them. Add --port=0 to serve "
                "REST alone, or install all of Privet (docs/install.md)."
            )
        if self.port == self.rest_api_port:
            raise ConfigError(
                f"port={self.port} equals rest_api_port={self.rest_api_port}. "
                + ("Both APIs are off; give one a port." if not self.port else "Change one.")
            )
        for name in (
            "num_tflite_pools",
            "rest_api_timeout_in_ms",
            "rest_api_num_threads",
            "grpc_max_threads",
            "max_body_bytes",
            "max_concurrent_requests",
            "header_timeout_seconds",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be above 0.")
        for name in (
            "model_config_file_poll_wait_seconds",
            "file_system_poll_wait_seconds",
            "max_num_load_retries",
            "load_retry_interval_micros",
            "drain_seconds",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or above.")
        for name in ("batching_parameters_file", "enable_per_model_batching_parameters"):
            if getattr(self, name) and not self.enable_batching:
                raise ConfigError(
                    f"{name}={getattr(self, name)} has no effect without batching. Add "
                    f"--enable_batching, or leave --{name} out."
                )


def _check_models(config: ServerConfig) -> None:
    """Refuses anything but one way to say which models are served."""
    if (config.model_base_path is None) == (config.model_config_file is None):
        raise ConfigError(
            f"model_base_path={config.model_base_path} and "
            f"model_config_file={config.model_config_file}: wanted one of them. Give "
            "--model_base_path for one model, --model_config_file for several."
        )
    if not config.model_name or "/" in config.model_name or ":" in config.model_name:
        raise ConfigError(
            f"model_name={config.model_name!r} cannot be part of a URL path. Wanted a name "
            "without '/' and ':'; change --model_name."
        )
