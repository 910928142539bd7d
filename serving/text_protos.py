"""TF Serving's configuration messages that no package ships, and reading them from text files.

Their fields are those of TF Serving's own .proto files: config/monitoring_config.proto,
config/ssl_config.proto and servables/tensorflow/session_bundle_config.proto (BatchingParameters).
"""

from pathlib import Path
from typing import Any

from google.protobuf import text_format, wrappers_pb2

from privet.components.shared.errors import ConfigError
from privet.serving.message_classes import message_classes

_PACKAGE = "tensorflow.serving"
_INT64_VALUE, _BOOL_VALUE = "google.protobuf.Int64Value", "google.protobuf.BoolValue"

# Message -> its fields in the order of their numbers: name, type.
_MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "PrometheusConfig": (("enable", "bool"), ("path", "string")),
    "MonitoringConfig": (("prometheus_config", f"{_PACKAGE}.PrometheusConfig"),),
    "SSLConfig": (
        ("server_key", "string"),
        ("server_cert", "string"),
        ("custom_ca", "string"),
        ("client_verify", "bool"),
    ),
    "BatchingParameters": (
        ("max_batch_size", _INT64_VALUE),
        ("batch_timeout_micros", _INT64_VALUE),
        ("max_enqueued_batches", _INT64_VALUE),
        ("num_batch_threads", _INT64_VALUE),
        ("thread_pool_name", "google.protobuf.StringValue"),
        ("allowed_batch_sizes", "repeated int64"),
        ("pad_variable_length_inputs", "bool"),
        ("enable_large_batch_splitting", _BOOL_VALUE),
        ("max_execution_batch_size", _INT64_VALUE),
    ),
}


def read_text(path: Path, message: Any, flag: str) -> Any:
    """Reads a message in protobuf's text format.

    Args:
      path: the file.
      message: an empty message of the wanted type, which is filled and returned.
      flag: the flag that named the file, for errors.

    Raises:
      ConfigError: the file cannot be read, or is no such message.
    """
    kind = message.DESCRIPTOR.name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Wanted a text {kind} in {path}; {getattr(error, 'strerror', None) or error}. "
            f"Check --{flag}."
        ) from error
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigError(
            f"Wanted a text {kind} in {path}; {error}. Its fields are "
            f"{', '.join(field.name for field in message.DESCRIPTOR.fields)}."
        ) from error


def new_message(name: str) -> Any:
    """An empty MonitoringConfig, SSLConfig or BatchingParameters."""
    return _CLASSES[name]()


_CLASSES = message_classes(
    "privet/serving/text_protos.proto",
    _PACKAGE,
    {
        name: tuple((number, *field) for number, field in enumerate(fields, start=1))
        for name, fields in _MESSAGES.items()
    },
    dependencies=(wrappers_pb2.DESCRIPTOR,),
)
